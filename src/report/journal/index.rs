//! Where each row's last words stand in the journal: all that is kept of it in memory, 15 bytes a row.
//!
//! Made while the journal is written, or of one that is read.

use super::record::{Effect, Ended, Glance, Sent};

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
    /// How many of these stand behind its last outcome.
    open: u8,
    /// What became of the rename that it asks for, if it does.
    rename: Option<Effect>,
}

/// Where a row's records stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The last outcome.
    pub outcome: Option<u64>,
    /// The last intent, if something of one may have been sent.
    pub intent: Option<u64>,
    /// Whether an intent behind the outcome is another try, which has no outcome yet.
    pub is_open: bool,
}

impl Places {
    /// Whether the row has an outcome, and no try since.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        self.outcome.is_some() && !self.is_open
    }
}

/// What a journal holds, and where.
#[derive(Debug)]
pub struct Index {
    states: Vec<State>,
    /// The organization of a run that was not bound at its start.
    organization: Option<String>,
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
            organization: None,
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
            Glance::Intent(row, is_rename) => {
                if let Some(state) = self.state(row) {
                    state.intent = Offset::new(at);
                    state.sent = state.sent.saturating_add(1);
                    state.open = state.open.saturating_add(1);
                    if is_rename {
                        state.rename = Some(Effect::Possible);
                    }
                }
            }
            Glance::Outcome(row, effect) => {
                if let Some(state) = self.state(row) {
                    state.outcome = Offset::new(at);
                    state.open = 0;
                    state.rename = state.rename.map(|_| effect);
                }
            }
            Glance::Abandoned(row) => {
                if let Some(state) = self.state(row) {
                    state.sent = state.sent.saturating_sub(1);
                    state.open = state.open.saturating_sub(1);
                    if state.sent == 0 {
                        state.intent = Offset::default();
                        state.rename = None;
                    }
                }
            }
            Glance::Organization(id) => self.organization = Some(id),
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
            is_open: state.open > 0,
        }
    }

    /// The rows that ask for a rename of which something may have been sent, and what became of it.
    pub fn renames(&self) -> impl Iterator<Item = (u32, Effect)> {
        (1..)
            .zip(&self.states)
            .filter_map(|(row, state)| Some((row, state.rename?)))
    }

    /// The organization of a run that was not bound at its start.
    #[must_use]
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
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

    const OUTCOME: fn(u32) -> Glance = |row| Glance::Outcome(row, Effect::None);

    #[test]
    fn an_abandoned_intent_is_none_and_one_behind_an_outcome_is_another_try() {
        let mut index = Index::new(2);
        index.note(0xFFFF_0000_0001, Glance::Intent(2, false));
        assert_eq!(index.places(2).intent, Some(0xFFFF_0000_0001));
        assert!(!index.places(2).is_settled());
        index.note(0xFFFF_0000_0002, OUTCOME(2));
        assert!(index.places(2).is_settled());
        index.note(0xFFFF_0000_0003, Glance::Intent(2, false));
        assert!(!index.places(2).is_settled());
        index.note(0xFFFF_0000_0004, Glance::Abandoned(2));
        // The first of the two may have been sent, and it has its outcome.
        assert_eq!(index.places(2).intent, Some(0xFFFF_0000_0003));
        assert!(index.places(2).is_settled());
        assert_eq!(index.places(1), Places::default());
        index.note(9, Glance::Intent(1, false));
        index.note(10, Glance::Abandoned(1));
        assert_eq!(index.places(1), Places::default());
        for none in [0, 3] {
            index.note(11, OUTCOME(none));
            assert_eq!(index.places(none), Places::default());
        }
    }

    #[test]
    fn a_rename_is_possible_until_its_outcome_is_known() {
        let mut index = Index::new(2);
        let renames = |index: &Index| index.renames().collect::<Vec<_>>();
        index.note(1, Glance::Intent(1, true));
        assert_eq!(renames(&index), [(1, Effect::Possible)]);
        index.note(2, Glance::Abandoned(1));
        assert_eq!(renames(&index), []);
        index.note(3, Glance::Intent(1, true));
        index.note(4, OUTCOME(1));
        index.note(5, Glance::Intent(2, true));
        index.note(6, Glance::Outcome(2, Effect::Done));
        let both = [(1, Effect::None), (2, Effect::Done)];
        assert_eq!(renames(&index), both);
    }
}
