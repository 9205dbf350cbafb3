//! What people and scripts see of a run. While it runs, the [`reporter`] is one task and the only writer: it records
//! to the journal and feeds the [`progress`] display. At its end, [`results`] makes the files from the history, and
//! [`summary`] says what the run came to.
//!
//! Nothing here calls the API, or knows that there is one.

pub(crate) mod preview;
pub(crate) mod progress;
pub(crate) mod reporter;
pub(crate) mod results;
pub(crate) mod summary;
pub(crate) mod totals;
