//! What happens to rows, as data. Workers send these events; the reporter records and shows them. Neither knows the
//! other.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use crate::model::{Change, Field, RowOutcome};

/// A hash of what a row asks for, by which a resume recognizes the row. In the journal it is 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentHash(pub u64);

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

/// An update that is about to be sent. It is in the journal before the request goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The row's number, from 1.
    pub row: u32,
    /// The hash of what the row asks for.
    pub hash: ContentHash,
    /// The member's id.
    #[serde(rename = "member")]
    pub member_id: Box<str>,
    /// The changes to send, with the values before.
    pub changes: Arc<[Change]>,
}

impl Intent {
    /// Returns the change that gives the member another email.
    pub(crate) fn rename(&self) -> Option<&Change> {
        self.changes
            .iter()
            .find(|change| change.field == Field::Email)
    }
}

/// What the reporter receives.
#[derive(Debug)]
pub(crate) enum Event {
    /// Records this intent. The update may be sent when the sender fires; the sender is dropped if the intent can't
    /// be recorded.
    Intent(Intent, oneshot::Sender<()>),
    /// A row has its outcome.
    Finished {
        /// The physical line on which the row starts, from 1.
        line: u64,
        /// The member's email as the row spells it.
        email: Box<str>,
        /// How the row ended.
        outcome: RowOutcome,
    },
    /// The run stopped before the row had an outcome.
    Abandoned {
        /// The row's number.
        row: u32,
        /// Whether the row's last intent is void, because nothing of it was sent. Otherwise an intent that is in the
        /// journal stays: its update may have been applied.
        withdraws: bool,
    },
}

/// What earlier sessions of a run did.
#[derive(Debug, Default)]
pub(crate) struct ResumeState {
    /// Whether each row has a final outcome, by row number; element 0 is unused.
    pub done: Vec<bool>,
    /// The intents of rows without a final outcome, by row number.
    pub intents: HashMap<u32, Arc<Intent>>,
}

impl ResumeState {
    /// Returns whether a row has a final outcome.
    pub(crate) fn is_done(&self, row: u32) -> bool {
        self.done.get(row as usize).copied().unwrap_or(false)
    }

    /// Returns the number of rows with a final outcome.
    pub(crate) fn done_count(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}
