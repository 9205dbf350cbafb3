//! What the run tells: [`reporter`] is one task and the only writer; it records to the [`journal`], feeds the
//! [`progress`] bar, and when all is done [`files`] makes of the journal, through the [`ledger`], what people read, with
//! [`summary`].
//!
//! Nothing here calls the API.

pub mod files;
pub mod journal;
pub mod ledger;
pub mod preview;
pub mod progress;
pub mod reporter;
pub mod rundir;
pub mod summary;

pub use rundir::RunDir;
