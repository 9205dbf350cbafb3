//! The keys of a run, each kept once: folded emails (or member ids) as 4-byte numbers.
//!
//! A migration may have a million rows, and memory goes with the rows. All keys stand one after another in one
//! buffer, and the table that finds them holds numbers alone: about 13 bytes a key beside its text.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(u32);

impl NameId {
    /// The number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The keys that some row names.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// Where each key ends in `text`.
    ends: Vec<u64>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    /// The number of `key`, which is added if it is new; `None` if there are more than 2³² keys.
    pub fn intern(&mut self, key: &str) -> Option<NameId> {
        let hash = self.hasher.hash_one(key);
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        if let Some(id) = self.table.find(hash, |id| text_of(text, ends, *id) == key) {
            return Some(NameId(*id));
        }
        let id = u32::try_from(self.ends.len()).ok()?;
        self.text.push_str(key);
        self.ends.push(self.text.len() as u64);
        let (text, ends) = (&self.text, &self.ends);
        self.table
            .insert_unique(hash, id, |id| hasher.hash_one(text_of(text, ends, *id)));
        Some(NameId(id))
    }

    /// The number of `key`, if it is known.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<NameId> {
        self.table
            .find(self.hasher.hash_one(key), |id| {
                text_of(&self.text, &self.ends, *id) == key
            })
            .map(|id| NameId(*id))
    }

    /// The key with this number.
    #[must_use]
    pub fn text(&self, id: NameId) -> &str {
        text_of(&self.text, &self.ends, id.0)
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All numbers.
    pub fn ids(&self) -> impl Iterator<Item = NameId> + use<> {
        (0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX)).map(NameId)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "an offset into a string in memory fits a usize"
)]
fn text_of<'t>(text: &'t str, ends: &[u64], id: u32) -> &'t str {
    let id = id as usize;
    let start = id
        .checked_sub(1)
        .and_then(|before| ends.get(before))
        .copied()
        .unwrap_or(0);
    let end = ends.get(id).copied().unwrap_or(start);
    text.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number() {
        let mut names = Names::default();
        let first: Vec<_> = (0..1000)
            .map(|n| names.intern(&format!("user{n}@x.org")))
            .collect();
        let again: Vec<_> = (0..1000)
            .map(|n| names.intern(&format!("user{n}@x.org")))
            .collect();
        assert_eq!(first, again);
        assert_eq!(names.len(), 1000);
        let id = names.find("user7@x.org").expect("known");
        assert_eq!(names.text(id), "user7@x.org");
        assert_eq!(names.find("user1000@x.org"), None);
        assert_eq!(
            names.intern("").map(|id| names.text(id).to_owned()),
            Some(String::new())
        );
    }
}
