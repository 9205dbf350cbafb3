//! The tool as its users have it: the built binary, over real HTTP, against the sandbox.
//!
//! One binary, so that it is linked once. Most of these start their own sandbox with the members and the faults
//! that they are about.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unchecked_time_subtraction,
    clippy::unused_self,
    reason = "a test ends at once when something is not as it should be, and nobody waits for its strings"
)]

mod api; // Statuses, retries, tokens, listings: what is sent and what is made of the answers.
mod dry_run; // Previews, saved plans, and applying them.
mod exit_codes; // One test for each exit code.
mod garbage; // Servers that answer nonsense.
mod harness; // The sandbox on a thread, the binary, and a run's files.
mod input; // CSVs, right and wrong.
mod limits; // Brakes and stops.
mod lookup; // Who a row means, in either mode.
mod order; // Repeats and renames against one-by-one processing.
mod outcomes; // One test for each outcome.
mod report; // What is shown and written.
mod resume; // Killed, and resumed until done.
mod settings; // Flags, environment, file.
mod undo; // Put back.
