//! The command line, as it is written. Only the completion of values reads files. The defaults are in [`crate::settings`].

mod completion;
mod help;
mod sample_script;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::env::Shells;

pub(crate) use completion::VARIABLE as COMPLETION_VARIABLE;
pub(crate) use help::{command, help_of};

use crate::guide::Topic;
use crate::sandbox::SandboxArgs;
use crate::settings::{CommandName, Layer};

/// Change thousands of Sigma members from a CSV
#[derive(Debug, Parser)]
#[command(
    name = "sigma-bulk",
    version,
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The configuration file [env: `SIGMA_BULK_CONFIG`]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The profile of the configuration file [env: `SIGMA_BULK_PROFILE`]
    #[arg(long, value_name = "NAME", global = true)]
    pub profile: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a configuration by asking, and try it
    #[command(args_override_self = true)]
    Init {
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Say who the credentials are, what is wrong, and what a CSV would do
    #[command(args_override_self = true)]
    Check {
        /// The CSV; - is standard input
        #[arg(value_name = "CSV", conflicts_with = "csv")]
        file: Option<PathBuf>,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Write the members as a CSV that update reads
    #[command(args_override_self = true)]
    Export {
        /// The file; without it, and with -, standard output
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Which members, and how
        #[command(flatten)]
        options: ExportArgs,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Change members as a CSV says
    #[command(args_override_self = true)]
    Update {
        /// The CSV; - is standard input
        #[arg(value_name = "CSV", conflicts_with = "csv")]
        file: Option<PathBuf>,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Continue a run that stopped before its last row
    #[command(args_override_self = true)]
    Resume {
        /// The run directory, or latest
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
        /// Try failed and unknown rows again
        #[arg(long)]
        only_failed: bool,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Restore what a run changed
    #[command(args_override_self = true)]
    Undo {
        /// The run directory, or latest
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Make exactly the changes that a dry run saved with --save-plan
    #[command(args_override_self = true)]
    Apply {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// List the runs, newest first
    #[command(args_override_self = true)]
    Runs {
        /// The directory of the run directories
        #[arg(value_name = "DIR", default_value = "runs")]
        dir: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Show a run, a dry run or a saved plan
    #[command(args_override_self = true)]
    Report {
        /// The run directory, latest, or a saved plan
        #[arg(value_name = "RUN_DIR|PLAN")]
        path: PathBuf,
        /// The form
        #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
        format: ReportFormat,
        /// Write the report to a file instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Show the longer documentation
    Guide {
        /// The topic; without it, all topics are listed
        #[arg(value_name = "TOPIC", value_enum)]
        topic: Option<Topic>,
    },
    /// Show the help of a command, or a topic of the guide
    Help {
        /// The command or the topic
        #[arg(value_name = "COMMAND|TOPIC")]
        what: Option<String>,
    },
    /// Print the completions of a shell: bash, zsh, fish, powershell or elvish
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_parser = clap::builder::PossibleValuesParser::new(shells()))]
        shell: String,
    },
    /// Write man pages into a directory
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Serve a simulated API on this machine, to try things on
    Sandbox(SandboxArgs),
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// What the run itself prints
    Text,
    /// One JSON document
    Json,
    /// A comment for a pull request
    Markdown,
    /// One page that opens offline
    Html,
    /// For CI systems
    Junit,
}

/// Which members an export writes, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which members")]
pub(crate) struct ExportArgs {
    /// Only members of this account type (repeatable)
    #[arg(long = "type", value_name = "NAME")]
    pub types: Vec<String>,
    /// Only members of this kind: internal, guest or embed
    #[arg(long, value_name = "KIND", value_parser = ["internal", "guest", "embed"], ignore_case = true, hide_possible_values = true)]
    pub kind: Option<String>,
    /// Only archived members; with =false, only others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub archived: Option<bool>,
    /// Only inactive members; with =false, only others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub inactive: Option<bool>,
    /// Only members whose email is of this domain (repeatable)
    #[arg(long = "domain", value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// Only members not updated since a date (2026-03-31) or for a time (90d)
    #[arg(long, value_name = "DATE|TIME", value_parser = crate::clock::past)]
    pub not_updated_since: Option<jiff::Timestamp>,
    /// Write a file that Excel opens right by a double click
    #[arg(long, help_heading = "The file")]
    pub excel: bool,
    /// Write the header and one example row, and send nothing
    #[arg(long, help_heading = "The file")]
    pub template: bool,
}

fn shells() -> Vec<&'static str> {
    Shells::builtins().names().collect()
}

impl Command {
    /// Returns the settings that the flags give, and the command's name among those that take settings.
    pub(crate) fn layer(&self) -> Option<(CommandName, Layer)> {
        let (name, layer) = match self {
            Self::Update { file, layer } | Self::Check { file, layer } => {
                let mut layer = layer.clone();
                layer.csv = file.clone().or(layer.csv);
                let name = match self {
                    Self::Check { .. } => CommandName::Check,
                    _ => CommandName::Update,
                };
                return Some((name, layer));
            }
            Self::Init { layer } => (CommandName::Init, layer),
            Self::Export { layer, .. } => (CommandName::Export, layer),
            Self::Resume { layer, .. } => (CommandName::Resume, layer),
            Self::Undo { layer, .. } => (CommandName::Undo, layer),
            Self::Apply { layer, .. } => (CommandName::Apply, layer),
            Self::Runs { layer, .. } => (CommandName::Runs, layer),
            Self::Report { layer, .. } => (CommandName::Report, layer),
            Self::Guide { .. }
            | Self::Help { .. }
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Sandbox(_) => return None,
        };
        Some((name, layer.clone()))
    }

    /// Returns the words that follow the command's name on a command line and are no settings.
    pub(crate) fn words(&self) -> Vec<String> {
        let path = |path: &PathBuf| vec![path.display().to_string()];
        match self {
            Self::Update { file, layer } => file
                .as_ref()
                .or(layer.csv.as_ref())
                .map_or_else(Vec::new, path),
            Self::Resume {
                dir, only_failed, ..
            } => {
                let mut words = path(dir);
                words.extend(only_failed.then(|| "--only-failed".to_owned()));
                words
            }
            Self::Undo { dir, .. } => path(dir),
            Self::Apply { plan, .. } => path(plan),
            _ => Vec::new(),
        }
    }
}

impl Cli {
    /// Parses a command line, the program's name first.
    ///
    /// # Errors
    /// If it is wrong, or asks for help or the version: clap's error prints either.
    pub(crate) fn parse_from_words(
        args: impl IntoIterator<Item = OsString>,
    ) -> clap::error::Result<Self> {
        let words = sample_script::normalize(args);
        let matches = help::command_for(&words).try_get_matches_from(words)?;
        Self::from_arg_matches(&matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigma::hosts::Environment;

    fn parse(line: &str) -> clap::error::Result<Cli> {
        Cli::parse_from_words(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_sample_scripts_command_line_works() {
        let line = "sigma-bulk update --client_id 123 --client_secret abc --csv ./f.csv --env prod --cloud gcp --abort_on_update_fail enable";
        let cli = parse(line).expect("it parses");
        let (_, layer) = cli.command.layer().expect("it has settings");
        assert_eq!(layer.client_id.as_deref(), Some("123"));
        assert_eq!(layer.abort_on_update_fail, Some(true));
        assert_eq!(layer.env, Some(Environment::Production));
        assert_eq!(layer.csv, Some(PathBuf::from("./f.csv")));
    }

    #[test]
    fn help_lists_only_the_flags_that_a_command_takes() {
        use CommandName::{Apply, Check, Export, Init, Resume, Undo, Update};
        let lists = |name: CommandName, flag: &str| {
            let help = help_of(name.name()).expect("a command");
            help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}["))
        };
        let cases: [(&str, &[CommandName]); 5] = [
            ("csv", &[Update]),
            ("dry-run", &[Update, Undo, Apply]),
            ("rate", &[Init, Check, Export, Update, Resume, Undo, Apply]),
            ("map", &[Check, Update]),
            ("json", &CommandName::ALL),
        ];
        for (flag, expected) in cases {
            let listed: Vec<_> = (CommandName::ALL.into_iter())
                .filter(|name| lists(*name, flag))
                .collect();
            assert_eq!(listed, expected, "{flag}");
        }
    }

    #[test]
    fn a_switch_takes_a_value_only_behind_an_equals_sign() {
        let dry_run = |line: &str| {
            let cli = parse(line).expect("it parses");
            cli.command.layer().and_then(|(_, layer)| layer.dry_run)
        };
        assert_eq!(dry_run("x update f.csv -n"), Some(true));
        assert_eq!(dry_run("x update -n f.csv"), Some(true));
        assert_eq!(dry_run("x update f.csv --dry-run=false"), Some(false));
        assert_eq!(dry_run("x update f.csv"), None);
    }
}
