//! What the tool must never lose: the lock of an organization, the run directory, the journal in it, and the history
//! of a run that is read back from its journal.
//!
//! Reports are made from what is stored here; nothing here knows how they look, or who calls the API.

pub(crate) mod catalog;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod run_dir;

pub(crate) use history::{HistoryError, RunHistory};
pub(crate) use run_dir::{RunDir, RunDirError};
