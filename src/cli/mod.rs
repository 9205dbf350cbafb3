//! The command line, as it is written. It has no I/O, and its defaults are in [`crate::settings`].

mod sample_script;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::guide::Topic;
use crate::sandbox::SandboxArgs;
use crate::settings::{CommandName, Layer, with_scope};

/// Change thousands of Sigma members from a CSV
#[derive(Debug, Parser)]
#[command(name = "sigma-bulk", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The profile of the configuration file
    #[arg(long, value_name = "NAME", global = true)]
    pub profile: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
        /// The run directory
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
        /// The run directory
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
    /// Write the files and the summary of a run again
    #[command(args_override_self = true)]
    Report {
        /// The run directory
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
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
    /// Serve a simulated API on this machine, to try things on
    Sandbox(SandboxArgs),
}

impl Command {
    /// Returns the settings that the flags give, and the command's name among those that take settings.
    pub(crate) fn layer(&self) -> Option<(CommandName, Layer)> {
        let (name, layer) = match self {
            Self::Update { file, layer } => {
                let mut layer = layer.clone();
                layer.csv = file.clone().or(layer.csv);
                return Some((CommandName::Update, layer));
            }
            Self::Resume { layer, .. } => (CommandName::Resume, layer),
            Self::Undo { layer, .. } => (CommandName::Undo, layer),
            Self::Apply { layer, .. } => (CommandName::Apply, layer),
            Self::Report { layer, .. } => (CommandName::Report, layer),
            Self::Guide { .. } | Self::Sandbox(_) => return None,
        };
        Some((name, layer.clone()))
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
        let matches = command().try_get_matches_from(sample_script::normalize(args))?;
        Self::from_arg_matches(&matches)
    }
}

/// Returns clap's definition of the command line, in which each command lists the flags that it takes.
fn command() -> clap::Command {
    CommandName::ALL
        .into_iter()
        .fold(Cli::command(), |command, name| {
            command.mut_subcommand(name.name(), |sub| with_scope(sub, name))
        })
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
        let lists = |name: CommandName, flag: &str| {
            let mut command = command();
            let sub = command.find_subcommand_mut(name.name()).expect("a command");
            let help = sub.render_long_help().to_string();
            help.contains(&format!("--{flag}"))
        };
        for (flag, expected) in [
            ("csv", [true, false, false, false, false]),
            ("dry-run", [true, false, true, true, false]),
            ("rate", [true, true, true, true, false]),
            ("json", [true; 5]),
        ] {
            let listed = CommandName::ALL.map(|name| lists(name, flag));
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
