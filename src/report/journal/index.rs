//! Where each row's last words stand in the journal: all that is kept of it in memory, 13 bytes a row.
//!
//! Made while the journal is written, or of one that is read.

use std::collections::HashMap;

use super::record::{Ended, Glance, Rename, Sent};

/// The email that each member had when the run began, for those that were renamed, by id.
pub type FirstEmails = HashMap<Box<str>, Box<str>>;

/// An offset into the journal: six bytes are enough for 256 TiB, and there are two for each row. 0 is none, for there the
/// head stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offset([u8; 6]);

impl Offset {
    fn new(at: u64) -> Self {
        at.to_le_bytes()
            .first_chunk()
            .copied()
            .map_or_else(Self::default, Self)
    }

    fn get(self) -> u64 {
        self.0
            .iter()
            .rev()
            .fold(0, |at, byte| at << 8 | u64::from(*byte))
    }
}

/// What the journal says of a row.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Where its last outcome stands.
    outcome: Offset,
    /// Where its last intent stands.
    intent: Offset,
    /// How many of its intents may have been sent.
    sent: u8,
}

/// Where a row's records stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The last outcome.
    pub outcome: Option<u64>,
    /// The last intent of which something may have been sent.
    pub intent: Option<u64>,
}

impl Places {
    /// Whether the outcome is that of the intent: one behind it is another try, which has no outcome yet.
    #[must_use]
    pub fn is_settled(self) -> bool {
        self.outcome > self.intent
    }
}

/// What a journal holds, and where.
#[derive(Debug)]
pub struct Index {
    states: Vec<State>,
    /// The first and the last email of each member that was renamed, by id.
    renamed: HashMap<Box<str>, (Box<str>, Box<str>)>,
    /// What each piece of the run has sent.
    sent: Vec<Sent>,
    ended: Option<Ended>,
}

impl Index {
    /// The index of a journal that holds a head alone.
    #[must_use]
    pub fn new(rows: u32) -> Self {
        Self {
            states: vec![State::default(); rows as usize],
            renamed: HashMap::new(),
            sent: vec![Sent::default()],
            ended: None,
        }
    }

    /// Takes note of the record at this offset.
    pub fn note(&mut self, at: u64, glance: Glance) {
        match glance {
            Glance::Head(_) => {}
            Glance::Resumed => {
                self.sent.push(Sent::default());
                self.ended = None;
            }
            Glance::Intent(row, rename) => {
                if let Some(state) = self.state(row) {
                    state.intent = Offset::new(at);
                    state.sent = state.sent.saturating_add(1);
                }
                if let Some(Rename {
                    member,
                    before,
                    after,
                }) = rename
                {
                    self.renamed
                        .entry(member)
                        .and_modify(|(_, last)| last.clone_from(&after))
                        .or_insert((before, after));
                }
            }
            Glance::Outcome(row) => {
                if let Some(state) = self.state(row) {
                    state.outcome = Offset::new(at);
                }
            }
            Glance::Abandoned(row) => {
                if let Some(state) = self.state(row) {
                    state.sent = state.sent.saturating_sub(1);
                    if state.sent == 0 {
                        state.intent = Offset::default();
                    }
                }
            }
            Glance::Sent(now) => self.set_sent(now),
            Glance::Ended(ended) => self.ended = Some(ended),
        }
    }

    /// What the last piece of the run has sent.
    pub fn set_sent(&mut self, sent: Sent) {
        if let Some(last) = self.sent.last_mut() {
            *last = sent;
        }
    }

    /// Where a row's records stand.
    #[must_use]
    pub fn places(&self, row: u32) -> Places {
        let state = self.states.get(place(row)).copied().unwrap_or_default();
        let some = |offset: Offset| Some(offset.get()).filter(|at| *at > 0);
        Places {
            outcome: some(state.outcome),
            intent: some(state.intent),
        }
    }

    /// The first and the last email of a member that was renamed.
    #[must_use]
    pub fn renamed(&self, member: &str) -> Option<(&str, &str)> {
        self.renamed
            .get(member)
            .map(|(first, last)| (&**first, &**last))
    }

    /// The first email of each member that was renamed.
    #[must_use]
    pub fn first_emails(&self) -> FirstEmails {
        self.renamed
            .iter()
            .map(|(id, (first, _))| (id.clone(), first.clone()))
            .collect()
    }

    /// What each piece of the run has sent.
    #[must_use]
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// How the last piece of the run ended, if that is recorded.
    #[must_use]
    pub const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    fn state(&mut self, row: u32) -> Option<&mut State> {
        self.states.get_mut(place(row))
    }
}

/// Where the state of a row stands; row 0, which is none, is beyond the end.
const fn place(row: u32) -> usize {
    (row as usize).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_intent_is_none_and_one_behind_an_outcome_is_another_try() {
        let mut index = Index::new(2);
        index.note(0xFFFF_0000_0001, Glance::Intent(2, None));
        assert_eq!(index.places(2).intent, Some(0xFFFF_0000_0001));
        assert!(!index.places(2).is_settled());
        index.note(0xFFFF_0000_0002, Glance::Outcome(2));
        assert!(index.places(2).is_settled());
        index.note(0xFFFF_0000_0003, Glance::Intent(2, None));
        assert!(!index.places(2).is_settled());
        index.note(0xFFFF_0000_0004, Glance::Abandoned(2));
        assert_eq!(
            index.places(2).intent,
            Some(0xFFFF_0000_0003),
            "the first of the two may have been sent"
        );
        assert_eq!(index.places(1), Places::default());
        index.note(9, Glance::Intent(1, None));
        index.note(10, Glance::Abandoned(1));
        assert_eq!(index.places(1), Places::default());
        for none in [0, 3] {
            index.note(11, Glance::Outcome(none));
            assert_eq!(index.places(none), Places::default());
        }
    }
}
