//! `journal.jsonl`: every update before it is sent, and its outcome after it.
//!
//! JSON lines, append-only, with one writer. The first line binds the run to its input, host and organization. A line
//! is in the file (and so survives the death of this process) before anything that depends on it happens, and on the
//! disk (and so survives a power cut) within [`SYNC_EVERY`]. Each line is sealed (see [`crate::seal`]). A torn last line is
//! normal after a crash; damage elsewhere, or a line that was changed, is not, and is refused. While it is written, the
//! journal checks that its file is still there and as long as it must be.

mod index;
mod read;
mod record;
mod write;

use std::time::Duration;

pub(crate) use index::{JournalIndex, RecordOffsets, SessionHistory};
pub(crate) use read::{JournalError, JournalExtent, JournalReader};
pub(crate) use record::{
    CredentialUser, Head, InputKind, Origin, Record, RequestTotals, RunReference, Sample,
    SessionEnd,
};
pub(crate) use write::{Journal, JournalLost};

/// The version of the format.
pub(crate) const VERSION: u32 = 2;
/// The longest time for which a line in the file may not be on the disk yet.
pub(crate) const SYNC_EVERY: Duration = Duration::from_millis(200);
