//! `journal.jsonl`: what is about to be done, before it is done, and what became of it.
//!
//! JSON lines, append-only, one writer. The first line binds the run to its input, host and organization. A line
//! is in the file (in the system's hands, safe from the death of this process) before anything that depends on it
//! happens, and on the disk (safe from a power cut) within [`SYNC_EVERY`]. A last line that is torn is normal after
//! a crash; damage elsewhere is not, and is refused.

mod index;
mod read;
mod record;
mod write;

use std::time::Duration;

pub use index::{Index, Places};
pub use read::{Extent, JournalError, JournalReader};
pub use record::{Effect, Ended, Glance, Head, InputKind, OutcomeRecord, Record, Sent, Text};
pub use write::Journal;

/// The format's version.
pub const VERSION: u32 = 1;
/// The journal is synced to disk at least so often while it grows.
pub const SYNC_EVERY: Duration = Duration::from_millis(200);
