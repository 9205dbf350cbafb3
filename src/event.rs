//! What happens to rows, as data: the workers tell it, the reporter records and shows it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::change::{Change, Outcome};

/// A change that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The row's number.
    pub row: u32,
    /// A hash of what the row asks for, by which a resume knows that it is the same row.
    pub hash: u64,
    /// The member.
    pub member_id: Box<str>,
    /// What is to be sent, with the values before.
    pub changes: Arc<[Change]>,
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
    /// The run stopped before the row; if it had an intent, nothing of it was sent.
    Abandoned {
        /// The row's number.
        row: u32,
        /// Whether an intent of it was recorded.
        recorded: bool,
    },
}
