//! `runs`: the runs below a directory, the newest first.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::finish::printing_failed;
use super::{Context, RunError};
use crate::clock::local;
use crate::exit_code;
use crate::model::Outcome;
use crate::output::{Plain, Style, count, grouped};
use crate::report::results;
use crate::report::summary::{RunEnd, RunState, Summary};
use crate::settings::Settings;
use crate::store::journal::Head;
use crate::store::{RunDir, RunHistory, catalog};

/// A run in the list.
#[derive(Debug, Serialize)]
struct Entry {
    /// `update`, `apply` or `undo`.
    kind: String,
    /// The directories of the undos of this run, the oldest first.
    undone_by: Vec<String>,
    /// The directories of the runs of its failed.csv, the oldest first.
    rerun_by: Vec<String>,
    #[serde(flatten)]
    summary: Summary,
}

pub(super) fn list(context: &Context, settings: &Settings, parent: &Path) -> Result<u8, RunError> {
    let runs = catalog::runs(parent).map_err(|error| {
        RunError::Refused(format!("{} can't be read: {error}", parent.display()))
    })?;
    let mut entries = Vec::with_capacity(runs.len());
    for (dir, head) in &runs {
        let referring = |refers: &dyn Fn(&Head) -> bool| {
            let found = runs
                .iter()
                .rev()
                .filter(|(_, other)| !other.dry_run && refers(other));
            found
                .map(|(dir, _)| dir.path().display().to_string())
                .collect()
        };
        let reference = head.reference();
        entries.push(Entry {
            kind: head.command.clone(),
            undone_by: referring(&|other| other.origin.undoes.as_ref() == Some(&reference)),
            rerun_by: referring(&|other| other.origin.reruns.as_ref() == Some(&reference)),
            summary: summary_of(dir, head),
        });
    }
    let printed = if settings.json {
        let document = serde_json::to_string_pretty(&entries).unwrap_or_default();
        context.output.print(format_args!("{document}\n"))
    } else if entries.is_empty() {
        let parent = Plain(parent.display());
        context
            .output
            .print_lines(&format!("There is no run in {parent}.\n"))
    } else {
        let style = context.output.stdout_style();
        let texts: Vec<String> = entries.iter().map(|entry| entry.render(style)).collect();
        context.output.print_lines(&texts.join("\n"))
    };
    printed.map_err(printing_failed)?;
    Ok(exit_code::SUCCESS)
}

/// Returns the summary of a run: what it wrote, unless a process is working on it or was killed.
fn summary_of(dir: &RunDir, head: &Head) -> Summary {
    let is_busy = dir.is_busy();
    let written = Summary::read(dir).filter(|summary| summary.started_at == head.started_at);
    if let Some(mut summary) = written {
        summary.run_dir = dir.path().display().to_string();
        if summary.state != RunState::Running {
            return summary;
        }
    }
    // The journal knows more than a summary that was never finished.
    let counted = RunHistory::read(dir).and_then(|mut history| {
        let totals = results::count(&mut history, dir)?;
        let end = RunEnd::recorded(&totals, is_busy);
        Ok(Summary::new(history.head(), &totals, &end, dir.path()))
    });
    counted.unwrap_or_else(|_| {
        let mut unread = Summary::running(head, &[], dir.path());
        if !is_busy {
            unread.state = RunState::Resumable;
        }
        unread
    })
}

impl Entry {
    fn render(&self, style: Style) -> String {
        let Style {
            red,
            green,
            yellow,
            bold,
            dim,
            off,
            ..
        } = style;
        let summary = &self.summary;
        let state = match summary.state {
            RunState::Running => yellow,
            RunState::Resumable => red,
            RunState::Complete => green,
        };
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{bold}{}{off}  {dim}{}{off}",
            Plain(&summary.run_dir),
            local(&summary.started_at)
        );
        let input = summary.input.as_ref().map_or("", |input| &input.name);
        let kind = match (self.kind.as_str(), summary.dry_run) {
            (kind, true) => format!("dry run of {}", if kind == "update" { "" } else { kind }),
            ("undo", false) => String::new(),
            (kind, false) => format!("{kind} of "),
        };
        let counts: Vec<String> = Outcome::ALL
            .into_iter()
            .filter(|outcome| summary.of(*outcome) > 0)
            .map(|outcome| format!("{} {}", grouped(summary.of(outcome)), outcome.name()))
            .collect();
        let gap = if kind.is_empty() || kind.ends_with(' ') {
            ""
        } else {
            " of "
        };
        let _ = writeln!(
            text,
            "    {kind}{gap}{}: {} · {state}{}{off}",
            Plain(input),
            if counts.is_empty() {
                count(summary.rows, "row")
            } else {
                counts.join(", ")
            },
            summary.state.describe(),
        );
        for dir in &self.undone_by {
            let _ = writeln!(text, "    undone by {}", Plain(dir));
        }
        for dir in &self.rerun_by {
            let _ = writeln!(text, "    failed rows run again in {}", Plain(dir));
        }
        text
    }
}
