//! `sigma-bulk` changes the members of a Sigma organization from a CSV.
//!
//! The way of a row, and the modules in its order:
//!
//! ```text
//!  CSV file ──► input ──► preflight ──► producer ══► scheduler ══► workers ══► reporter ──► bar, files, summary
//!              records    whole-file    bounded      one row a      lookup,     one task,
//!              to rows    checks,       channel      member at      diff,       the only
//!                         nothing sent               a time         PATCH       writer
//!                                                                   │  ▲
//!                                                           pacer · retry · token
//! ```
//!
//! One direction, and every channel is bounded: a slow disk slows the run and never grows the memory. [`pipeline`]
//! and [`report`] both know [`event`] and never one another; [`gateway`] is the one door to the API; and [`run`] puts
//! it all together. [`sandbox`] is a stand-in of the API that shares nothing with [`sigma`], so that it can bear
//! witness.

pub mod change;
pub mod input;

pub mod directory;
pub mod event;
pub mod lookup;
pub mod pipeline;

pub mod gateway;
pub mod pace;
pub mod retry;
pub mod sigma;
pub mod stop;

pub mod output;
pub mod report;

pub mod cli;
pub mod lock;
pub mod run;
pub mod settings;

pub mod sandbox;
