//! End-to-end tests: they run the built binary over real HTTP against the sandbox.
//!
//! All tests are in one binary, so that it is linked only once. Most tests start their own sandbox with the
//! members and the faults that they need.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unchecked_time_subtraction,
    clippy::unused_self,
    reason = "a test may panic on an unexpected value, and the speed of its string building does not matter"
)]

mod api; // HTTP behaviour: statuses, retries, pauses, rate limits, tokens.
mod connections; // TLS and HTTP/2.
mod counts; // The counts before a run, the preview and the run agree.
mod dry_run; // Previews, saved plans, and applying them.
mod exit_codes; // One test for each exit code.
mod export; // Exports, and that an update of an export changes nothing.
mod files; // Files as people make them: damaged, of another kind, or changed by a spreadsheet.
mod garbage; // Servers that answer with malformed data.
#[cfg(unix)]
mod guide; // The guide is true: its transcripts are run, by sh.
mod harness; // Helpers: starts the sandbox, runs the binary, reads a run's files.
mod identity; // Who the credentials belong to, and to which organization a run is bound.
mod input; // Valid and invalid CSV files.
mod limits; // Limits and stop triggers.
mod lookup; // Which member a row targets, in either lookup mode.
mod order; // Repeated rows and renames, compared with a sequential model.
mod outage; // Outages, blocks and bans: trouble that is alike for everybody.
mod outcomes; // One test for each outcome.
mod report; // Terminal output and the files of a run.
mod resume; // Runs that are killed or stopped, and then resumed.
mod runs; // Runs after they ended: names, lists, undos, reports.
#[cfg(unix)]
mod scheduling; // The examples for schedulers: shown in the guide, and run.
mod settings; // Flags, environment variables, configuration file.
mod setup; // The first minutes: init, check, help, and a wrong setup.
mod soak; // Everything at once, and every claim compared with the server.
mod tampering; // The tool's own files, changed or taken away by others.
#[cfg(unix)]
mod terminal; // What people see in a terminal.
mod unattended; // Runs that a scheduler starts.
mod undo; // Undoing a run.
mod windows; // What is particular to Windows, and commands for the shell in use.
#[cfg(unix)]
mod workflow; // The format of GitHub's workflows.
