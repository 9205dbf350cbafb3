//! How a row ends. [`RowOutcome`] is the one shape of it, from the decision to the journal, results.csv and the
//! summary.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Change;

/// What became of a row. Each row has exactly one outcome, and the outcomes add up to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// The API answered 2xx, and the member has the target values.
    Updated,
    /// A dry run would have sent an update.
    WouldUpdate,
    /// The member already had every target value, and nothing was sent.
    Unchanged,
    /// The row has no value to change, and nothing was sent.
    Empty,
    /// The row can't be sent as it stands.
    Invalid,
    /// No member has that email.
    NotFound,
    /// The API refused the update, or the tries ran out and the member is known not to have all target values.
    Failed,
    /// The member's values are no longer those from which the plan or the undo was made, and nothing was sent.
    Conflict,
    /// The update was sent, but its outcome could not be confirmed.
    Unknown,
    /// The run stopped before this row.
    NotAttempted,
}

impl Outcome {
    /// All outcomes, in the order in which they are counted and shown.
    pub const ALL: [Self; 10] = [
        Self::Updated,
        Self::WouldUpdate,
        Self::Unchanged,
        Self::Empty,
        Self::Invalid,
        Self::NotFound,
        Self::Failed,
        Self::Conflict,
        Self::Unknown,
        Self::NotAttempted,
    ];

    /// Returns the name in files and on screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::WouldUpdate => "would_update",
            Self::Unchanged => "unchanged",
            Self::Empty => "empty",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::NotAttempted => "not_attempted",
        }
    }

    /// Returns whether the row got what it asks for, or would get it.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(
            self,
            Self::Updated | Self::WouldUpdate | Self::Unchanged | Self::Empty
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much of an update a member shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it.
    Full,
    /// A part of it.
    Partial,
    /// None of it.
    None,
}

/// What an outcome says about the update that the row's intent announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was applied.
    Applied,
    /// It may have been applied, in whole or in part.
    Possible,
    /// It was not applied.
    None,
}

/// A row's outcome with everything that is known about it. The journal stores it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOutcome {
    /// The row's number, from 1.
    pub row: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The member, if one was found.
    #[serde(rename = "member", default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<Box<str>>,
    /// The last HTTP status that concerns the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The number of updates sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Whether a part of the changes was applied, although the row failed.
    #[serde(rename = "partly", default, skip_serializing_if = "is_false")]
    pub is_partial: bool,
    /// Whether the update may have been applied all the same, or may still be: an answer came from a gateway that had
    /// given up waiting, or none came.
    #[serde(rename = "possible", default, skip_serializing_if = "is_false")]
    pub is_possible: bool,
    /// Whether the member was seen with the new email (`true`) or the old one (`false`) after an update that failed, if
    /// that was to set another email and the API showed it.
    #[serde(rename = "renamed", default, skip_serializing_if = "Option::is_none")]
    pub is_renamed: Option<bool>,
    /// The changes that were sent, or would be. The journal leaves them out where the row's intent has them.
    #[serde(default = "no_changes", skip_serializing_if = "is_empty")]
    pub changes: Arc<[Change]>,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
    /// The new owner of the member's documents, by name and email.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

fn no_changes() -> Arc<[Change]> {
    Arc::default()
}

fn is_empty(changes: &Arc<[Change]>) -> bool {
    changes.is_empty()
}

impl RowOutcome {
    /// Returns the outcome of a row for which nothing was sent.
    #[must_use]
    pub fn new(row: u32, outcome: Outcome, message: Option<Box<str>>) -> Self {
        Self {
            row,
            outcome,
            member_id: None,
            status: None,
            attempts: 0,
            is_partial: false,
            is_possible: false,
            is_renamed: None,
            changes: no_changes(),
            message,
            owner: None,
        }
    }

    /// Returns what a person should know about it, or an empty text.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Returns what the outcome says about the new email that the row's intent announced.
    #[must_use]
    pub fn rename_effect(&self) -> Effect {
        match self.is_renamed {
            Some(true) => Effect::Applied,
            Some(false) => Effect::None,
            None => self.effect(),
        }
    }

    /// Returns what the outcome says about the update that the row's intent announced.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let is_answered = self
            .status
            .is_some_and(|status| (200..300).contains(&status));
        match self.outcome {
            Outcome::Updated => Effect::Applied,
            Outcome::Unknown => Effect::Possible,
            Outcome::Failed if is_answered || self.is_partial || self.is_possible => {
                Effect::Possible
            }
            // Nothing was sent this time: the intent is of an earlier session, which was killed.
            _ if self.attempts == 0 => Effect::Possible,
            _ => Effect::None,
        }
    }
}
