//! The way of a row through the run: [`producer`] reads it, [`scheduler`] lets one row of a member start at a time,
//! and [`worker`] brings it to its outcome. What happens is sent as [`crate::event::Event`]s; nothing here knows who
//! receives them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Event, Intent};
use crate::input::{KeyId, Row};

pub(crate) mod canary;
pub(crate) mod limits;
pub(crate) mod producer;
pub(crate) mod scheduler;
pub(crate) mod worker;

/// A row on its way to its outcome.
#[derive(Clone, Debug)]
pub(crate) struct RowTask {
    /// The row.
    pub row: Row,
    /// The key of the row's member.
    pub key: KeyId,
    /// The member who must have given up the email that this row takes.
    pub waits_for: Option<KeyId>,
    /// The intent that an earlier session of the run recorded for this row.
    pub prior: Option<Arc<Intent>>,
}

/// The channel to the reporter. It is bounded: when it is full, the run waits.
pub(crate) type Events = mpsc::Sender<Event>;
