//! The members that rows name: [`lookup`] asks the API for them, [`strategy`] decides how, and [`directory`] keeps
//! what was found.

pub(crate) mod directory;
mod lookup;
mod strategy;

pub(crate) use directory::{Directory, KeyKind};
pub(crate) use lookup::{Lookup, LookupError};
pub(crate) use strategy::LookupMode;
