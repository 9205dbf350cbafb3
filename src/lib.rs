//! `sigma-bulk` changes the members of a Sigma organization from a CSV.
//!
//! # The way of a row
//!
//! ```text
//!  CSV ──► input ──► preflight ──► producer ══► scheduler ══► workers ══► reporter ──► bar, files, summary
//!          records    whole file    bounded      one row of    decide,     the only
//!          to rows    checked       channel      a member      PATCH,      writer
//!                                                at a time     verdict
//!                                                              │  ▲
//!                                                      gateway: breaker · token · pace · retry
//! ```
//!
//! Rows go in one direction, and every channel is bounded: a slow disk slows down the run and never grows the memory. A
//! worker is plumbing. It fetches the member, asks `decide` what to do, records the intent, sends the update, and asks
//! `decide` what the answer means.
//!
//! # The rooms
//!
//! | module | owns |
//! |---|---|
//! | `model` | the domain: members, fields, changes, outcomes; it imports nothing of this crate |
//! | `input` | from a CSV or a plan to rows, and the checks of the whole file |
//! | `decide` | what to do with a row, and what an answer means; pure functions |
//! | `members` | which member a row names |
//! | `sigma` | the API: hosts, one attempt at each endpoint, JSON |
//! | `gateway` | the single path to the API: breaker, token, retries, statistics |
//! | `pace` | when the next request may go |
//! | `pipeline` | producer, scheduler, workers, canary, failure limits |
//! | `store` | lock, run directory, journal, run history |
//! | `seal` | the checksums of the lines of journals and plans |
//! | `report` | progress, preview, result files, summary; it knows no gateway |
//! | `settings`, `cli` | every setting, declared once; the command line |
//! | `run` | one file for each command, and the session that joins the tasks |
//! | `guide` | the longer documentation |
//! | `output`, `clock`, `shell`, `paths` | the terminal; times of day; how a shell quotes and runs; where files lie |
//! | `sandbox` | a simulated API; it shares nothing with `sigma`, so that it is an independent witness |
//!
//! # Glossary
//!
//! - **Change**: one field of a member, with the value before and the target value.
//! - **Clearance**: whether a row may be sent while the canary rows are verified.
//! - **Decision**: what to do with a row: send these changes, or end it with an outcome.
//! - **Effect**: what an outcome says about the update that the intent announced: applied, possible, or none.
//! - **In-flight limit**: the number of requests that may be under way at once.
//! - **Intent**: an update that is about to be sent, recorded in the journal before it goes out.
//! - **Journal**: the file that records every intent and every outcome; all other files are made from it.
//! - **Key**: what identifies a row's member: the folded email in a CSV, the member's id in a plan.
//! - **Outcome**: how a row ended. Each row has exactly one.
//! - **Permit**: the pacer's permission for one request in flight.
//! - **Plan**: exact changes of members by id, made by a dry run or an undo.
//! - **Preflight**: the checks of the whole file before anything is sent.
//! - **Run**: one input and what became of its rows. A **session** is one process that works on it; a resume starts
//!   another session of the same run.
//! - **Run history**: what became of each row, read back from the journal.
//! - **Verdict**: what the answer to an update means: an outcome, or that the member must be read again.

mod cli;
mod clock;
mod decide;
mod event;
mod exit_code;
mod gateway;
mod guide;
mod input;
mod members;
mod model;
mod output;
mod pace;
mod paths;
mod pipeline;
mod report;
mod run;
pub mod sandbox;
mod seal;
mod settings;
mod shell;
mod sigma;
mod stop;
mod store;

pub use run::main;

/// The parts that `benches/parts.rs` measures. They are no stable interface.
#[doc(hidden)]
pub mod parts {
    pub use crate::decide::row::{Decision, Others, Owner, row as decide};
    pub use crate::decide::rules::Rules;
    pub use crate::input::keys::KeyTable;
    pub use crate::input::preflight::preflight;
    pub use crate::input::table::{Table, TableOptions};
    pub use crate::input::{Row, RowRequest, Rows};
    pub use crate::members::directory::{Directory, KeyKind};
    pub use crate::model::field::Field;
    pub use crate::model::member::{Found, Member};
    pub use crate::model::value::{Value, Values};
    pub use crate::pace::search::{Search, SearchOptions};
}
