//! From the journal to what people read: results.csv, failed.csv, undo.csv, and the counts of the summary.
//!
//! All of them are made from the journal and the input, at the end of each piece of a run. So they describe the
//! whole run however many pieces it took, and can't disagree. Two passes, memory by the row: 17 bytes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::RunDir;
use super::journal::{
    Extent, Glance, Head, InputKind, JournalError, JournalReader, OutcomeRecord, Record, Sent,
};
use super::rundir::RunDirError;
use crate::change::{Change, Field, Outcome, Value, fold};
use crate::event::{Before, ContentHash, Intent};
use crate::input::{Entry, InputError, Rows, Table, plan};
use crate::retry::is_transient;

/// Different causes that are told apart; the rest is one.
const MOST_CAUSES: usize = 1000;

/// The run can't be read from its directory, or not be written there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FilesError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(
        "{path}: row {row} is not the one that was sent: the input in the run directory was changed"
    )]
    Changed { path: String, row: u32 },
}

/// The email that each member had when the run began, for those that were renamed, by id.
pub type FirstEmails = HashMap<Box<str>, Box<str>>;

/// The first and the last email of each member that was renamed, by id.
type Renames = HashMap<Box<str>, (Box<str>, Box<str>)>;

fn note_rename(renamed: &mut Renames, intent: Option<Intent>) {
    let Some(intent) = intent else { return };
    let rename = intent
        .changes
        .iter()
        .find(|change| change.field == Field::Email);
    if let Some(Change {
        before: Some(Value::Text(before)),
        after: Value::Text(after),
        ..
    }) = rename
    {
        renamed
            .entry(intent.member_id)
            .and_modify(|(_, last)| last.clone_from(after))
            .or_insert_with(|| (before.clone(), after.clone()));
    }
}

/// What the journal says of a row.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Where its last outcome stands; 0 is none, for there the head stands.
    outcome: u64,
    /// Where its last intent stands.
    intent: u64,
    /// How many of its intents may have been sent.
    sent: u8,
}

/// The journal, known by where each row's last words stand.
#[derive(Debug)]
pub struct Ledger {
    head: Head,
    reader: JournalReader,
    states: Vec<State>,
    renamed: Renames,
    sent: Vec<Sent>,
    ended: Option<Ended>,
    extent: Extent,
}

/// How the last piece of a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `stop` in `summary.json`.
    pub stop: String,
    /// The exit code.
    pub exit_code: u8,
    /// When.
    pub at: String,
}

/// What a row came to.
#[derive(Debug)]
pub struct RowEnd {
    /// Its outcome; one that has none was not attempted, or is unknown if an intent may have been sent.
    pub record: OutcomeRecord,
    /// What was sent, or would be.
    pub changes: Arc<[Change]>,
    /// Whether the member may have been changed.
    pub touched: bool,
}

impl Ledger {
    /// Reads the journal of a run.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub fn read(dir: &RunDir) -> Result<Self, FilesError> {
        let (mut reader, head) = JournalReader::open(&dir.journal())?;
        let mut states = vec![State::default(); head.rows as usize];
        let mut renamed = Renames::new();
        let mut sent = vec![Sent::default()];
        let mut ended = None;
        while let Some((at, glance)) = reader.next_glance()? {
            match glance {
                Glance::Intent(row, whole) => {
                    if let Some(state) = states.get_mut(index(row)) {
                        state.intent = at;
                        state.sent = state.sent.saturating_add(1);
                    }
                    note_rename(&mut renamed, whole);
                }
                Glance::Outcome(row) => {
                    if let Some(state) = states.get_mut(index(row)) {
                        state.outcome = at;
                    }
                }
                Glance::Other(Record::Abandoned(row)) => {
                    if let Some(state) = states.get_mut(index(row)) {
                        state.sent = state.sent.saturating_sub(1);
                        if state.sent == 0 {
                            state.intent = 0;
                        }
                    }
                }
                Glance::Other(Record::Resumed(_)) => {
                    sent.push(Sent::default());
                    ended = None;
                }
                Glance::Other(Record::Sent(now)) => {
                    if let Some(last) = sent.last_mut() {
                        *last = now;
                    }
                }
                Glance::Other(Record::Ended {
                    stop,
                    exit_code,
                    at,
                }) => {
                    ended = Some(Ended {
                        stop,
                        exit_code,
                        at,
                    });
                }
                Glance::Other(Record::Head(_) | Record::Intent(_) | Record::Outcome(_)) => {}
            }
        }
        let extent = reader.extent();
        Ok(Self {
            head,
            reader,
            states,
            renamed,
            sent,
            ended,
            extent,
        })
    }

    /// What binds the run.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// How far the journal was read.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// What the last piece of the run has sent, if more is known of that than could be recorded.
    pub fn set_sent(&mut self, sent: Sent) {
        if let Some(last) = self.sent.last_mut() {
            *last = sent;
        }
    }

    /// The row's end.
    fn row_end(&mut self, row: u32) -> Result<RowEnd, JournalError> {
        let state = self.states.get(index(row)).copied().unwrap_or_default();
        let intent = match state.intent {
            0 => None,
            at => match self.reader.record_at(at)? {
                Record::Intent(intent) => Some(intent),
                _ => None,
            },
        };
        let record = match state.outcome {
            0 => None,
            at => match self.reader.record_at(at)? {
                Record::Outcome(outcome) => Some(outcome),
                _ => None,
            },
        };
        // An intent behind the outcome is another try that has no outcome yet.
        let record = record.filter(|_| state.outcome > state.intent).unwrap_or_else(|| {
            let (outcome, message) = match &intent {
                Some(_) => (
                    Outcome::Unknown,
                    "the run ended before the answer was recorded; a resume reads the member again",
                ),
                None => (Outcome::NotAttempted, "the run stopped before this row"),
            };
            OutcomeRecord {
                row,
                outcome,
                member: intent.as_ref().map(|intent| intent.member_id.clone()),
                status: None,
                attempts: u32::from(intent.is_some()),
                partly: false,
                changes: None,
                message: Some(message.into()),
            }
        });
        let ok = record
            .status
            .is_some_and(|status| (200..300).contains(&status));
        let touched = intent.is_some()
            && (matches!(record.outcome, Outcome::Updated | Outcome::Unknown)
                || (record.outcome == Outcome::Failed && (ok || record.partly)));
        let changes = match (&record.changes, intent) {
            (Some(changes), _) => Arc::clone(changes),
            (None, Some(intent)) if touched || record.outcome == Outcome::Failed => intent.changes,
            (None, _) => Arc::default(),
        };
        Ok(RowEnd {
            record,
            changes,
            touched,
        })
    }

    /// What a resume must know: the rows that are done, what was meant for the others, and the first email of
    /// each member that was renamed. `again` counts failed and unknown rows as not done.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or the input was changed.
    pub fn before(
        &mut self,
        dir: &RunDir,
        again: bool,
    ) -> Result<(Before, FirstEmails), FilesError> {
        let mut before = Before {
            done: vec![false; self.states.len() + 1],
            ..Before::default()
        };
        let mut hashes: HashMap<u32, ContentHash> = HashMap::new();
        for row in 1..=self.head.rows {
            let end = self.row_end(row)?;
            let is_final = match end.record.outcome {
                Outcome::NotAttempted => false,
                Outcome::Unknown | Outcome::Failed if again => false,
                Outcome::Unknown => self.has_outcome(row),
                _ => true,
            };
            if let Some(done) = before.done.get_mut(row as usize) {
                *done = is_final;
            }
            if !is_final && let Some(intent) = self.intent(row)? {
                hashes.insert(row, intent.hash);
                before.intents.insert(row, Arc::new(intent));
            }
        }
        self.check_rows(dir, &hashes)?;
        let renamed = self
            .renamed
            .iter()
            .map(|(id, (first, _))| (id.clone(), first.clone()))
            .collect();
        Ok((before, renamed))
    }

    /// Rows that had an intent must still be those of which the intent was.
    fn check_rows(
        &self,
        dir: &RunDir,
        hashes: &HashMap<u32, ContentHash>,
    ) -> Result<(), FilesError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut rows = self.rows(dir)?;
        while let Some((place, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && hashes
                    .get(&place.number)
                    .is_some_and(|hash| hash.0 != row.content_hash())
            {
                return Err(FilesError::Changed {
                    path: dir.path().display().to_string(),
                    row: place.number,
                });
            }
        }
        Ok(())
    }

    fn has_outcome(&self, row: u32) -> bool {
        self.states
            .get(index(row))
            .is_some_and(|state| state.outcome > state.intent)
    }

    fn intent(&mut self, row: u32) -> Result<Option<Intent>, JournalError> {
        match self.states.get(index(row)).map(|state| state.intent) {
            None | Some(0) => Ok(None),
            Some(at) => match self.reader.record_at(at)? {
                Record::Intent(intent) => Ok(Some(intent)),
                _ => Ok(None),
            },
        }
    }

    /// The run's rows, from the copy in its directory.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn rows(&self, dir: &RunDir) -> Result<Rows, InputError> {
        open_rows(&self.head, dir)
    }

    /// Everything that the run changed, newest first, as the rows of a plan that puts it back.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or `each` fails.
    pub fn undo(
        &mut self,
        dir: &RunDir,
        mut each: impl FnMut(plan::PlanRow) -> io::Result<()>,
    ) -> Result<(), FilesError> {
        // Emails stand in the input alone; they are needed for the rows that are put back.
        let mut lines: Vec<(u32, u64, Box<str>)> = Vec::new();
        let mut rows = self.rows(dir)?;
        while let Some((place, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && self
                    .states
                    .get(index(place.number))
                    .is_some_and(|state| state.intent != 0)
            {
                lines.push((place.number, row.line, row.email));
            }
        }
        for (row, line, email) in lines.into_iter().rev() {
            let end = self.row_end(row)?;
            let Some(member) = end.record.member.clone().filter(|_| end.touched) else {
                continue;
            };
            let changes: Vec<Change> = end
                .changes
                .iter()
                .filter(|change| change.is_visible())
                .map(|change| Change {
                    field: change.field,
                    before: Some(change.after.clone()),
                    after: change.before.clone().unwrap_or_else(|| Value::text("")),
                })
                .collect();
            if changes.is_empty() {
                continue;
            }
            let email = self
                .renamed
                .get(&member)
                .map_or(email, |(_, last)| last.clone());
            each(plan::PlanRow {
                line,
                email,
                member,
                changes,
            })
            .map_err(|source| dir.error(source))?;
        }
        Ok(())
    }

    /// What a dry run would change, as the rows of a plan.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or `each` fails.
    pub fn previewed(
        &mut self,
        dir: &RunDir,
        mut each: impl FnMut(plan::PlanRow) -> io::Result<()>,
    ) -> Result<(), FilesError> {
        let mut rows = self.rows(dir)?;
        while let Some((place, entry)) = rows.next_entry()? {
            let Entry::Row(row) = entry else { continue };
            let end = self.row_end(place.number)?;
            if let Some(member) = end.record.member
                && end.record.outcome == Outcome::WouldUpdate
            {
                let changes = end.changes.to_vec();
                each(plan::PlanRow {
                    line: row.line,
                    email: row.email,
                    member,
                    changes,
                })
                .map_err(|source| dir.error(source))?;
            }
        }
        Ok(())
    }

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
            let message = record.message.as_deref().unwrap_or_default();
            results
                .write_record([
                    &*place.number.to_string(),
                    &*line.to_string(),
                    email,
                    record.member.as_deref().unwrap_or_default(),
                    record.outcome.name(),
                    &*record
                        .status
                        .map(|status| status.to_string())
                        .unwrap_or_default(),
                    &*record.attempts.to_string(),
                    &*changes,
                    message,
                ])
                .map_err(failing)?;
            if !record.outcome.is_success() {
                let (original, beyond) = original_cells(&rows, &entry, &fields);
                let told = [record.outcome.name(), message];
                let cells = original.iter().map(String::as_str).chain(told);
                failed
                    .write_record(cells.chain(beyond.iter().map(String::as_str)))
                    .map_err(failing)?;
            }
            if end.touched && end.changes.iter().any(Change::is_visible) {
                let email = record
                    .member
                    .as_ref()
                    .and_then(|member| self.renamed.get(member))
                    .filter(|_| end.touched)
                    .map_or(email, |(_, last)| last);
                let before = |field: &Field| {
                    let change = end
                        .changes
                        .iter()
                        .find(|change| change.field == *field && change.is_visible())?;
                    change.before.as_ref().map(ToString::to_string)
                };
                undo.write_record(
                    std::iter::once(email.to_string()).chain(
                        undoable
                            .iter()
                            .map(|field| before(field).unwrap_or_default()),
                    ),
                )
                .map_err(failing)?;
            }
            totals.count(line, email, &end);
        }
        for flushed in [results.flush(), failed.flush(), undo.flush()] {
            flushed.map_err(|source| dir.error(source))?;
        }
        Ok(())
    }
}

/// Where the state of a row stands; row 0, which is none, is beyond the end.
const fn index(row: u32) -> usize {
    (row as usize).wrapping_sub(1)
}

/// Opens the rows of a run in its directory.
///
/// # Errors
/// If they can't be read.
pub fn open_rows(head: &Head, dir: &RunDir) -> Result<Rows, InputError> {
    let delimiter = u8::try_from(head.delimiter).ok();
    match head.kind {
        InputKind::Csv => Table::open(&head.input, &dir.input(), delimiter, Some(head.rows))
            .map(|table| Rows::Csv(Box::new(table))),
        InputKind::Plan => plan::PlanReader::open(&head.input, &dir.plan(), Some(head.rows))
            .map(|plan| Rows::Plan(Box::new(plan))),
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

/// The cells of the row that was just read, for failed.csv, and those that the header has no columns for. A row with
/// too few cells gets one of these too: it must not become right by being written.
fn original_cells(rows: &Rows, entry: &Entry, fields: &[Field]) -> (Vec<String>, Vec<String>) {
    match (rows, entry) {
        (Rows::Csv(table), _) => {
            let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
            let (layout, cells) = (table.layout(), table.cells());
            let width = layout.header.len();
            let own = (0..width)
                .filter(|column| layout.is_read(*column))
                .map(|column| cells.get(column).map(text).unwrap_or_default());
            let mut beyond: Vec<String> = cells.iter().skip(width).map(text).collect();
            if cells.len() < width {
                beyond.push(String::new());
            }
            (own.collect(), beyond)
        }
        (Rows::Plan(_), Entry::Row(row)) => {
            let value = |field: &Field| {
                row.wants(*field)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            let own = std::iter::once(row.email.to_string()).chain(fields.iter().map(value));
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
        let _ = write!(text, "{}: ", change.field.column());
        match &change.before {
            Some(before) => {
                let _ = write!(text, "{before} → {}", change.after);
            }
            None => {
                let _ = write!(text, "→ {}", change.after);
            }
        }
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
        for piece in &ledger.sent {
            sent.requests += piece.requests;
            sent.retries += piece.retries;
            sent.seconds += piece.seconds;
            for (status, count) in &piece.by_status {
                *sent.by_status.entry(*status).or_default() += count;
            }
        }
        Self {
            sent,
            started_at: ledger.head.started_at.clone(),
            ended: ledger.ended.clone(),
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

    fn count(&mut self, line: u64, email: &str, end: &RowEnd) {
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
        let message = end.record.message.as_deref().unwrap_or_default();
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
