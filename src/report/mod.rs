//! What people and scripts see of a run. While it runs, the [`reporter`] is one task and the only writer: it records
//! to the journal and feeds the [`progress`] display. At its end, [`results`] makes the files from the history, [`summary`]
//! says what the run came to for scripts, and [`closing`] for people.
//!
//! Nothing here calls the API, or knows that there is one.

pub(crate) mod chart;
pub(crate) mod closing;
pub(crate) mod csv_file;
pub(crate) mod document;
pub(crate) mod estimate;
pub(crate) mod events;
pub(crate) mod junit;
pub(crate) mod markdown;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod preview;
pub(crate) mod progress;
pub(crate) mod reporter;
pub(crate) mod results;
pub(crate) mod story;
pub(crate) mod summary;
pub(crate) mod totals;
