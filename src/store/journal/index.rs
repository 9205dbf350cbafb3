//! Where the last records of each row stand in the journal. It is all that is kept of the journal in memory, 24 bytes
//! a row, and is built while the journal is written or read.
//!
//! The states of a row, by its records:
//!
//! ```text
//!                 intent                       outcome
//!  (no record) ───────────► open attempt ───────────────► settled
//!       ▲  │                  │     ▲                      │   │
//!       │  │ outcome          │     └──────── intent ──────┘   │
//!       │  └──────────────────┼────────────────────────────────┘
//!       └──── abandoned ──────┘  (an earlier attempt or outcome counts again)
//! ```

use std::num::NonZeroU64;

use super::record::{Record, RequestTotals, Sample, SessionEnd};
use crate::model::Effect;

/// An offset into the journal. No record of a row stands at 0, because the head does.
type Offset = NonZeroU64;

/// What the journal holds about a row.
#[derive(Clone, Copy, Debug, Default)]
struct RowEntry {
    /// Where its last outcome stands.
    outcome: Option<Offset>,
    /// Where its last intent stands.
    intent: Option<Offset>,
    /// How many of its intents may have been sent.
    sent: u8,
    /// How many of these come after its last outcome.
    open: u8,
    /// What became of the rename that its intent announced, if it did.
    rename: Option<Effect>,
}

/// Where the records of a row stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordOffsets {
    /// The last outcome.
    pub outcome: Option<u64>,
    /// The last intent, if an update may have been sent.
    pub intent: Option<u64>,
    /// Whether an intent comes after the outcome: a new attempt that has no outcome yet.
    pub is_open: bool,
}

impl RecordOffsets {
    /// Returns whether the row has an outcome and no attempt since.
    pub(crate) const fn is_settled(self) -> bool {
        self.outcome.is_some() && !self.is_open
    }
}

/// What a journal holds, and where.
#[derive(Debug)]
pub(crate) struct JournalIndex {
    rows: Vec<RowEntry>,
    /// The organization of a run that was not bound when it started.
    organization: Option<String>,
    /// The sessions of the run, of which there is at least one.
    sessions: Vec<SessionHistory>,
}

/// What the journal holds about a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SessionHistory {
    /// When it started, RFC 3339 in UTC. The first one started when the run did.
    pub resumed_at: Option<String>,
    /// What it has sent.
    pub totals: RequestTotals,
    /// How it ended, if that is recorded.
    pub ended: Option<SessionEnd>,
    /// What it was doing, second by second.
    pub samples: Vec<Sample>,
}

impl JournalIndex {
    /// Returns the index of a journal that holds only its head.
    pub(crate) fn new(rows: u32) -> Self {
        Self {
            rows: vec![RowEntry::default(); rows as usize],
            organization: None,
            sessions: vec![SessionHistory::default()],
        }
    }

    /// Adds the record at this offset.
    pub(crate) fn add(&mut self, at: u64, record: &Record) {
        match record {
            Record::Head(_) => {}
            Record::Resumed(at) => self.sessions.push(SessionHistory {
                resumed_at: Some(at.clone()),
                ..SessionHistory::default()
            }),
            Record::Intent(intent) => {
                if let Some(entry) = self.entry(intent.row) {
                    entry.intent = Offset::new(at);
                    entry.sent = entry.sent.saturating_add(1);
                    entry.open = entry.open.saturating_add(1);
                    if intent.rename().is_some() {
                        entry.rename = Some(Effect::Possible);
                    }
                }
            }
            Record::Outcome(outcome) => {
                if let Some(entry) = self.entry(outcome.row) {
                    entry.outcome = Offset::new(at);
                    entry.open = 0;
                    entry.rename = entry.rename.map(|_| outcome.rename_effect());
                }
            }
            Record::Abandoned(row) => {
                if let Some(entry) = self.entry(*row) {
                    entry.sent = entry.sent.saturating_sub(1);
                    entry.open = entry.open.saturating_sub(1);
                    if entry.sent == 0 {
                        entry.intent = None;
                        entry.rename = None;
                    }
                }
            }
            Record::Organization(id) => self.organization = Some(id.clone()),
            Record::Totals(totals) => self.set_totals(totals.clone()),
            Record::Sample(sample) => {
                if let Some(session) = self.sessions.last_mut() {
                    session.samples.push(sample.clone());
                }
            }
            Record::Ended(ended) => {
                if let Some(session) = self.sessions.last_mut() {
                    session.ended = Some(ended.clone());
                }
            }
        }
    }

    /// Sets what the last session has sent.
    pub(crate) fn set_totals(&mut self, totals: RequestTotals) {
        if let Some(session) = self.sessions.last_mut() {
            session.totals = totals;
        }
    }

    /// Returns where the records of a row stand.
    pub(crate) fn offsets(&self, row: u32) -> RecordOffsets {
        let entry = self.rows.get(place(row)).copied().unwrap_or_default();
        RecordOffsets {
            outcome: entry.outcome.map(Offset::get),
            intent: entry.intent.map(Offset::get),
            is_open: entry.open > 0,
        }
    }

    /// Returns the rows whose intents rename a member, and what became of the renames.
    pub(crate) fn renames(&self) -> impl Iterator<Item = (u32, Effect)> {
        (1..)
            .zip(&self.rows)
            .filter_map(|(row, entry)| Some((row, entry.rename?)))
    }

    /// Returns the organization of a run that was not bound when it started.
    pub(crate) fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// Returns the sessions of the run.
    pub(crate) fn sessions(&self) -> &[SessionHistory] {
        &self.sessions
    }

    fn entry(&mut self, row: u32) -> Option<&mut RowEntry> {
        self.rows.get_mut(place(row))
    }
}

/// The index of a row's entry. Row 0, which does not exist, is beyond the end.
const fn place(row: u32) -> usize {
    (row as usize).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ContentHash, Intent};
    use crate::model::{Change, Field, Outcome, RowOutcome, Value};

    fn intent(row: u32, field: Field) -> Record {
        let change = Change {
            field,
            before: None,
            after: Value::text("new"),
        };
        Record::Intent(Intent {
            row,
            hash: ContentHash(0),
            member_id: "m".into(),
            changes: [change].into(),
        })
    }

    fn outcome(row: u32, outcome: Outcome) -> Record {
        Record::Outcome(RowOutcome {
            attempts: 1,
            ..RowOutcome::new(row, outcome, None)
        })
    }

    const NAME: Field = Field::FirstName;

    #[test]
    fn an_abandoned_intent_is_void_and_a_late_one_is_open() {
        let mut index = JournalIndex::new(2);
        index.add(1 << 47, &intent(2, NAME));
        assert_eq!(index.offsets(2).intent, Some(1 << 47));
        assert!(!index.offsets(2).is_settled());
        index.add(2, &outcome(2, Outcome::Failed));
        assert!(index.offsets(2).is_settled());
        index.add(3, &intent(2, NAME));
        assert!(!index.offsets(2).is_settled());
        index.add(4, &Record::Abandoned(2));
        // The first of the two intents may have been sent, and it has its outcome.
        assert_eq!(index.offsets(2).intent, Some(3));
        assert!(index.offsets(2).is_settled());
        assert_eq!(index.offsets(1), RecordOffsets::default());
        index.add(9, &intent(1, NAME));
        index.add(10, &Record::Abandoned(1));
        assert_eq!(index.offsets(1), RecordOffsets::default());
        for none in [0, 3] {
            index.add(11, &outcome(none, Outcome::Failed));
            assert_eq!(index.offsets(none), RecordOffsets::default());
        }
    }

    #[test]
    fn a_rename_is_possible_until_its_outcome_is_known() {
        let mut index = JournalIndex::new(2);
        let renames = |index: &JournalIndex| index.renames().collect::<Vec<_>>();
        index.add(1, &intent(1, Field::Email));
        assert_eq!(renames(&index), [(1, Effect::Possible)]);
        index.add(2, &Record::Abandoned(1));
        assert_eq!(renames(&index), []);
        index.add(3, &intent(1, Field::Email));
        index.add(4, &outcome(1, Outcome::Failed));
        index.add(5, &intent(2, Field::Email));
        index.add(6, &outcome(2, Outcome::Updated));
        let both = [(1, Effect::None), (2, Effect::Applied)];
        assert_eq!(renames(&index), both);
    }
}
