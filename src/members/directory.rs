//! The members that the rows of this run name, by email or by id.
//!
//! The file is read before the organization is listed, so that only members that some row names are kept, and only
//! the fields that the file may change. The members are encoded one after another in one buffer: a million of them
//! need about 40 bytes each, where a struct of strings would need 400.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::input::{KeyId, KeyTable};
use crate::model::{Field, FieldKind, Found, Member, Value, Values, fold};

/// What the keys of the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Emails: the rows of a CSV.
    Email,
    /// Member ids: the rows of a plan.
    Id,
}

/// The members that rows name, as far as they are known.
#[derive(Debug)]
pub struct Directory {
    kind: KeyKind,
    /// The fields that are kept besides the id and the email.
    fields: Vec<Field>,
    /// Encoded members, one after another.
    bytes: Vec<u8>,
    /// For each key, the offset of its first member in `bytes`.
    first: Vec<Option<Offset>>,
    /// The offsets of further members with the same folded email.
    more: HashMap<KeyId, Vec<Offset>>,
    /// The present values of members that this run changed and that further rows name, by id.
    latest: HashMap<Box<str>, Member>,
}

/// Where a member stands in the buffer. The buffer begins with a byte that belongs to no member, so that an `Option`
/// of it needs no more room.
type Offset = NonZeroUsize;

/// A member as it is encoded.
#[derive(Serialize, Deserialize)]
struct Encoded<'a> {
    #[serde(borrow)]
    id: &'a str,
    /// The email by which rows name the member.
    #[serde(borrow)]
    email: Encodable<'a>,
    /// The values of [`Directory::fields`], in that order.
    #[serde(borrow)]
    values: Vec<Encodable<'a>>,
}

/// A value as it is encoded.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Encodable<'a> {
    Missing,
    Flag(bool),
    Text(&'a str),
    /// The same text as the key's, or as the email by which rows name the member.
    Same,
}

impl Directory {
    /// Returns an empty directory that keeps `fields`.
    #[must_use]
    pub fn new(kind: KeyKind, fields: &[Field]) -> Self {
        Self {
            kind,
            fields: fields
                .iter()
                .copied()
                .filter(|field| !field.is_write_only())
                .collect(),
            bytes: vec![0],
            first: Vec::new(),
            more: HashMap::new(),
            latest: HashMap::new(),
        }
    }

    /// Returns what the keys of the rows are.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Keeps `member` if some row names it, and returns whether one does. `email` is the member's email when the run
    /// started, because rows name members by that one. It differs from the present email if an earlier session of
    /// the run renamed the member.
    pub fn insert(&mut self, keys: &KeyTable, email: &str, member: &Member) -> bool {
        let by_id = keys.find(&member.id);
        let by_email = match self.kind {
            KeyKind::Email => keys.find(&fold(email)),
            KeyKind::Id => None,
        };
        for key in [by_id, by_email].into_iter().flatten() {
            self.insert_as(keys, key, email, member);
        }
        by_id.is_some() || by_email.is_some()
    }

    fn insert_as(&mut self, keys: &KeyTable, key: KeyId, email: &str, member: &Member) {
        // A listing that moves while it is read may show a member twice.
        if self.candidates(key).any(|at| self.id_at(at) == &*member.id) {
            return;
        }
        if self.first.len() < keys.len() {
            self.first.resize(keys.len(), None);
        }
        let Some(at) = self.encode(keys.text(key), email, member) else {
            return;
        };
        match self.first.get_mut(key.index()) {
            Some(first @ None) => *first = Some(at),
            _ => self.more.entry(key).or_default().push(at),
        }
    }

    /// Returns whether a member with this key is known.
    #[must_use]
    pub fn has(&self, key: KeyId) -> bool {
        self.candidates(key).next().is_some()
    }

    /// Returns the member that fits `spelled`, whose folded form is `key`: exactly, or else without regard to case.
    #[must_use]
    pub fn find(&self, keys: &KeyTable, key: KeyId, spelled: &str) -> Found {
        let text = keys.text(key);
        let is_exact = |at: &Offset| self.email_at(text, *at) == spelled;
        let only_exact =
            self.kind == KeyKind::Email && self.candidates(key).any(|at| is_exact(&at));
        let mut fitting = self
            .candidates(key)
            .filter(|at| !only_exact || is_exact(at));
        match (fitting.next(), fitting.count()) {
            (None, _) => Found::Nobody,
            (Some(at), 0) => match self.latest.get(self.id_at(at)) {
                Some(latest) => Found::One(latest.clone()),
                None => self.decode(text, at).map_or(Found::Nobody, Found::One),
            },
            (Some(_), others) => Found::Ambiguous(others + 1),
        }
    }

    /// Keeps the present values of a member, for further rows that name it.
    pub fn remember_latest(&mut self, member: Member) {
        self.latest.insert(member.id.clone(), member);
    }

    /// Returns the present values of a member that this run changed and that further rows name.
    pub(crate) fn latest(&self, id: &str) -> Option<Member> {
        self.latest.get(id).cloned()
    }

    fn candidates(&self, key: KeyId) -> impl Iterator<Item = Offset> {
        let first = self.first.get(key.index()).copied().flatten();
        first
            .into_iter()
            .chain(self.more.get(&key).into_iter().flatten().copied())
    }

    fn read<'b, T: Deserialize<'b>>(&'b self, at: Offset) -> Option<T> {
        let bytes = self.bytes.get(at.get()..)?;
        postcard::take_from_bytes(bytes)
            .ok()
            .map(|(value, _)| value)
    }

    fn id_at(&self, at: Offset) -> &str {
        self.read(at).unwrap_or_default()
    }

    fn email_at<'d>(&'d self, key: &'d str, at: Offset) -> &'d str {
        match self.read(at) {
            Some((_, email)) => text_or(key, email),
            None::<(&str, Encodable<'_>)> => "",
        }
    }

    /// Appends a member to the buffer, and returns where it stands.
    fn encode(&mut self, key: &str, email: &str, member: &Member) -> Option<Offset> {
        let values = self.fields.iter().map(|field| {
            match (field, member.values.get(*field)) {
                // Most members have the email by which rows name them, which is not kept twice.
                (Field::Email, Some(Value::Text(own))) if **own == *email => Encodable::Same,
                (_, None) => Encodable::Missing,
                (_, Some(Value::Flag(flag))) => Encodable::Flag(*flag),
                (_, Some(Value::Text(text))) => Encodable::Text(text),
            }
        });
        let encoded = Encoded {
            id: &member.id,
            // Most emails are lower case, and so the same as their key.
            email: if email == key {
                Encodable::Same
            } else {
                Encodable::Text(email)
            },
            values: values.collect(),
        };
        let at = NonZeroUsize::new(self.bytes.len())?;
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&encoded, bytes).ok()?;
        Some(at)
    }

    fn decode(&self, key: &str, at: Offset) -> Option<Member> {
        let encoded: Encoded<'_> = self.read(at)?;
        let email = text_or(key, encoded.email);
        let mut values = Values::default();
        values.set(Field::Email, Some(Value::text(email)));
        for (field, value) in self.fields.iter().zip(encoded.values) {
            let value = match value {
                Encodable::Same => continue,
                Encodable::Flag(flag) => Some(Value::Flag(flag)),
                Encodable::Text(text) => Some(Value::text(text)),
                Encodable::Missing => {
                    (field.kind() == FieldKind::Flag).then_some(Value::Flag(false))
                }
            };
            values.set(*field, value);
        }
        Some(Member {
            id: encoded.id.into(),
            values,
        })
    }
}

/// The encoded text, or `same` if that is what it is.
const fn text_or<'t>(same: &'t str, encoded: Encodable<'t>) -> &'t str {
    match encoded {
        Encodable::Text(text) => text,
        _ => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, email: &str) -> Member {
        Member {
            id: id.into(),
            values: [
                (Field::Email, Value::text(email)),
                (Field::FirstName, Value::text(&"n".repeat(200))),
                (Field::IsArchived, Value::Flag(true)),
            ]
            .into_iter()
            .collect(),
        }
    }

    fn keys(keys: &[&str]) -> KeyTable {
        let mut table = KeyTable::default();
        for key in keys {
            table.intern(key);
        }
        table
    }

    fn find(directory: &Directory, keys: &KeyTable, email: &str) -> Found {
        let key = keys.find(&fold(email)).expect("known");
        directory.find(keys, key, email)
    }

    #[test]
    fn only_named_members_are_kept_and_come_back_whole() {
        let keys = keys(&["a@x.org"]);
        let mut directory = Directory::new(
            KeyKind::Email,
            &[Field::Email, Field::FirstName, Field::IsArchived],
        );
        assert!(!directory.insert(&keys, "b@x.org", &member("m2", "b@x.org")));
        assert!(directory.insert(&keys, "A@x.org", &member("m1", "A@x.org")));
        assert_eq!(
            find(&directory, &keys, "a@x.org"),
            Found::One(member("m1", "A@x.org"))
        );
    }

    #[test]
    fn an_exact_match_comes_before_other_cases() {
        let keys = keys(&["a@x.org"]);
        let mut directory = Directory::new(KeyKind::Email, &[Field::FirstName, Field::IsArchived]);
        directory.insert(&keys, "A@x.org", &member("m1", "A@x.org"));
        directory.insert(&keys, "a@x.org", &member("m2", "a@x.org"));
        directory.insert(&keys, "a@x.org", &member("m2", "a@x.org"));
        let id = |email| match find(&directory, &keys, email) {
            Found::One(member) => Some(member.id),
            _ => None,
        };
        assert_eq!(id("a@x.org").as_deref(), Some("m2"));
        assert_eq!(id("A@x.org").as_deref(), Some("m1"));
        assert_eq!(find(&directory, &keys, "a@X.org"), Found::Ambiguous(2));
    }

    #[test]
    fn a_renamed_member_is_found_by_its_first_email() {
        let keys = keys(&["old@x.org", "new@x.org"]);
        let mut directory = Directory::new(KeyKind::Email, &[Field::Email]);
        directory.insert(&keys, "old@x.org", &member("m1", "new@x.org"));
        assert_eq!(find(&directory, &keys, "new@x.org"), Found::Nobody);
        let Found::One(found) = find(&directory, &keys, "old@x.org") else {
            panic!("not found")
        };
        assert_eq!(found.email(), "new@x.org");
    }
}
