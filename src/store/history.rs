//! The history of a run: what became of each row, read back from the journal. Results, resumes, undos and saved plans
//! are made from it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::journal::{
    Head, InputKind, JournalError, JournalExtent, JournalIndex, JournalReader, Record,
    RecordOffsets, RequestTotals,
};
use super::{RunDir, RunDirError};
use crate::event::{ContentHash, Intent, ResumeState};
use crate::input::{Entry, InputError, Rows, Table, TableOptions, plan};
use crate::model::{Change, Effect, Outcome, RowOutcome, Value};

/// A run's history can't be read, or files can't be made of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(
        "{path}: row {row} is not the row that was sent: the input in the run directory was changed"
    )]
    Changed { path: String, row: u32 },
}

/// The emails that members had when the run started, for those that the run renames; by id.
pub(crate) type FirstEmails = HashMap<Box<str>, Box<str>>;

/// A member to whom the run gives another email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rename {
    /// The email when the run started.
    pub first: Box<str>,
    /// The other email.
    pub last: Box<str>,
    /// What became of it.
    pub effect: Effect,
}

impl Rename {
    const fn is_applied(&self) -> bool {
        matches!(self.effect, Effect::Applied)
    }

    /// Returns the email that the member has now, if it was renamed or may have been.
    pub(crate) fn email_now(&self) -> Option<&str> {
        (self.effect != Effect::None).then_some(&self.last)
    }
}

/// The members to whom the run gives other emails, by id.
#[derive(Debug, Default)]
pub(crate) struct Renames(HashMap<Box<str>, Rename>);

impl Renames {
    /// Returns the rename of a member.
    pub(crate) fn of(&self, member: &str) -> Option<&Rename> {
        self.0.get(member)
    }

    /// Returns the rename of a member, if it was applied.
    pub(crate) fn applied_to(&self, member: &str) -> Option<&Rename> {
        self.0.get(member).filter(|rename| rename.is_applied())
    }

    /// Returns the renames that were applied.
    pub(crate) fn applied(&self) -> impl Iterator<Item = &Rename> {
        self.0.values().filter(|rename| rename.is_applied())
    }
}

/// The history of a run that no process is writing to.
#[derive(Debug)]
pub(crate) struct RunHistory {
    head: Head,
    reader: JournalReader,
    index: JournalIndex,
    extent: JournalExtent,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowHistory {
    /// The outcome with its changes. A row without a recorded outcome was not attempted, or is unknown if an update
    /// may have been sent.
    pub outcome: RowOutcome,
    /// Whether the member may have been changed.
    pub is_touched: bool,
    /// Whether the outcome is recorded. Otherwise a resume goes on with the row.
    pub is_settled: bool,
}

impl RunHistory {
    /// Reads the journal of a run.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub(crate) fn read(dir: &RunDir) -> Result<Self, HistoryError> {
        let (mut reader, head) = JournalReader::open(&dir.journal())?;
        let mut index = JournalIndex::new(head.rows);
        while let Some((at, record)) = reader.next_record()? {
            index.add(at, &record);
        }
        Ok(Self::new(head, reader, index))
    }

    /// Opens the journal of a run that was just written, and whose index is known.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn written(dir: &RunDir, index: JournalIndex) -> Result<Self, HistoryError> {
        let (reader, head) = JournalReader::open(&dir.journal())?;
        Ok(Self::new(head, reader, index))
    }

    fn new(mut head: Head, reader: JournalReader, index: JournalIndex) -> Self {
        if let (None, Some(id)) = (&head.organization, index.organization()) {
            head.organization = Some(id.to_owned());
        }
        Self {
            head,
            extent: reader.extent(),
            reader,
            index,
        }
    }

    /// Returns what the run is bound to.
    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the index of the journal.
    pub(crate) const fn index(&self) -> &JournalIndex {
        &self.index
    }

    /// Returns how far the journal was read, and its index: what is needed to append to it.
    pub(crate) fn into_parts(self) -> (JournalExtent, JournalIndex) {
        (self.extent, self.index)
    }

    /// Sets what the last session has sent, if more is known than could be recorded.
    pub(crate) fn set_totals(&mut self, totals: RequestTotals) {
        self.index.set_totals(totals);
    }

    /// Returns what became of a row.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub(crate) fn row(&mut self, row: u32) -> Result<RowHistory, JournalError> {
        let offsets = self.index.offsets(row);
        let intent = self.intent(offsets)?;
        let recorded = match offsets.outcome.filter(|_| offsets.is_settled()) {
            None => None,
            Some(at) => match self.reader.record_at(at)? {
                Record::Outcome(outcome) => Some(outcome),
                _ => None,
            },
        };
        let is_settled = recorded.is_some();
        let mut outcome = recorded.unwrap_or_else(|| without_outcome(row, intent.is_some()));
        let is_touched = intent.is_some() && outcome.effect() != Effect::None;
        if let Some(intent) = intent {
            if outcome.changes.is_empty() && (is_touched || outcome.outcome == Outcome::Failed) {
                outcome.changes = intent.changes;
            }
            outcome.member_id.get_or_insert(intent.member_id);
        }
        Ok(RowHistory {
            outcome,
            is_touched,
            is_settled,
        })
    }

    /// Returns the row's last intent, if its update may have been sent.
    fn intent(&mut self, offsets: RecordOffsets) -> Result<Option<Intent>, JournalError> {
        let Some(at) = offsets.intent else {
            return Ok(None);
        };
        match self.reader.record_at(at)? {
            Record::Intent(intent) => Ok(Some(intent)),
            _ => Ok(None),
        }
    }

    /// Returns the members to whom the run gives other emails. If two rows rename one member, the later row counts.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub(crate) fn renames(&mut self) -> Result<Renames, JournalError> {
        let mut all = Renames::default();
        let renames: Vec<(u32, Effect)> = self.index.renames().collect();
        for (row, effect) in renames {
            let offsets = self.index.offsets(row);
            let Some(intent) = self.intent(offsets)? else {
                continue;
            };
            if let Some(Change {
                before: Some(Value::Text(first)),
                after: Value::Text(last),
                ..
            }) = intent.rename()
            {
                let rename = Rename {
                    first: first.clone(),
                    last: last.clone(),
                    effect,
                };
                all.0.insert(intent.member_id, rename);
            }
        }
        Ok(all)
    }

    /// Returns what a resume must know: which rows are done, the intents of the others, and the first email of each
    /// member that was renamed. With `only_failed`, failed and unknown rows count as not done.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or the input was changed.
    pub(crate) fn resume_state(
        &mut self,
        dir: &RunDir,
        only_failed: bool,
    ) -> Result<(ResumeState, FirstEmails), HistoryError> {
        let mut state = ResumeState {
            done: vec![false; self.head.rows as usize + 1],
            ..ResumeState::default()
        };
        let mut hashes: HashMap<u32, ContentHash> = HashMap::new();
        for row in 1..=self.head.rows {
            let offsets = self.index.offsets(row);
            let is_done = match self.row(row)?.outcome.outcome {
                Outcome::NotAttempted => false,
                Outcome::Unknown | Outcome::Failed if only_failed => false,
                Outcome::Unknown => offsets.is_settled(),
                _ => true,
            };
            if let Some(done) = state.done.get_mut(row as usize) {
                *done = is_done;
            }
            if !is_done && let Some(intent) = self.intent(offsets)? {
                hashes.insert(row, intent.hash);
                state.intents.insert(row, Arc::new(intent));
            }
        }
        self.check_rows(dir, &hashes)?;
        let renames = self.renames()?.0.into_iter();
        let first_emails = renames.map(|(member, rename)| (member, rename.first));
        Ok((state, first_emails.collect()))
    }

    /// Checks that the rows with an intent are still those for which the intent was recorded.
    fn check_rows(
        &self,
        dir: &RunDir,
        hashes: &HashMap<u32, ContentHash>,
    ) -> Result<(), HistoryError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut rows = self.rows(dir)?;
        while let Some((position, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && hashes
                    .get(&position.number)
                    .is_some_and(|hash| hash.0 != row.content_hash())
            {
                return Err(HistoryError::Changed {
                    path: dir.path().display().to_string(),
                    row: position.number,
                });
            }
        }
        Ok(())
    }

    /// Opens the run's rows, from the copy in its directory.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn rows(&self, dir: &RunDir) -> Result<Rows, InputError> {
        open_rows(&self.head, dir)
    }

    /// Passes everything that the run changed to `each`, newest first, as the rows of a plan that restores it.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or `each` fails.
    pub(crate) fn undo(
        &mut self,
        dir: &RunDir,
        mut each: impl FnMut(plan::PlanRow) -> io::Result<()>,
    ) -> Result<(), HistoryError> {
        let renames = self.renames()?;
        // Only the input holds the emails of the rows.
        let mut lines: Vec<(u32, u64, Box<str>)> = Vec::new();
        let mut rows = self.rows(dir)?;
        while let Some((position, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && self.index.offsets(position.number).intent.is_some()
            {
                lines.push((position.number, row.line, row.email));
            }
        }
        for (row, line, email) in lines.into_iter().rev() {
            let RowHistory {
                outcome,
                is_touched,
                ..
            } = self.row(row)?;
            let Some(member) = outcome.member_id.filter(|_| is_touched) else {
                continue;
            };
            let changes: Vec<Change> = outcome
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
            each(plan::PlanRow {
                line,
                email: renames
                    .of(&member)
                    .and_then(Rename::email_now)
                    .map_or(email, Into::into),
                member,
                changes,
            })
            .map_err(|source| dir.error(source))?;
        }
        Ok(())
    }

    /// Passes what a dry run would change to `each`, as the rows of a plan.
    ///
    /// # Errors
    /// If the journal or the input can't be read, or `each` fails.
    pub(crate) fn previewed(
        &mut self,
        dir: &RunDir,
        mut each: impl FnMut(plan::PlanRow) -> io::Result<()>,
    ) -> Result<(), HistoryError> {
        let mut rows = self.rows(dir)?;
        while let Some((position, entry)) = rows.next_entry()? {
            let Entry::Row(row) = entry else { continue };
            let outcome = self.row(position.number)?.outcome;
            if let Some(member) = outcome.member_id
                && outcome.outcome == Outcome::WouldUpdate
            {
                each(plan::PlanRow {
                    line: row.line,
                    email: row.email,
                    member,
                    changes: outcome.changes.to_vec(),
                })
                .map_err(|source| dir.error(source))?;
            }
        }
        Ok(())
    }
}

/// Returns the outcome of a row for which none is recorded.
fn without_outcome(row: u32, has_intent: bool) -> RowOutcome {
    let (outcome, message) = if has_intent {
        (
            Outcome::Unknown,
            "the run ended before the answer was recorded; a resume reads the member again",
        )
    } else {
        (Outcome::NotAttempted, "the run stopped before this row")
    };
    RowOutcome {
        attempts: u32::from(has_intent),
        ..RowOutcome::new(row, outcome, Some(message.into()))
    }
}

/// Opens the rows of a run in its directory.
///
/// # Errors
/// If they can't be read.
pub(crate) fn open_rows(head: &Head, dir: &RunDir) -> Result<Rows, InputError> {
    match head.kind {
        InputKind::Csv => {
            let options = TableOptions {
                delimiter: u8::try_from(head.delimiter).ok(),
                limit: Some(head.rows),
                columns: head.columns.clone(),
            };
            Table::open(&head.input, &dir.input(), &options).map(|table| Rows::Csv(Box::new(table)))
        }
        InputKind::Plan => plan::PlanReader::open(&head.input, &dir.plan(), Some(head.rows))
            .map(|plan| Rows::Plan(Box::new(plan))),
    }
}
