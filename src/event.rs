//! What happens to rows, as data: the workers tell it, the reporter records and shows it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use crate::change::{Change, Field, Outcome};

/// A hash of what a row asks for, by which a resume knows that it is the same row; 16 hexadecimal digits in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(pub u64);

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;
        impl Visitor<'_> for HashVisitor {
            type Value = ContentHash;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hexadecimal digits")
            }
            fn visit_str<E: de::Error>(self, digits: &str) -> Result<ContentHash, E> {
                u64::from_str_radix(digits, 16)
                    .map(ContentHash)
                    .map_err(E::custom)
            }
        }
        deserializer.deserialize_str(HashVisitor)
    }
}

/// A change that is about to be sent; so it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The row's number.
    pub row: u32,
    /// A hash of what the row asks for.
    pub hash: ContentHash,
    /// The member.
    #[serde(rename = "member")]
    pub member_id: Box<str>,
    /// What is to be sent, with the values before.
    pub changes: Arc<[Change]>,
}

impl Intent {
    /// Whether it gives the member another email.
    #[must_use]
    pub fn is_rename(&self) -> bool {
        self.rename().is_some()
    }

    /// The change that gives the member another email.
    #[must_use]
    pub fn rename(&self) -> Option<&Change> {
        self.changes
            .iter()
            .find(|change| change.field == Field::Email)
    }
}

/// A row's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The row's number.
    pub row: u32,
    /// The physical line on which it starts.
    pub line: u64,
    /// The member's email as the row spells it.
    pub email: Box<str>,
    /// The member, if it was found.
    pub member_id: Option<Box<str>>,
    /// What became of it.
    pub outcome: Outcome,
    /// The last HTTP status that bears on it.
    pub status: Option<u16>,
    /// How many times the update was sent.
    pub attempts: u32,
    /// What was sent, or would be.
    pub changes: Arc<[Change]>,
    /// Whether an [`Intent`] with these changes was recorded.
    pub recorded: bool,
    /// Whether the member bears a part of the changes, though the row failed.
    pub partly: bool,
    /// What a person should know about it.
    pub message: Option<Box<str>>,
}

/// What the reporter is told.
#[derive(Debug)]
pub enum Event {
    /// Record this; only then may it be sent. The sender is dropped if it can't be recorded.
    Intent(Intent, oneshot::Sender<()>),
    /// A row has its outcome.
    Finished(Finished),
    /// The run stopped before the row had an outcome.
    Abandoned {
        /// The row's number.
        row: u32,
        /// Takes back the row's last intent, of which nothing was sent. Without it, an intent that is there stays: what it
        /// says may have been done.
        withdraws: bool,
    },
}

/// What earlier pieces of a run did.
#[derive(Debug, Default)]
pub struct Before {
    /// For each row, by number from 1, whether it has a final outcome.
    pub done: Vec<bool>,
    /// What was meant to be sent for rows that have none.
    pub intents: HashMap<u32, Arc<Intent>>,
}

impl Before {
    /// Whether a row has a final outcome.
    #[must_use]
    pub fn is_done(&self, row: u32) -> bool {
        self.done.get(row as usize).copied().unwrap_or(false)
    }
}
