//! The changes of a run, counted by kind and transition: what the preview, the question before a run and reports begin
//! with.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{Change, Field, Value, fold};
use crate::output::{count, grouped};

/// The number of transitions of one field that are counted apart. The others are one count.
const MOST_TRANSITIONS: usize = 200;
/// The number of transitions of one field that are described.
const SHOWN: usize = 6;

/// How serious a kind of change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Somebody loses access, or documents.
    Destructive,
    /// Any other change.
    Usual,
}

/// Whether changes are to come, or were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tense {
    /// `3 to be archived`.
    Planned,
    /// `3 archived`.
    Done,
}

/// One kind of change, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// How serious it is.
    pub severity: Severity,
    /// The number of changes.
    pub changes: u64,
    /// For people: `14 Viewer → Creator`.
    pub text: String,
}

/// Changes, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeKinds {
    /// Changes of flags and of fields whose values say nothing together, by field and target value.
    plain: BTreeMap<(Field, bool), u64>,
    /// Changes of fields with few values, by the value before and the target value. For emails these are domains.
    transitions: BTreeMap<(Field, String, String), u64>,
    /// Members that are archived without a word about their documents.
    orphans: u64,
    /// Changes of these fields that are not counted by transition, because there are too many.
    others: BTreeMap<Field, u64>,
}

impl ChangeKinds {
    /// Counts the changes of a row.
    pub(crate) fn add(&mut self, changes: &[Change]) {
        let is_archived = changes.iter().any(|change| {
            change.field.archives() && change.after == Value::Flag(true) && change.is_visible()
        });
        let says_whose =
            |change: &Change| matches!(change.field, Field::NewOwner | Field::ArchiveDocuments);
        self.orphans += u64::from(is_archived && !changes.iter().any(says_whose));
        for change in changes.iter().filter(|change| change.is_shown()) {
            let before = change.before.as_ref().map(Value::as_str);
            let (before, after) = (before.unwrap_or_default(), change.after.as_str());
            match change.field {
                Field::MemberType | Field::UserKind => {
                    self.add_transition(change.field, before, after);
                }
                Field::Email => self.add_transition(change.field, domain(before), domain(after)),
                field => {
                    let is_true = change.after == Value::Flag(true);
                    *self.plain.entry((field, is_true)).or_default() += 1;
                }
            }
        }
    }

    fn add_transition(&mut self, field: Field, before: &str, after: &str) {
        let key = (field, before.to_owned(), after.to_owned());
        let of_field = self
            .transitions
            .keys()
            .filter(|(other, _, _)| *other == field);
        if !self.transitions.contains_key(&key) && of_field.count() >= MOST_TRANSITIONS {
            *self.others.entry(field).or_default() += 1;
        } else {
            *self.transitions.entry(key).or_default() += 1;
        }
    }

    /// Returns what to think of before members are archived, if there is anything.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.orphans > 0).then(|| {
            format!(
                "{} archived without newOwner or archiveDocuments: Sigma does not document whose the documents become",
                count(self.orphans, "member")
            )
        })
    }

    /// Returns the kinds, the destructive ones first.
    pub(crate) fn kinds(&self, tense: Tense) -> Vec<Kind> {
        let to_be = match tense {
            Tense::Planned => "to be ",
            Tense::Done => "",
        };
        let mut kinds = Vec::new();
        for ((field, flag), changes) in &self.plain {
            let number = grouped(*changes);
            let (severity, text) = match (field, flag) {
                (Field::IsArchived, true) => {
                    (Severity::Destructive, format!("{number} {to_be}archived"))
                }
                (Field::IsArchived, false) => {
                    (Severity::Usual, format!("{number} {to_be}reactivated"))
                }
                (Field::IsInactive, true) => (
                    Severity::Destructive,
                    format!("{number} {to_be}made inactive"),
                ),
                (Field::IsInactive, false) => {
                    (Severity::Usual, format!("{number} {to_be}made active"))
                }
                (Field::ArchiveDocuments, true) => (
                    Severity::Destructive,
                    format!("documents of {number} {to_be}archived"),
                ),
                (Field::ArchiveScheduledExports, true) => (
                    Severity::Destructive,
                    format!("exports of {number} {to_be}archived"),
                ),
                (Field::ArchiveDocuments | Field::ArchiveScheduledExports, false) => continue,
                (Field::NewOwner, _) => (Severity::Usual, count(*changes, "new owner")),
                (Field::FirstName, _) => (Severity::Usual, count(*changes, "new first name")),
                (Field::LastName, _) => (Severity::Usual, count(*changes, "new last name")),
                (field, _) => (Severity::Usual, format!("{number} × {}", field.column())),
            };
            kinds.push(Kind {
                severity,
                changes: *changes,
                text,
            });
        }
        for field in [Field::MemberType, Field::UserKind] {
            kinds.extend(self.of_transitions(field));
        }
        kinds.extend(self.emails());
        kinds.sort_by_key(|kind| kind.severity != Severity::Destructive);
        kinds
    }

    fn sorted(&self, field: Field) -> Vec<(&str, &str, u64)> {
        let mut found: Vec<_> = (self.transitions.iter())
            .filter(|((other, _, _), _)| *other == field)
            .map(|((_, before, after), changes)| (before.as_str(), after.as_str(), *changes))
            .collect();
        found.sort_by_key(|(before, after, changes)| (Reverse(*changes), *before, *after));
        found
    }

    fn of_transitions(&self, field: Field) -> Vec<Kind> {
        let found = self.sorted(field);
        let rest = found
            .iter()
            .skip(SHOWN)
            .map(|(_, _, changes)| changes)
            .sum::<u64>()
            + self.others.get(&field).copied().unwrap_or(0);
        let mut kinds: Vec<Kind> = (found.iter().take(SHOWN))
            .map(|(before, after, changes)| {
                let before = if before.is_empty() { "(none)" } else { before };
                Kind {
                    severity: Severity::Usual,
                    changes: *changes,
                    text: format!("{} {before} → {after}", grouped(*changes)),
                }
            })
            .collect();
        if rest > 0 {
            kinds.push(Kind {
                severity: Severity::Usual,
                changes: rest,
                text: format!("{} of {}", count(rest, "other change"), field.column()),
            });
        }
        kinds
    }

    /// `120 new emails, 118 of them @old.com → @new.com`.
    fn emails(&self) -> Option<Kind> {
        let found = self.sorted(Field::Email);
        let all = found.iter().map(|(_, _, changes)| changes).sum::<u64>()
            + self.others.get(&Field::Email).copied().unwrap_or(0);
        let mut text = count(all, "new email");
        let moved = found
            .iter()
            .filter(|(before, after, _)| fold(before) != fold(after));
        for (index, (before, after, changes)) in moved.take(2).enumerate() {
            let number = match index {
                _ if *changes == all && all > 1 => "all of them".to_owned(),
                0 => format!("{} of them", grouped(*changes)),
                _ => grouped(*changes),
            };
            text = format!("{text}, {number} @{before} → @{after}");
        }
        (all > 0).then_some(Kind {
            severity: Severity::Usual,
            changes: all,
            text,
        })
    }
}

fn domain(email: &str) -> &str {
    email.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(field: Field, before: Option<Value>, after: Value) -> Change {
        Change {
            field,
            before,
            after,
        }
    }

    fn described(kinds: &ChangeKinds) -> String {
        let texts: Vec<String> = kinds
            .kinds(Tense::Planned)
            .into_iter()
            .map(|kind| kind.text)
            .collect();
        texts.join(" · ")
    }

    #[test]
    fn kinds_are_described_with_the_destructive_ones_first() {
        let mut kinds = ChangeKinds::default();
        let text = |text: &str| Value::text(text);
        for number in 0..120 {
            let domain = if number < 118 { "old.com" } else { "else.org" };
            let before = text(&format!("u{number}@{domain}"));
            let after = text(&format!("u{number}@new.com"));
            kinds.add(&[change(Field::Email, Some(before), after)]);
        }
        for _ in 0..14 {
            kinds.add(&[
                change(Field::MemberType, Some(text("Viewer")), text("Creator")),
                change(Field::FirstName, Some(text("A")), text("B")),
            ]);
        }
        for owner in ["m1", "m2", "m3"] {
            kinds.add(&[
                change(
                    Field::IsArchived,
                    Some(Value::Flag(false)),
                    Value::Flag(true),
                ),
                change(Field::NewOwner, None, text(owner)),
                change(Field::ArchiveDocuments, None, Value::Flag(false)),
            ]);
        }
        // An archive flag that is sent only because a companion needs it changes nothing.
        kinds.add(&[change(
            Field::IsArchived,
            Some(Value::Flag(true)),
            Value::Flag(true),
        )]);
        insta::assert_snapshot!(described(&kinds), @"3 to be archived · 14 new first names · 3 new owners · 14 Viewer → Creator · 120 new emails, 118 of them @old.com → @new.com, 2 @else.org → @new.com");
    }

    #[test]
    fn many_transitions_are_counted_and_few_are_shown() {
        let mut kinds = ChangeKinds::default();
        for number in 0..1000 {
            let before = Some(Value::text(&format!("T{number}")));
            kinds.add(&[change(Field::MemberType, before, Value::text("Viewer"))]);
        }
        let all: u64 = kinds
            .kinds(Tense::Planned)
            .iter()
            .map(|kind| kind.changes)
            .sum();
        assert_eq!(all, 1000);
        assert_eq!(kinds.kinds(Tense::Done).len(), SHOWN + 1);
        assert!(kinds.transitions.len() <= MOST_TRANSITIONS);
    }
}
