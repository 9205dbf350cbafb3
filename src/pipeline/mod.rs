//! The way of a row through the run: [`producer`] reads it, [`scheduler`] lets one row a member go at a time,
//! [`worker`] brings it to its outcome. What happens is told as [`crate::event::Event`]s; nothing here knows who
//! listens.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Event, Intent};
use crate::input::{NameId, Row};

pub mod canary;
pub mod limits;
pub mod producer;
pub mod rules;
pub mod scheduler;
pub mod worker;

/// A row on its way.
#[derive(Clone, Debug)]
pub struct Job {
    /// The row.
    pub row: Row,
    /// Its member.
    pub key: NameId,
    /// The member who must have given up the email that this row takes.
    pub waits_for: Option<NameId>,
    /// What an earlier piece of the run meant to send for this row.
    pub prior: Option<Arc<Intent>>,
}

/// Where what happens is told; full, it holds up the run.
pub type Events = mpsc::Sender<Event>;
