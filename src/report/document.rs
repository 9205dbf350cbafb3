//! What a report says, whatever its form: of a run, a dry run or a saved plan.

use serde::Serialize;

use super::chart::{Chart, charts};
use super::summary::Summary;
use super::totals::Totals;
use crate::clock::local;
use crate::decide::{ChangeKinds, Severity, Tense};
use crate::model::{Change, Outcome};
use crate::output::{count, grouped, span};

/// The number of rows that a page shows. results.csv has all of them.
pub(crate) const ROWS_SHOWN: usize = 5_000;

/// A report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `run`, `dry run` or `plan`.
    pub kind: &'static str,
    /// What the run was made from.
    #[serde(skip)]
    pub input: String,
    /// The summary; that of a plan counts what it would change.
    #[serde(flatten)]
    pub summary: Summary,
    /// The changes by kind, the destructive ones first.
    pub changes: Vec<ChangeKind>,
    /// The failures by cause, the most frequent first.
    pub failures: Vec<Failure>,
    /// The settings of the run that differ from the defaults, as flags.
    pub settings: Vec<String>,
    /// What happened over time.
    pub charts: Vec<Chart>,
}

/// A kind of change.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeKind {
    /// For people.
    pub text: String,
    /// The number of changes.
    pub changes: u64,
    /// Whether somebody loses access or documents.
    pub is_destructive: bool,
}

/// Rows that failed for one cause.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The outcome.
    pub outcome: &'static str,
    /// The number of rows.
    pub rows: u64,
    /// The message of the first row.
    pub message: String,
    /// The first of the rows.
    pub examples: Vec<FailedRow>,
}

/// A row that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FailedRow {
    /// The physical line.
    pub line: u64,
    /// The email as the row spells it.
    pub email: String,
}

/// A row of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReportRow {
    /// The row's number.
    pub row: u32,
    /// The physical line on which it starts.
    pub line: u64,
    /// The email as the row spells it.
    pub email: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The last HTTP status that concerns the row.
    pub status: Option<u16>,
    /// `First Name: Ann → Anna; …`.
    pub changes: String,
    /// What a person should know about it.
    pub message: String,
}

impl ReportRow {
    /// Returns the row of a plan.
    pub(crate) fn planned(number: u32, line: u64, email: &str, changes: &[Change]) -> Self {
        let mut text = String::new();
        Change::describe_all(changes, None, &mut text);
        Self {
            row: number,
            line,
            email: email.to_owned(),
            outcome: Outcome::WouldUpdate,
            status: None,
            changes: text,
            message: String::new(),
        }
    }
}

impl Report {
    /// Returns the report of a run or a dry run.
    pub(crate) fn of_run(summary: Summary, totals: &Totals, settings: Vec<String>) -> Self {
        let failures = totals.failures().into_iter().map(|group| Failure {
            outcome: group.outcome.name(),
            rows: group.rows,
            message: group.message.clone(),
            examples: group.examples.clone(),
        });
        Self {
            kind: if summary.dry_run { "dry run" } else { "run" },
            input: (summary.input.as_ref()).map_or_else(String::new, |input| input.name.clone()),
            changes: kinds(
                &totals.kinds,
                if summary.dry_run {
                    Tense::Planned
                } else {
                    Tense::Done
                },
            ),
            failures: failures.collect(),
            settings,
            charts: charts(&totals.sessions),
            summary,
        }
    }

    /// Returns the report of a plan.
    pub(crate) fn of_plan(summary: Summary, input: String, changes: &ChangeKinds) -> Self {
        Self {
            kind: "plan",
            input,
            changes: kinds(changes, Tense::Planned),
            failures: Vec::new(),
            settings: Vec::new(),
            charts: Vec::new(),
            summary,
        }
    }

    /// Returns the title: `Dry run of members.csv`.
    pub(crate) fn title(&self) -> String {
        let kind = match self.kind {
            "run" => "Run",
            "dry run" => "Dry run",
            _ => "Plan",
        };
        format!("{kind} of {}", self.input)
    }

    /// Returns the outcomes that occur, with their numbers.
    pub(crate) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome, self.summary.of(outcome)))
            .filter(|(_, rows)| *rows > 0)
            .collect()
    }

    /// Returns who ran what, where and when, as pairs of a name and a value.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let summary = &self.summary;
        let mut facts = Vec::new();
        let mut fact = |name, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                facts.push((name, value));
            }
        };
        let requests = &summary.requests;
        let user = summary.credential_user.as_ref();
        fact(
            "State",
            (self.kind != "plan").then(|| summary.state.describe().to_owned()),
        );
        fact("Stopped by", summary.error.clone());
        fact("Started", Some(local(&summary.started_at)));
        fact("Finished", summary.finished_at.as_deref().map(local));
        fact(
            "Took",
            (summary.elapsed_seconds > 0.0).then(|| span(summary.elapsed_seconds)),
        );
        fact("Organization", summary.organization_id.clone());
        fact("Host", summary.host.clone());
        fact(
            "Credentials of",
            user.map(|user| user.email.clone().unwrap_or_else(|| user.id.clone())),
        );
        fact("Started by", Some(summary.os_user.clone()));
        fact("Command", Some(summary.command.clone()));
        fact("Settings", Some(self.settings.join(" ")));
        fact(
            "Version",
            Some(format!("sigma-bulk {}", summary.tool_version)),
        );
        fact(
            "Input",
            (summary.input.as_ref())
                .map(|input| format!("{} (SHA-256 {})", input.name, input.sha256)),
        );
        fact(
            "Requests",
            (requests.total > 0).then(|| {
                let retries = count(requests.retries, "retry");
                format!(
                    "{}, {}",
                    grouped(requests.total),
                    retries.replace("retrys", "retries")
                )
            }),
        );
        fact(
            "Sessions",
            (summary.sessions.len() > 1).then(|| summary.sessions.len().to_string()),
        );
        fact("Files", Some(summary.run_dir.clone()));
        facts
    }
}

fn kinds(kinds: &ChangeKinds, tense: Tense) -> Vec<ChangeKind> {
    (kinds.kinds(tense).into_iter())
        .map(|kind| ChangeKind {
            text: kind.text,
            changes: kind.changes,
            is_destructive: kind.severity == Severity::Destructive,
        })
        .collect()
}

/// Keeps the rows that a page shows: those that did not succeed first, and then the others, each in order.
#[derive(Debug, Default)]
pub(crate) struct ShownRows {
    failed: Vec<ReportRow>,
    others: Vec<ReportRow>,
    all: u64,
}

impl ShownRows {
    /// Adds a row.
    pub(crate) fn add(&mut self, row: &ReportRow) {
        self.all += 1;
        let rows = if row.outcome.is_success() {
            &mut self.others
        } else {
            &mut self.failed
        };
        if rows.len() < ROWS_SHOWN {
            rows.push(row.clone());
        }
    }

    /// Returns the rows, and the number of all rows.
    pub(crate) fn into_rows(mut self) -> (Vec<ReportRow>, u64) {
        self.others.truncate(ROWS_SHOWN - self.failed.len());
        let mut rows = self.failed;
        rows.append(&mut self.others);
        rows.sort_by_key(|row| row.row);
        (rows, self.all)
    }
}
