//! The counts of a run: rows by outcome, requests, and failures grouped by cause.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::document::FailedRow;
use super::preview::{Preview, PreviewRow};
use crate::decide::ChangeKinds;
use crate::model::{Outcome, fold};
use crate::sigma::is_transient;
use crate::store::RunHistory;
use crate::store::history::RowHistory;
use crate::store::journal::{RequestTotals, SessionEnd, SessionHistory};

/// The number of causes that are kept apart. Further ones are one group.
const MOST_CAUSES: usize = 1000;

/// Rows that failed for the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureGroup {
    /// The outcome.
    pub outcome: Outcome,
    /// The number of rows.
    pub rows: u64,
    /// The line of the first row.
    pub line: u64,
    /// The email of the first row.
    pub email: String,
    /// The message of the first row.
    pub message: String,
    /// The first rows.
    pub examples: Vec<FailedRow>,
}

/// The number of rows that are kept of a cause.
const EXAMPLES: usize = 20;

/// The counts of a whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    /// All rows.
    pub rows: u64,
    /// Rows by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Failures by outcome and cause.
    failures: HashMap<(Outcome, String), FailureGroup>,
    /// Failed and unknown rows that may succeed if they are tried again as they stand.
    pub worth_retrying: u64,
    /// Rows whose outcome is not recorded, with which a resume goes on.
    pub unsettled: u64,
    /// Rows that undo.csv leaves out, because it is not known which email their member has.
    pub not_in_undo: u64,
    /// The changes of rows that were updated, or would be, by kind.
    pub kinds: ChangeKinds,
    /// Some of the rows that a dry run would update.
    pub preview: Preview,
    /// The requests of all sessions.
    pub requests: RequestTotals,
    /// When the run started, RFC 3339 in UTC.
    pub started_at: String,
    /// The sessions.
    pub sessions: Vec<SessionHistory>,
}

impl Totals {
    pub(super) fn new(history: &RunHistory) -> Self {
        let mut requests = RequestTotals::default();
        for session in history.index().sessions() {
            let session = &session.totals;
            requests.requests += session.requests;
            requests.retries += session.retries;
            requests.seconds += session.seconds;
            for (status, count) in &session.by_status {
                *requests.by_status.entry(*status).or_default() += count;
            }
        }
        Self {
            requests,
            started_at: history.head().started_at.clone(),
            sessions: history.index().sessions().to_vec(),
            ..Self::default()
        }
    }

    /// Returns how the last session ended, if that is recorded.
    pub(crate) fn ended(&self) -> Option<&SessionEnd> {
        self.sessions.last()?.ended.as_ref()
    }

    /// Returns the number of rows with an outcome.
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// Returns the number of rows that did not succeed.
    pub(crate) fn failed(&self) -> u64 {
        self.outcomes
            .iter()
            .filter(|(outcome, _)| !outcome.is_success())
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns the failures by cause, the most frequent first.
    pub(crate) fn failures(&self) -> Vec<&FailureGroup> {
        let mut groups: Vec<&FailureGroup> = self.failures.values().collect();
        groups.sort_by_key(|group| (Reverse(group.rows), group.line));
        groups
    }

    /// Returns whether every row has its final outcome.
    pub(crate) const fn is_complete(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn count(&mut self, line: u64, email: &str, history: &RowHistory) {
        let row = &history.outcome;
        let outcome = row.outcome;
        if matches!(outcome, Outcome::Updated | Outcome::WouldUpdate) {
            self.kinds.add(&row.changes);
        }
        if outcome == Outcome::WouldUpdate {
            self.preview.add(PreviewRow {
                row: row.row,
                line,
                email: email.into(),
                changes: Arc::clone(&row.changes),
                owner: row.owner.as_deref().map(str::to_owned),
            });
        }
        self.rows += 1;
        self.unsettled += u64::from(!history.is_settled || outcome == Outcome::NotAttempted);
        *self.outcomes.entry(outcome).or_default() += 1;
        if outcome.is_success() || outcome == Outcome::NotAttempted {
            return;
        }
        let is_refused = row.status.is_some_and(|status| !is_transient(status));
        if outcome == Outcome::Unknown || (outcome == Outcome::Failed && !is_refused) {
            self.worth_retrying += 1;
        }
        let message = row.message();
        let mut key = (outcome, cause_key(message));
        if self.failures.len() >= MOST_CAUSES && !self.failures.contains_key(&key) {
            key.1 = String::new();
        }
        let group = self.failures.entry(key).or_insert_with(|| FailureGroup {
            outcome,
            rows: 0,
            line,
            email: email.to_owned(),
            message: message.to_owned(),
            examples: Vec::new(),
        });
        group.rows += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(FailedRow {
                line,
                email: email.to_owned(),
            });
        }
    }
}

/// Returns a message without what differs from row to row: quoted text, text in brackets, emails and numbers.
fn cause_key(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut skip_to = None;
    let mut after_digit = false;
    for c in message.chars() {
        match (skip_to, c) {
            (Some(end), c) if c == end => skip_to = None,
            (Some(_), _) => continue,
            (None, '"') => skip_to = Some('"'),
            (None, '[') => skip_to = Some(']'),
            (None, c) if c.is_ascii_digit() && !text.is_empty() => {
                if !after_digit {
                    text.push('#');
                }
                after_digit = true;
                continue;
            }
            (None, c) => text.push(c),
        }
        after_digit = false;
    }
    text.split(' ')
        .filter(|word| !word.contains('@'))
        .map(fold)
        .collect::<Vec<_>>()
        .join(" ")
}
