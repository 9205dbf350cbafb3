//! The decisions about a row, as pure functions: no I/O, no clock, nothing that waits.
//!
//! [`row()`] decides what to do with a row once its member is known; [`verdict`] decides what the API's answer to an
//! update means; [`rules`] holds what every row must keep to. The workers, a dry run, the counts before a run,
//! `--strict` and `--max-changes` all ask the same functions, so that they can't disagree.

mod counts;
mod kinds;
pub(crate) mod row;
pub(crate) mod rules;
pub(crate) mod verdict;

pub(crate) use counts::Counts;
pub(crate) use kinds::{ChangeKinds, Kind, Severity, Tense};
pub(crate) use row::{Decision, Others, Owner, before_lookup, confirm_prior, merge_prior, row};
pub(crate) use rules::Rules;
