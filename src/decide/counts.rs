//! What would become of the rows of a run, counted before it starts. The question before a run, `--max-changes` and
//! `--strict` use it.

use std::collections::{HashMap, HashSet};

use super::{ChangeKinds, Decision};
use crate::model::{Found, Member, Outcome};

/// The number of rows that are kept as examples.
const EXAMPLES: usize = 3;

/// What would become of the rows of a run, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows that would change their member.
    pub to_change: u64,
    /// Members that would be changed. A member that several rows change counts once.
    pub members_to_change: u64,
    /// Rows whose member has every target value already.
    pub unchanged: u64,
    /// Rows without a value to change.
    pub empty: u64,
    /// Rows that can't be sent: invalid ones, conflicts, and rows whose member is not found.
    pub not_possible: u64,
    /// The first of these rows, as `line 3: …`.
    pub examples: Vec<String>,
    /// The changes by kind.
    pub kinds: ChangeKinds,
    changed: HashSet<Box<str>>,
    /// Members that several rows name, as the rows so far would leave them.
    latest: HashMap<Box<str>, Member>,
}

impl Counts {
    /// Returns the member as the rows counted so far would leave it.
    pub(crate) fn latest(&self, found: Found) -> Found {
        match found {
            Found::One(member) => {
                Found::One(self.latest.get(&member.id).cloned().unwrap_or(member))
            }
            other => other,
        }
    }

    /// Keeps a row that is not possible as an example.
    pub(crate) fn add_example(&mut self, line: u64, message: &str) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("line {line}: {message}"));
        }
    }

    /// Counts a row that ends without sending anything.
    pub(crate) const fn add_outcome(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Empty => &mut self.empty,
            _ => &mut self.not_possible,
        };
        *counter += 1;
    }

    /// Counts a row. `is_repeated` says that other rows name the same member.
    pub(crate) fn add(&mut self, decision: Decision, is_repeated: bool) {
        match decision {
            Decision::Skip(outcome) => self.add_outcome(outcome.outcome),
            Decision::Send { member, changes } => {
                self.to_change += 1;
                self.kinds.add(&changes);
                if !is_repeated {
                    self.members_to_change += 1;
                    return;
                }
                if self.changed.insert(member.id.clone()) {
                    self.members_to_change += 1;
                }
                self.latest
                    .insert(member.id.clone(), member.after(&changes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Field, RowOutcome, Value};

    fn member(first: &str) -> Member {
        Member {
            id: "m1".into(),
            values: [(Field::FirstName, Value::text(first))]
                .into_iter()
                .collect(),
        }
    }

    /// The decision about a row that renames the member to Anna.
    fn decide(found: Found) -> Decision {
        let Found::One(member) = found else {
            panic!("there is a member")
        };
        let change = Change {
            field: Field::FirstName,
            before: member.values.get(Field::FirstName).cloned(),
            after: Value::text("Anna"),
        };
        if member.matches(std::slice::from_ref(&change)) {
            return Decision::Skip(RowOutcome::new(1, Outcome::Unchanged, None));
        }
        Decision::Send {
            member,
            changes: vec![change],
        }
    }

    #[test]
    fn equal_rows_of_one_member_count_as_one_change() {
        let mut counts = Counts::default();
        for _ in 0..2 {
            let found = counts.latest(Found::One(member("Ann")));
            counts.add(decide(found), true);
        }
        counts.add_outcome(Outcome::Empty);
        counts.add_outcome(Outcome::Conflict);
        let got = [
            counts.to_change,
            counts.members_to_change,
            counts.unchanged,
            counts.empty,
            counts.not_possible,
        ];
        assert_eq!(got, [1, 1, 1, 1, 1]);
    }
}
