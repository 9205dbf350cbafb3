//! Stores each key of a run once: folded emails (or member ids) are mapped to 4-byte numbers.
//!
//! A migration may have a million rows, so memory per row matters. The interner keeps all keys back to back in one
//! buffer, with about 13 bytes for each key besides its text.

use string_interner::backend::StringBackend;
use string_interner::symbol::SymbolU32;
use string_interner::{StringInterner, Symbol};

/// The largest number of keys; a symbol has 32 bits.
const MOST_KEYS: usize = u32::MAX as usize - 1;

/// The number of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(SymbolU32);

impl KeyId {
    /// Returns the number, counted from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.to_usize()
    }
}

/// The keys that occur in the rows.
#[derive(Debug, Default)]
pub struct KeyTable(StringInterner<StringBackend<SymbolU32>>);

impl KeyTable {
    /// Returns the number of `key`, adding it if it is new. Returns `None` if there is no number left.
    pub fn intern(&mut self, key: &str) -> Option<KeyId> {
        (self.0.len() < MOST_KEYS).then(|| KeyId(self.0.get_or_intern(key)))
    }

    /// Returns the number of `key`, or `None` if it is not in the table.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<KeyId> {
        self.0.get(key).map(KeyId)
    }

    /// Returns the key with this number.
    #[must_use]
    pub fn text(&self, id: KeyId) -> &str {
        self.0.resolve(id.0).unwrap_or_default()
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the numbers of all keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + use<> {
        (0..self.0.len()).filter_map(|index| SymbolU32::try_from_usize(index).map(KeyId))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number() {
        let mut keys = KeyTable::default();
        let first: Vec<_> = (0..1000)
            .map(|n| keys.intern(&format!("user{n}@x.org")))
            .collect();
        let again: Vec<_> = (0..1000)
            .map(|n| keys.intern(&format!("user{n}@x.org")))
            .collect();
        assert_eq!(first, again);
        assert_eq!(keys.len(), 1000);
        let all: Vec<_> = keys.ids().map(Some).collect();
        assert_eq!(all, first);
        let id = keys.find("user7@x.org").expect("known");
        assert_eq!((keys.text(id), id.index()), ("user7@x.org", 7));
        assert_eq!(keys.find("user1000@x.org"), None);
        assert_eq!(
            keys.intern("").map(|id| keys.text(id).to_owned()),
            Some(String::new())
        );
    }
}
