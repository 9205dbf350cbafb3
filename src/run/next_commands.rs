//! The commands that may come after a run, built from its settings. They never hold a secret, and never `--yes`.

use std::path::Path;

use super::Context;
use crate::report::closing::NextCommands;
use crate::settings::{CommandName, Settings};
use crate::shell;
use crate::store::RunDir;
use crate::store::journal::{Head, InputKind};

/// Settings that belong to one run alone, and that another command does not repeat.
const OF_ONE_RUN: [&str; 6] = [
    "csv",
    "dry-run",
    "save-plan",
    "yes",
    "run-dir",
    "auto-resume",
];
/// Settings that say how to reach the API, besides its host.
const CONNECTION: [&str; 4] = ["allow-http", "ca-cert", "client-id", "client-secret-file"];

/// Returns the commands that may come after the run in `dir`.
pub(super) fn next_commands(
    context: &Context,
    settings: &Settings,
    head: &Head,
    dir: &RunDir,
) -> NextCommands {
    let builder = Builder {
        context,
        settings,
        head,
        dir,
    };
    let run_dir = path(dir.path());
    let mut resume = builder.command(["resume", &run_dir], builder.connection());
    let retry_failed = builder.command(["resume", "--only-failed", &run_dir], builder.connection());
    if let Some(plan) = &settings.save_plan {
        resume.extend(["--save-plan".to_owned(), path(plan)]);
    }
    NextCommands {
        for_real: builder.new_run(builder.for_real(), "for-real"),
        rerun_failed: builder.new_run(builder.rerun_failed(), "corrected"),
        retry_failed: typed(&retry_failed),
        resume: typed(&resume),
        undo: builder.new_run(
            builder.command(["undo", &run_dir], builder.connection()),
            "undo",
        ),
    }
}

struct Builder<'a> {
    context: &'a Context,
    settings: &'a Settings,
    head: &'a Head,
    dir: &'a RunDir,
}

impl Builder<'_> {
    /// Whether this process started the run, so that its flags are the run's.
    fn is_own(&self) -> bool {
        self.context.command.name() == self.head.command
    }

    /// The flags of this process that another run repeats.
    fn flags(&self) -> Vec<String> {
        self.context.flags.words(|name| OF_ONE_RUN.contains(&name))
    }

    /// The flags of this process that say how to reach the API.
    fn connection(&self) -> Vec<String> {
        self.context.flags.words(|name| !CONNECTION.contains(&name))
    }

    fn command<const N: usize>(&self, words: [&str; N], flags: Vec<String>) -> Vec<String> {
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.extend(flags);
        if let Some(config) = &self.context.config {
            words.extend(["--config".to_owned(), path(config)]);
        }
        if let Some(profile) = &self.context.profile {
            words.extend(["--profile".to_owned(), profile.clone()]);
        }
        words
    }

    /// The command that does what this dry run previewed.
    fn for_real(&self) -> Vec<String> {
        if let Some(plan) = &self.settings.save_plan {
            return self.command(["apply", &path(plan)], self.connection());
        }
        let mut words = match (self.head.kind, self.is_own()) {
            (InputKind::Csv, true) => self.update(&self.csv()),
            (InputKind::Csv, false) => {
                let mut words = self.update(&path(&self.dir.input()));
                if let Some(limit) = self.head.limit {
                    words.extend(["--limit".to_owned(), limit.to_string()]);
                }
                if self.head.send_unchanged {
                    words.push("--send-unchanged".to_owned());
                }
                words
            }
            (InputKind::Plan, _) => {
                let flags = if self.is_own() {
                    self.flags()
                } else {
                    self.connection()
                };
                self.command(["apply", &path(&self.dir.plan())], flags)
            }
        };
        // The environment or the configuration would make it a dry run again.
        if self.settings.dry_run && self.context.flags.dry_run.is_none() && self.is_own() {
            words.push("--dry-run=false".to_owned());
        }
        words
    }

    /// The command that runs failed.csv once it is corrected.
    fn rerun_failed(&self) -> Vec<String> {
        self.update(&path(&self.dir.failed()))
    }

    /// An update of this CSV, with the flags of the run that this process knows.
    fn update(&self, csv: &str) -> Vec<String> {
        if self.context.command == CommandName::Update {
            return self.command(["update", csv], self.flags());
        }
        let flags = self.connection();
        self.command(["update", csv, "--base-url", &self.head.base_url], flags)
    }

    /// The CSV of this run. Standard input can't be read again, but its copy can.
    fn csv(&self) -> String {
        match &self.settings.csv {
            Some(csv) if csv.as_os_str() != "-" => path(csv),
            _ => path(&self.dir.input()),
        }
    }

    /// A command that starts a run, as it is typed. If the environment or the configuration names the directory of this
    /// run, the new one needs another.
    fn new_run(&self, mut words: Vec<String>, suffix: &str) -> String {
        if let Some(taken) = &self.settings.run_dir
            && self.context.flags.run_dir.is_none()
        {
            words.extend(["--run-dir".to_owned(), format!("{}-{suffix}", path(taken))]);
        }
        typed(&words)
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn typed(words: &[String]) -> String {
    let words = words.iter().map(String::as_str);
    format!("sigma-bulk {}", shell::typed(words))
}
