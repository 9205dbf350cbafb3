//! Email (or member id) to member, for the rows of this run only.
//!
//! The whole file is read before the organization is listed, so that only members that some row names are kept,
//! and of them only the fields that the file may change. They stand encoded one after another in one buffer: a
//! million of them take some 60 bytes each, where a struct of strings would take 400.

use std::collections::HashMap;

use crate::change::{Field, Kind, Member, Value, Values, fold};
use crate::input::{NameId, Names};

/// By what rows name members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By email: the rows of a CSV.
    Email,
    /// By id: the rows of a plan.
    Id,
}

/// Who has an email.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Found {
    /// This member.
    One(Member),
    /// Nobody.
    Nobody,
    /// So many members fit equally.
    Ambiguous(usize),
}

/// Why a row that fits several members can't be sent.
#[must_use]
pub fn ambiguous(members: usize) -> String {
    format!(
        "{members} members fit this email equally: if its case tells them apart, spell it as the member's"
    )
}

/// Why a row with a new owner who is named by this email can't be sent; nothing if one member has it.
#[must_use]
pub fn owner_problem(email: &str, found: &Found) -> Option<String> {
    match found {
        Found::One(_) => None,
        Found::Nobody => Some(format!("newOwner: no member has the email {email}")),
        Found::Ambiguous(members) => Some(format!(
            "newOwner: {members} members fit the email {email} equally: give the member's id"
        )),
    }
}

/// The members that rows name, as far as they are known.
#[derive(Debug)]
pub struct Directory {
    key: Key,
    /// What is kept of a member; the id always is.
    fields: Vec<Field>,
    bytes: Vec<u8>,
    /// For each name, where its first member stands in `bytes`, plus one; 0 if none is known.
    first: Vec<u64>,
    /// Further members with the same folded email.
    more: HashMap<NameId, Vec<u64>>,
    /// What members hold that have been changed and that further rows name, by id.
    latest: HashMap<Box<str>, Member>,
}

impl Directory {
    /// An empty directory that keeps `fields`.
    #[must_use]
    pub fn new(key: Key, fields: &[Field]) -> Self {
        Self {
            key,
            fields: fields
                .iter()
                .copied()
                .filter(|field| !field.is_write_only())
                .collect(),
            bytes: Vec::new(),
            first: Vec::new(),
            more: HashMap::new(),
            latest: HashMap::new(),
        }
    }

    /// By what rows name members.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Keeps `member` if some row names it, and answers whether one does. `email` is the member's when the run
    /// started, by which rows name it: another than the member shows if a piece of the run before renamed it.
    pub fn insert(&mut self, names: &Names, email: &str, member: &Member) -> bool {
        let name = match self.key {
            Key::Email => names.find(&fold(email)),
            Key::Id => names.find(&member.id),
        };
        let Some(name) = name else { return false };
        // A listing that moves while it is read may show a member twice.
        if self
            .candidates(name)
            .any(|at| self.id_at(at) == &*member.id)
        {
            return true;
        }
        if self.first.len() < names.len() {
            self.first.resize(names.len(), 0);
        }
        let at = self.bytes.len() as u64;
        self.encode(email, member);
        if let Some(first) = self.first.get_mut(name.index()) {
            if *first == 0 {
                *first = at + 1;
            } else {
                self.more.entry(name).or_default().push(at);
            }
        }
        true
    }

    /// Whether someone is known by that name.
    #[must_use]
    pub fn knows(&self, name: NameId) -> bool {
        self.first
            .get(name.index())
            .is_some_and(|first| *first != 0)
    }

    /// Who has the name, as it is spelled: the one who fits exactly, or else without regard to case.
    #[must_use]
    pub fn find(&self, name: NameId, spelled: &str) -> Found {
        let is_exact = |at: &u64| self.email_at(*at) == spelled;
        let only_exact = self.key == Key::Email && self.candidates(name).any(|at| is_exact(&at));
        let mut fitting = self
            .candidates(name)
            .filter(|at| !only_exact || is_exact(at));
        match (fitting.next(), fitting.count()) {
            (None, _) => Found::Nobody,
            (Some(at), 0) => match self.latest.get(self.id_at(at)) {
                Some(latest) => Found::One(latest.clone()),
                None => self.decode(at).map_or(Found::Nobody, Found::One),
            },
            (Some(_), others) => Found::Ambiguous(others + 1),
        }
    }

    /// Keeps what a member holds now, for further rows that name it.
    pub fn learn(&mut self, member: Member) {
        self.latest.insert(member.id.clone(), member);
    }

    fn candidates(&self, name: NameId) -> impl Iterator<Item = u64> {
        let first = self
            .first
            .get(name.index())
            .and_then(|first| first.checked_sub(1));
        first
            .into_iter()
            .chain(self.more.get(&name).into_iter().flatten().copied())
    }

    fn id_at(&self, at: u64) -> &str {
        Decoder::at(&self.bytes, at).text().unwrap_or_default()
    }

    fn email_at(&self, at: u64) -> &str {
        let mut decoder = Decoder::at(&self.bytes, at);
        decoder
            .text()
            .and_then(|_id| decoder.text())
            .unwrap_or_default()
    }

    fn encode(&mut self, email: &str, member: &Member) {
        put_text(&mut self.bytes, &member.id);
        put_text(&mut self.bytes, email);
        for field in &self.fields {
            match (field, member.values.get(*field)) {
                // Most members show the email by which they are named: it is not kept twice.
                (Field::Email, Some(Value::Text(own))) if **own == *email => self.bytes.push(SAME),
                (_, None) => self.bytes.push(NONE),
                (_, Some(Value::Flag(false))) => self.bytes.push(FALSE),
                (_, Some(Value::Flag(true))) => self.bytes.push(TRUE),
                (_, Some(Value::Text(text))) => {
                    self.bytes.push(TEXT);
                    put_text(&mut self.bytes, text);
                }
            }
        }
    }

    fn decode(&self, at: u64) -> Option<Member> {
        let mut decoder = Decoder::at(&self.bytes, at);
        let id = decoder.text()?.into();
        let mut values = Values::default();
        values.set(Field::Email, Some(Value::text(decoder.text()?)));
        for field in &self.fields {
            let value = match decoder.byte()? {
                SAME => continue,
                FALSE => Some(Value::Flag(false)),
                TRUE => Some(Value::Flag(true)),
                TEXT => Some(Value::text(decoder.text()?)),
                _ => (field.kind() == Kind::Flag).then_some(Value::Flag(false)),
            };
            values.set(*field, value);
        }
        Some(Member { id, values })
    }
}

const NONE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const TEXT: u8 = 3;
const SAME: u8 = 4;

/// A text with its length before it, seven bits a byte, lowest first.
#[expect(clippy::cast_possible_truncation, reason = "seven bits fit a byte")]
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        bytes.push(0x80 | (length & 0x7F) as u8);
        length >>= 7;
    }
    bytes.push((length & 0x7F) as u8);
    bytes.extend_from_slice(text.as_bytes());
}

struct Decoder<'b> {
    bytes: &'b [u8],
}

impl<'b> Decoder<'b> {
    fn at(bytes: &'b [u8], at: u64) -> Self {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        Self {
            bytes: bytes.get(at..).unwrap_or_default(),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<&'b str> {
        let mut length = 0_usize;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
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

    fn names(keys: &[&str]) -> Names {
        let mut names = Names::default();
        for key in keys {
            names.intern(key);
        }
        names
    }

    #[test]
    fn only_named_members_are_kept_and_come_back_whole() {
        let names = names(&["a@x.org"]);
        let mut directory = Directory::new(
            Key::Email,
            &[Field::Email, Field::FirstName, Field::IsArchived],
        );
        assert!(!directory.insert(&names, "b@x.org", &member("m2", "b@x.org")));
        assert!(directory.insert(&names, "A@x.org", &member("m1", "A@x.org")));
        let name = names.find("a@x.org").expect("known");
        assert_eq!(
            directory.find(name, "a@x.org"),
            Found::One(member("m1", "A@x.org"))
        );
    }

    #[test]
    fn exactly_first_then_without_regard_to_case_then_ambiguous() {
        let names = names(&["a@x.org"]);
        let mut directory = Directory::new(Key::Email, &[Field::FirstName, Field::IsArchived]);
        directory.insert(&names, "A@x.org", &member("m1", "A@x.org"));
        directory.insert(&names, "a@x.org", &member("m2", "a@x.org"));
        directory.insert(&names, "a@x.org", &member("m2", "a@x.org"));
        let name = names.find("a@x.org").expect("known");
        let id = |found| match found {
            Found::One(member) => Some(member.id),
            _ => None,
        };
        assert_eq!(id(directory.find(name, "a@x.org")).as_deref(), Some("m2"));
        assert_eq!(id(directory.find(name, "A@x.org")).as_deref(), Some("m1"));
        assert_eq!(directory.find(name, "a@X.org"), Found::Ambiguous(2));
    }

    #[test]
    fn a_member_renamed_by_a_piece_before_is_found_by_its_first_email() {
        let names = names(&["old@x.org", "new@x.org"]);
        let mut directory = Directory::new(Key::Email, &[Field::Email]);
        directory.insert(&names, "old@x.org", &member("m1", "new@x.org"));
        let find = |email: &str| directory.find(names.find(email).expect("known"), email);
        assert_eq!(find("new@x.org"), Found::Nobody);
        let Found::One(found) = find("old@x.org") else {
            panic!("not found")
        };
        assert_eq!(found.email(), "new@x.org");
    }
}
