//! The exit codes of the process. Scripts rely on them; the README lists them.

/// Every row is updated, unchanged or empty.
pub(crate) const SUCCESS: u8 = 0;
/// The run finished, and some rows did not succeed.
pub(crate) const SOME_ROWS_FAILED: u8 = 1;
/// The command line, the configuration or the input is wrong; nothing was sent.
pub(crate) const USAGE: u8 = 2;
/// The tool could not sign in, or the API could not be reached.
pub(crate) const API: u8 = 3;
/// The run was stopped by a limit, or because a result could not be recorded; it can be resumed.
pub(crate) const STOPPED: u8 = 4;
/// Another run holds the lock of this organization.
pub(crate) const LOCKED: u8 = 5;
/// With `--detailed-exitcode`, a dry run found something to change, and nothing wrong.
pub(crate) const CHANGES: u8 = 6;
/// The terminal is gone (SIGHUP, signal 1). For signals, shells use 128 plus the signal's number.
pub(crate) const HANGUP: u8 = 129;
/// Ctrl-C (SIGINT, signal 2).
pub(crate) const INTERRUPT: u8 = 130;
/// SIGTERM (signal 15).
pub(crate) const TERMINATE: u8 = 143;
