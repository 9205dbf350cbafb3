//! The help of the commands: `-h` is one screen with examples, and `--help` has every flag with its default and its
//! environment variable.

use std::ffi::OsString;

use clap::CommandFactory;

use super::{Cli, completion};
use crate::settings::{CommandName, with_scope};

/// What `-h` shows of a command.
struct ShortHelp {
    command: &'static str,
    /// The flags that most people need.
    flags: &'static [&'static str],
    examples: [&'static str; 3],
}

/// What `-h` shows, by command.
const SHORT: [ShortHelp; 9] = [
    ShortHelp {
        command: "init",
        flags: &["cloud", "base_url", "client_id", "yes", "force"],
        examples: [
            "sigma-bulk init",
            "sigma-bulk init --profile emea --cloud aws-eu",
            "sigma-bulk init --yes --cloud gcp --client-secret-file secret.txt",
        ],
    },
    ShortHelp {
        command: "check",
        flags: &["cloud", "base_url", "map", "ignore_column", "json"],
        examples: [
            "sigma-bulk check",
            "sigma-bulk check members.csv",
            "sigma-bulk check --cloud aws-eu --json",
        ],
    },
    ShortHelp {
        command: "export",
        flags: &["types", "archived", "domains", "excel", "template"],
        examples: [
            "sigma-bulk export members.csv",
            "sigma-bulk export --type Viewer --domain old.com viewers.csv",
            "sigma-bulk export --not-updated-since 180d --excel dormant.csv",
        ],
    },
    ShortHelp {
        command: "update",
        flags: &[
            "cloud",
            "dry_run",
            "yes",
            "save_plan",
            "strict",
            "max_failures",
            "json",
        ],
        examples: [
            "sigma-bulk update members.csv --dry-run",
            "sigma-bulk update members.csv --cloud aws",
            "sigma-bulk update members.csv --yes --max-failures 5%",
        ],
    },
    ShortHelp {
        command: "resume",
        flags: &["only_failed", "concurrency", "deadline", "json"],
        examples: [
            "sigma-bulk resume latest",
            "sigma-bulk resume runs/spring",
            "sigma-bulk resume --only-failed runs/spring",
        ],
    },
    ShortHelp {
        command: "undo",
        flags: &["dry_run", "yes", "run_dir", "json"],
        examples: [
            "sigma-bulk undo latest --dry-run",
            "sigma-bulk undo runs/spring",
            "sigma-bulk undo runs/spring --yes --canary 5",
        ],
    },
    ShortHelp {
        command: "apply",
        flags: &["dry_run", "yes", "run_dir", "canary", "json"],
        examples: [
            "sigma-bulk update members.csv --dry-run --save-plan spring.plan",
            "sigma-bulk apply spring.plan",
            "sigma-bulk apply spring.plan --canary 5 --yes",
        ],
    },
    ShortHelp {
        command: "runs",
        flags: &["json"],
        examples: [
            "sigma-bulk runs",
            "sigma-bulk runs /srv/migrations/runs",
            "sigma-bulk runs --json",
        ],
    },
    ShortHelp {
        command: "report",
        flags: &["format", "output"],
        examples: [
            "sigma-bulk report latest",
            "sigma-bulk report runs/spring --format html --output spring.html",
            "sigma-bulk report spring.plan --format markdown",
        ],
    },
];

/// The commands that `-h` does not list.
const REST: [&str; 3] = ["help", "completions", "man"];

/// Returns clap's definition of the command line, in which each command lists the flags that it takes.
pub(crate) fn command() -> clap::Command {
    let command = CommandName::ALL
        .into_iter()
        .fold(Cli::command(), |command, name| {
            command.mut_subcommand(name.name(), |sub| with_scope(sub, name))
        });
    let command = SHORT.iter().fold(command, |command, short| {
        command.mut_subcommand(short.command, |sub| {
            sub.after_help(examples(
                short.examples,
                &format!("sigma-bulk {} --help", short.command),
            ))
        })
    });
    completion::with_candidates(command)
        .version(env!("VERSION_WITH_COMMIT"))
        .after_help(examples(
            [
                "sigma-bulk init",
                "sigma-bulk export members.csv",
                "sigma-bulk update members.csv --dry-run",
            ],
            "sigma-bulk --help, and sigma-bulk guide",
        ))
}

/// Returns the definition for a command line: `-h` shows only what most people need.
pub(super) fn command_for(words: &[OsString]) -> clap::Command {
    let is_short = (words.iter().take_while(|word| *word != "--")).any(|word| word == "-h");
    let command = command();
    if !is_short {
        return command;
    }
    let command = REST.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| sub.hide(true))
    });
    let command = command.mut_args(|arg| arg.hide_short_help(true));
    let command = command.help_template(
        "{about}\n\n{usage-heading} {usage}\n\nCommands:\n{subcommands}{after-help}",
    );
    SHORT.iter().fold(command, |command, short| {
        command.mut_subcommand(short.command, |sub| {
            sub.mut_args(|arg| {
                if arg.is_positional() {
                    return arg;
                }
                let is_shown = short.flags.contains(&arg.get_id().as_str());
                arg.help_heading(None).hide_short_help(!is_shown)
            })
        })
    })
}

/// Returns the full help of a command.
pub(crate) fn help_of(name: &str) -> Option<String> {
    let mut command = command();
    command.build();
    let sub = command.find_subcommand_mut(name)?;
    Some(sub.render_long_help().to_string())
}

fn examples(examples: [&str; 3], more: &str) -> String {
    format!("Examples:\n  {}\n\nMore: {more}", examples.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-h` of every command fits a screen of 24 lines and 80 columns.
    #[test]
    fn short_help_fits_one_screen() {
        let short = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let command = command_for(&words).term_width(80);
            let error = command.try_get_matches_from(words).expect_err("it is help");
            error.to_string()
        };
        let mut all = vec![short(&["sigma-bulk", "-h"])];
        all.extend(
            SHORT
                .iter()
                .map(|help| short(&["sigma-bulk", help.command, "-h"])),
        );
        for text in all {
            assert!(text.lines().count() <= 24, "{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
            assert_eq!(text.matches("\n  sigma-bulk ").count(), 3, "{text}");
        }
    }

    /// A flag that is renamed or removed must not stay in the short help.
    #[test]
    fn short_help_names_flags_that_exist() {
        let command = command();
        for help in &SHORT {
            let sub = command.find_subcommand(help.command).expect("a command");
            for flag in help.flags {
                let arg = sub.get_arguments().find(|arg| arg.get_id() == flag);
                assert!(
                    arg.is_some_and(|arg| !arg.is_hide_set()),
                    "{} {flag}",
                    help.command
                );
            }
        }
    }

    #[test]
    fn long_help_shows_defaults_and_variables() {
        let help = help_of("update").expect("a command");
        assert!(
            help.contains("[default: 32] [env: SIGMA_BULK_CONCURRENCY]"),
            "{help}"
        );
        assert!(help.contains("[env: SIGMA_BULK_DEADLINE]"), "{help}");
    }
}
