//! What a run came to, row by row, out of its journal: for its files, for a resume, for an undo.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::RunDir;
use super::journal::{
    Effect, Extent, Head, Index, InputKind, JournalError, JournalReader, OutcomeRecord, Places,
    Record, Sent, Text,
};
use super::rundir::RunDirError;
use crate::change::{Change, Outcome, Value};
use crate::event::{Before, ContentHash, Intent};
use crate::input::{Entry, InputError, Rows, Table, plan};

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

/// A member to whom the run gives another email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The email when the run began.
    pub first: Box<str>,
    /// The other one.
    pub last: Box<str>,
    /// The row that asks for it.
    pub row: u32,
    /// What became of it.
    pub effect: Effect,
}

impl Renamed {
    const fn is_done(&self) -> bool {
        matches!(self.effect, Effect::Done)
    }
}

/// The members to whom the run gives other emails, by id.
#[derive(Debug, Default)]
pub struct Renames(HashMap<Box<str>, Renamed>);

impl Renames {
    /// The email that a member has now, if it was renamed, or may have been.
    #[must_use]
    pub fn email_now(&self, member: &str) -> Option<&str> {
        self.0
            .get(member)
            .filter(|renamed| renamed.effect != Effect::None)
            .map(|renamed| &*renamed.last)
    }

    /// The member's, if it was done.
    #[must_use]
    pub fn done_to(&self, member: &str) -> Option<&Renamed> {
        self.0.get(member).filter(|renamed| renamed.is_done())
    }

    /// Those that were done.
    pub fn done(&self) -> impl Iterator<Item = &Renamed> {
        self.0.values().filter(|renamed| renamed.is_done())
    }
}

/// The journal of a run that is not being written.
#[derive(Debug)]
pub struct Ledger {
    head: Head,
    records: Records,
    index: Index,
    extent: Extent,
}

/// The journal's records, read where they stand.
#[derive(Debug)]
struct Records {
    reader: JournalReader,
    /// The lines of a row's intent and of its outcome.
    intent: Vec<u8>,
    outcome: Vec<u8>,
}

/// What a row came to.
#[derive(Debug)]
pub struct RowEnd<'l> {
    /// Its outcome; one that has none was not attempted, or is unknown if an intent may have been sent.
    pub record: OutcomeRecord<'l>,
    /// What was sent, or would be.
    pub changes: Arc<[Change]>,
    /// Whether the member may have been changed.
    pub touched: bool,
}

impl Records {
    const fn new(reader: JournalReader) -> Self {
        Self {
            reader,
            intent: Vec::new(),
            outcome: Vec::new(),
        }
    }

    /// The row's end, whose records stand there.
    fn row_end(&mut self, row: u32, places: Places) -> Result<RowEnd<'_>, JournalError> {
        let intent = self.intent(places)?;
        let record = match places.outcome.filter(|_| places.is_settled()) {
            None => None,
            Some(at) => match self.reader.record_at(at, &mut self.outcome)? {
                Record::Outcome(outcome) => Some(outcome),
                _ => None,
            },
        };
        let mut record = record.unwrap_or_else(|| without_outcome(row, intent.as_ref()));
        if let (None, Some(intent)) = (&record.member, &intent) {
            record.member = Some(Text::from(intent.member_id.clone()));
        }
        let touched = intent.is_some() && record.effect() != Effect::None;
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

    /// The row's last intent, if something of it may have been sent.
    fn intent(&mut self, places: Places) -> Result<Option<Intent>, JournalError> {
        let Some(at) = places.intent else {
            return Ok(None);
        };
        match self.reader.record_at(at, &mut self.intent)? {
            Record::Intent(intent) => Ok(Some(intent)),
            _ => Ok(None),
        }
    }
}

/// What became of a row that has no outcome.
fn without_outcome(row: u32, intent: Option<&Intent>) -> OutcomeRecord<'static> {
    let (outcome, message) = match intent {
        Some(_) => (
            Outcome::Unknown,
            "the run ended before the answer was recorded; a resume reads the member again",
        ),
        None => (Outcome::NotAttempted, "the run stopped before this row"),
    };
    OutcomeRecord {
        row,
        outcome,
        member: None,
        status: None,
        attempts: u32::from(intent.is_some()),
        partly: false,
        changes: None,
        message: Some(Text(message.into())),
    }
}

impl Ledger {
    /// Reads the journal of a run.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub fn read(dir: &RunDir) -> Result<Self, FilesError> {
        let (mut reader, head) = JournalReader::open(&dir.journal())?;
        let mut index = Index::new(head.rows);
        while let Some((at, glance)) = reader.next_glance()? {
            index.note(at, glance);
        }
        Ok(Self::new(head, reader, index))
    }

    /// The journal of a run that has just been written, which is what `index` says.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn written(dir: &RunDir, index: Index) -> Result<Self, FilesError> {
        let (reader, head) = JournalReader::open(&dir.journal())?;
        Ok(Self::new(head, reader, index))
    }

    fn new(mut head: Head, reader: JournalReader, index: Index) -> Self {
        if let (None, Some(id)) = (&head.organization, index.organization()) {
            head.organization = Some(id.to_owned());
        }
        Self {
            head,
            extent: reader.extent(),
            records: Records::new(reader),
            index,
        }
    }

    /// What binds the run.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// What the journal holds.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// How far the journal was read, and what it holds: to go on with it.
    #[must_use]
    pub fn into_parts(self) -> (Extent, Index) {
        (self.extent, self.index)
    }

    /// What the last piece of the run has sent, if more is known of that than could be recorded.
    pub fn set_sent(&mut self, sent: Sent) {
        self.index.set_sent(sent);
    }

    /// The row's end.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn row_end(&mut self, row: u32) -> Result<RowEnd<'_>, JournalError> {
        self.records.row_end(row, self.index.places(row))
    }

    /// The members to whom the run gives other emails. Of two rows that ask for the same one, the later tells.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn renames(&mut self) -> Result<Renames, JournalError> {
        let mut all = Renames::default();
        for (row, effect) in self.index.renames() {
            let Some(intent) = self.records.intent(self.index.places(row))? else {
                continue;
            };
            if let Some(Change {
                before: Some(Value::Text(first)),
                after: Value::Text(last),
                ..
            }) = intent.rename()
            {
                let (first, last) = (first.clone(), last.clone());
                let renamed = Renamed {
                    first,
                    last,
                    row,
                    effect,
                };
                all.0.insert(intent.member_id, renamed);
            }
        }
        Ok(all)
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
            done: vec![false; self.head.rows as usize + 1],
            ..Before::default()
        };
        let mut hashes: HashMap<u32, ContentHash> = HashMap::new();
        for row in 1..=self.head.rows {
            let places = self.index.places(row);
            let is_final = match self.records.row_end(row, places)?.record.outcome {
                Outcome::NotAttempted => false,
                Outcome::Unknown | Outcome::Failed if again => false,
                Outcome::Unknown => places.is_settled(),
                _ => true,
            };
            if let Some(done) = before.done.get_mut(row as usize) {
                *done = is_final;
            }
            if !is_final && let Some(intent) = self.records.intent(places)? {
                hashes.insert(row, intent.hash);
                before.intents.insert(row, Arc::new(intent));
            }
        }
        self.check_rows(dir, &hashes)?;
        let renames = self.renames()?.0.into_iter();
        let first_emails = renames.map(|(member, renamed)| (member, renamed.first));
        Ok((before, first_emails.collect()))
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
        let renames = self.renames()?;
        // Emails stand in the input alone; they are needed for the rows that are put back.
        let mut lines: Vec<(u32, u64, Box<str>)> = Vec::new();
        let mut rows = self.rows(dir)?;
        while let Some((place, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && self.index.places(place.number).intent.is_some()
            {
                lines.push((place.number, row.line, row.email));
            }
        }
        for (row, line, email) in lines.into_iter().rev() {
            let end = self.row_end(row)?;
            let Some(member) = end.record.member().filter(|_| end.touched) else {
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
            each(plan::PlanRow {
                line,
                email: renames.email_now(member).map_or(email, Into::into),
                member: member.into(),
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
            if let Some(member) = end.record.member()
                && end.record.outcome == Outcome::WouldUpdate
            {
                each(plan::PlanRow {
                    line: row.line,
                    email: row.email,
                    member: member.into(),
                    changes: end.changes.to_vec(),
                })
                .map_err(|source| dir.error(source))?;
            }
        }
        Ok(())
    }
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
