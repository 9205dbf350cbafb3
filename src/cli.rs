//! The command line, as it is written. No I/O and no defaults of its own: those are `settings`'.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::sandbox::SandboxArgs;
use crate::settings::Layer;

/// Change thousands of Sigma members from a CSV: concurrent, paced, resumable, undoable.
#[derive(Debug, Parser)]
#[command(name = "sigma-bulk", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// A profile of the configuration file
    #[arg(long, value_name = "NAME", global = true)]
    pub profile: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Change members from a CSV
    #[command(args_override_self = true)]
    Update {
        /// The CSV; - is standard input
        #[arg(value_name = "CSV", conflicts_with = "csv")]
        file: Option<PathBuf>,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Go on with a run that ended before its last row
    #[command(args_override_self = true)]
    Resume {
        /// The run's directory
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
        /// Try failed and unknown rows again
        #[arg(long)]
        only_failed: bool,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Put back what a run changed
    #[command(args_override_self = true)]
    Undo {
        /// The run's directory
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Do exactly what a dry run previewed and saved with --save-plan
    #[command(args_override_self = true)]
    Apply {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Write a run's files and summary anew from its journal
    #[command(args_override_self = true)]
    Report {
        /// The run's directory
        #[arg(value_name = "RUN_DIR")]
        dir: PathBuf,
        /// The settings that the flags give
        #[command(flatten)]
        layer: Layer,
    },
    /// Serve a stand-in of the API on this machine, to try things on
    Sandbox(SandboxArgs),
}

impl Command {
    /// The settings that the flags give.
    #[must_use]
    pub fn layer(&self) -> Layer {
        match self {
            Self::Update { file, layer } => {
                let mut layer = layer.clone();
                layer.csv = file.clone().or(layer.csv);
                layer
            }
            Self::Resume { layer, .. }
            | Self::Undo { layer, .. }
            | Self::Apply { layer, .. }
            | Self::Report { layer, .. } => layer.clone(),
            Self::Sandbox(_) => Layer::default(),
        }
    }
}

/// The arguments as the sample script's users write them, in this tool's form: `--client_id` is `--client-id`, and
/// `--abort_on_update_fail enable` is one word.
#[must_use]
pub fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const SWITCH: &str = "--abort-on-update-fail";
    let mut normal: Vec<OsString> = Vec::new();
    let mut rest = false;
    for arg in args {
        let Some(text) = arg.to_str().filter(|_| !rest) else {
            normal.push(arg);
            continue;
        };
        if text == "--" {
            rest = true;
        }
        let is_word = ["enable", "disable", "true", "false"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word));
        if is_word && let Some(last) = normal.last_mut().filter(|last| *last == SWITCH) {
            last.push("=");
            last.push(&arg);
            continue;
        }
        if text.starts_with("--") {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let mut word = name.replace('_', "-");
            if let Some(value) = value {
                word.push('=');
                word.push_str(value);
            }
            normal.push(word.into());
        } else {
            normal.push(arg);
        }
    }
    normal
}

/// The words with which the run that was previewed would be started for real: without the dry run's flags, and
/// without secrets.
#[must_use]
pub fn for_real(args: &[OsString]) -> Vec<String> {
    let mut words = Vec::new();
    let mut skip = false;
    for arg in args {
        let text = arg.to_string_lossy();
        if std::mem::take(&mut skip) {
            continue;
        }
        match text.as_ref() {
            "--client-secret" | "--save-plan" | "--run-dir" => skip = true,
            "-n" | "--dry-run" => {}
            text if text.starts_with("--dry-run=")
                || text.starts_with("--client-secret=")
                || text.starts_with("--run-dir=")
                || text.starts_with("--save-plan=") => {}
            // Short flags that stand together.
            text if text.starts_with('-')
                && !text.starts_with("--")
                && text.contains('n')
                && text.len() > 2 =>
            {
                words.push(text.replacen('n', "", 1));
            }
            text => words.push(text.to_owned()),
        }
    }
    words
}

/// The same words for another CSV. Where the environment or the configuration names it, a flag goes over that.
#[must_use]
pub fn with_csv(words: &[String], csv: &str, other: &str) -> Vec<String> {
    let flag = format!("--csv={csv}");
    let mut is_named = false;
    let mut words: Vec<String> = words
        .iter()
        .map(|word| {
            if word != csv && *word != flag {
                return word.clone();
            }
            is_named = true;
            word.replace(csv, other)
        })
        .collect();
    if !is_named {
        words.extend(["--csv".to_owned(), other.to_owned()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_sample_scripts_command_line_works() {
        let line = "sigma-bulk update --client_id 123 --client_secret abc --csv ./f.csv --env prod --cloud gcp --abort_on_update_fail enable";
        let cli = Cli::try_parse_from(normalize(words(line))).expect("it parses");
        let layer = cli.command.layer();
        assert_eq!(layer.client_id.as_deref(), Some("123"));
        assert_eq!(layer.abort_on_update_fail, Some(true));
        assert_eq!(
            layer.env,
            Some(crate::sigma::hosts::Environment::Production)
        );
        assert_eq!(layer.csv, Some(PathBuf::from("./f.csv")));
    }

    #[test]
    fn values_keep_their_underscores_and_a_file_may_follow_a_switch() {
        let args = normalize(words(
            "x update --client_id=a_b --abort_on_update_fail my_file.csv -- --a_b",
        ));
        assert_eq!(
            args,
            words("x update --client-id=a_b --abort-on-update-fail my_file.csv -- --a_b")
        );
    }

    #[test]
    fn the_real_command_has_no_secret_and_no_dry_run() {
        let args = words(
            "update f.csv -n --client-secret s3 --cloud gcp --client-secret=s3 --dry-run -yn",
        );
        assert_eq!(for_real(&args).join(" "), "update f.csv --cloud gcp -y");
    }

    #[test]
    fn another_csv_takes_the_firsts_place_wherever_that_is_named() {
        let with = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            with_csv(&words, "f.csv", "r/failed.csv").join(" ")
        };
        assert_eq!(with("update f.csv -y"), "update r/failed.csv -y");
        assert_eq!(with("update --csv f.csv"), "update --csv r/failed.csv");
        assert_eq!(with("update --csv=f.csv"), "update --csv=r/failed.csv");
        assert_eq!(with("update -y"), "update -y --csv r/failed.csv");
    }
}
