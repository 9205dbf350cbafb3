//! What people read of a run: results.csv, failed.csv, undo.csv, and the counts of the summary.
//!
//! All of them are made from the journal and the input, at the end of each piece of a run. So they describe the
//! whole run however many pieces it took, and can't disagree.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};
use std::io;

use super::RunDir;
use super::journal::{Ended, Sent};
use super::ledger::{FilesError, Ledger, Renamed, Renames, RowEnd};
use crate::change::{Change, Field, Outcome, Value, fold};
use crate::input::{Entry, Rows};
use crate::retry::is_transient;

/// Different causes that are told apart; the rest is one.
const MOST_CAUSES: usize = 1000;

/// What stands behind a row with too few cells in failed.csv, so that it does not become right by being filled up.
const SHORT_ROW: &str =
    "(too few cells: put what is missing in its place, and take this cell away)";

impl Ledger {
    /// Writes results.csv, failed.csv and undo.csv, and answers the counts.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or the files can't be written.
    pub fn write_files(&mut self, dir: &RunDir) -> Result<Totals, FilesError> {
        let mut totals = Totals::new(self);
        let mut results = dir.replace(&dir.results())?;
        let mut failed = dir.replace(&dir.failed())?;
        let mut undo = dir.replace(&dir.undo())?;
        self.write_rows(dir, &mut results, &mut failed, &mut undo, &mut totals)?;
        for file in [results, failed, undo] {
            file.commit()?;
        }
        Ok(totals)
    }

    fn write_rows(
        &mut self,
        dir: &RunDir,
        results: &mut impl io::Write,
        failed: &mut impl io::Write,
        undo: &mut impl io::Write,
        totals: &mut Totals,
    ) -> Result<(), FilesError> {
        let failing = |error: csv::Error| FilesError::Dir(dir.error(error.into()));
        let mut results = csv::Writer::from_writer(results);
        let mut failed = csv::WriterBuilder::new().flexible(true).from_writer(failed);
        let mut undo = csv::Writer::from_writer(undo);
        results
            .write_record([
                "Row",
                "Line",
                "Email",
                "Member ID",
                "Outcome",
                "Status",
                "Attempts",
                "Changes",
                "Message",
            ])
            .map_err(failing)?;
        let mut rows = self.rows(dir)?;
        let fields = rows.fields();
        let undoable: Vec<Field> = fields
            .iter()
            .copied()
            .filter(|field| !field.is_write_only())
            .collect();
        undo.write_record(
            std::iter::once("Email").chain(undoable.iter().map(|field| field.column())),
        )
        .map_err(failing)?;
        failed
            .write_record(failed_header(&rows, &fields))
            .map_err(failing)?;
        let renames = self.renames()?;
        // Most runs have few rows that fail, or none.
        let moved = LazyCell::new(|| Moved::of(&renames));
        let mut changes = String::new();
        while let Some((place, entry)) = rows.next_entry()? {
            let (line, email) = match &entry {
                Entry::Row(row) => (row.line, &row.email),
                Entry::Bad(bad) => (bad.line, &bad.email),
            };
            let end = self.row_end(place.number)?;
            let record = &end.record;
            changes.clear();
            describe(&end.changes, &mut changes);
            results
                .serialize((
                    place.number,
                    line,
                    email,
                    record.member(),
                    record.outcome.name(),
                    record.status,
                    record.attempts,
                    &changes,
                    record.message(),
                ))
                .map_err(failing)?;
            if !record.outcome.is_success() {
                let moved = moved.email_now(place.number, record.member(), email);
                let (original, beyond) = original_cells(&rows, &entry, &fields, moved);
                let told = [record.outcome.name(), record.message()];
                let cells = original.iter().map(String::as_str).chain(told);
                failed
                    .write_record(cells.chain(beyond.iter().map(String::as_str)))
                    .map_err(failing)?;
            }
            if end.touched && end.changes.iter().any(Change::is_visible) {
                let now = record.member().and_then(|member| renames.email_now(member));
                let email = now.unwrap_or(email);
                let before = |field: Field| {
                    let mut visible = end.changes.iter().filter(|change| change.is_visible());
                    let change = visible.find(|change| change.field == field)?;
                    change.before.as_ref().map(Value::as_str)
                };
                undo.write_field(email).map_err(failing)?;
                for field in &undoable {
                    undo.write_field(before(*field).unwrap_or_default())
                        .map_err(failing)?;
                }
                undo.write_record(None::<&[u8]>).map_err(failing)?;
            }
            totals.count(line, email, &end);
        }
        for flushed in [results.flush(), failed.flush(), undo.flush()] {
            flushed.map_err(|source| dir.error(source))?;
        }
        Ok(())
    }
}

/// failed.csv's header: the input's own columns, or a plan's as a CSV would ask for them, and two more.
fn failed_header(rows: &Rows, fields: &[Field]) -> Vec<String> {
    let own: Vec<String> = match rows {
        Rows::Csv(table) => {
            let layout = table.layout();
            let read =
                (layout.header.iter().enumerate()).filter(|(column, _)| layout.is_read(*column));
            read.map(|(_, name)| name.clone()).collect()
        }
        Rows::Plan(_) => std::iter::once("Email")
            .chain(fields.iter().map(|field| field.column()))
            .map(str::to_owned)
            .collect(),
    };
    let more = ["Outcome".to_owned(), "Message".to_owned()];
    own.into_iter().chain(more).collect()
}

/// Members whom other rows have renamed: a row that is fed back must name them by the email that they have now, for the
/// one before may be another member's.
#[derive(Debug)]
struct Moved<'r> {
    renames: &'r Renames,
    /// Those that were done, by the email before.
    by_email: HashMap<Cow<'r, str>, &'r Renamed>,
}

impl<'r> Moved<'r> {
    fn of(renames: &'r Renames) -> Self {
        let by_email = (renames.done()).map(|renamed| (fold(&renamed.first), renamed));
        Self {
            renames,
            by_email: by_email.collect(),
        }
    }

    /// The email that the member of a row has now, if another row gave it.
    fn email_now(&self, row: u32, member: Option<&str>, email: &str) -> Option<&'r str> {
        let renamed = match member {
            Some(member) => self.renames.done_to(member),
            None if self.by_email.is_empty() => None,
            None => self.by_email.get(&*fold(email)).copied(),
        };
        renamed
            .filter(|renamed| renamed.row != row)
            .map(|renamed| &*renamed.last)
    }
}

/// The cells of the row that was just read, for failed.csv, and those that the header has no columns for. A row with
/// too few cells gets one of these too: it must not become right by being written. `email` is that of a member who has
/// another one by now.
fn original_cells(
    rows: &Rows,
    entry: &Entry,
    fields: &[Field],
    email: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    match (rows, entry) {
        (Rows::Csv(table), _) => {
            let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
            let (layout, cells) = (table.layout(), table.cells());
            let width = layout.header.len();
            let cell = |column| match email {
                Some(email) if layout.is_email(column) => email.to_owned(),
                _ => cells.get(column).map(text).unwrap_or_default(),
            };
            let own = (0..width)
                .filter(|column| layout.is_read(*column))
                .map(cell);
            let mut beyond: Vec<String> = cells.iter().skip(width).map(text).collect();
            if cells.len() < width {
                beyond.push(SHORT_ROW.to_owned());
            }
            (own.collect(), beyond)
        }
        (Rows::Plan(_), Entry::Row(row)) => {
            let value = |field: &Field| {
                row.wants(*field)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            let email = email.unwrap_or(&row.email).to_owned();
            let own = std::iter::once(email).chain(fields.iter().map(value));
            (own.collect(), Vec::new())
        }
        // A plan's rows are never bad.
        (Rows::Plan(_), Entry::Bad(_)) => Default::default(),
    }
}

/// `First Name: Ann → Anna; Member Type: Viewer → Creator`.
pub fn describe(changes: &[Change], text: &mut String) {
    for change in changes
        .iter()
        .filter(|change| change.is_visible() || change.field.is_write_only())
    {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(change.field.column());
        text.push_str(": ");
        if let Some(before) = &change.before {
            text.push_str(before.as_str());
            text.push(' ');
        }
        text.push_str("→ ");
        text.push_str(change.after.as_str());
    }
}

/// Failures with one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The outcome.
    pub outcome: Outcome,
    /// How many rows.
    pub rows: u64,
    /// The line of the first.
    pub line: u64,
    /// Its email.
    pub email: String,
    /// Its message.
    pub message: String,
}

/// What a whole run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Rows by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Failures by cause; the most frequent first after [`Totals::causes`].
    causes: HashMap<(Outcome, String), Cause>,
    /// Failed and unknown rows that may come out otherwise if they are tried again as they stand.
    pub worth_another_try: u64,
    /// Requests of all pieces.
    pub sent: Sent,
    /// When the run began.
    pub started_at: String,
    /// How its last piece ended, if that is recorded.
    pub ended: Option<Ended>,
}

impl Totals {
    fn new(ledger: &Ledger) -> Self {
        let mut sent = Sent::default();
        for piece in ledger.index().sent() {
            sent.requests += piece.requests;
            sent.retries += piece.retries;
            sent.seconds += piece.seconds;
            for (status, count) in &piece.by_status {
                *sent.by_status.entry(*status).or_default() += count;
            }
        }
        Self {
            sent,
            started_at: ledger.head().started_at.clone(),
            ended: ledger.index().ended().cloned(),
            ..Self::default()
        }
    }

    /// Rows with an outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// Rows that did not get what they asked for.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.outcomes
            .iter()
            .filter(|(outcome, _)| !outcome.is_success())
            .map(|(_, count)| count)
            .sum()
    }

    /// Failures by cause, the most frequent first.
    #[must_use]
    pub fn causes(&self) -> Vec<&Cause> {
        let mut causes: Vec<&Cause> = self.causes.values().collect();
        causes.sort_by_key(|cause| (std::cmp::Reverse(cause.rows), cause.line));
        causes
    }

    fn count(&mut self, line: u64, email: &str, end: &RowEnd<'_>) {
        let outcome = end.record.outcome;
        self.rows += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
        if outcome.is_success() || outcome == Outcome::NotAttempted {
            return;
        }
        let is_refused = (end.record.status).is_some_and(|status| !is_transient(status));
        if outcome == Outcome::Unknown || (outcome == Outcome::Failed && !is_refused) {
            self.worth_another_try += 1;
        }
        let message = end.record.message();
        let mut key = (outcome, essence(message));
        if self.causes.len() >= MOST_CAUSES && !self.causes.contains_key(&key) {
            key.1 = String::new();
        }
        self.causes
            .entry(key)
            .and_modify(|cause| cause.rows += 1)
            .or_insert_with(|| Cause {
                outcome,
                rows: 1,
                line,
                email: email.to_owned(),
                message: message.to_owned(),
            });
    }
}

/// A message without what differs from row to row: what stands in quotes or brackets, emails, and numbers.
fn essence(message: &str) -> String {
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
