//! The members that rows name: [`lookup`] asks the API for them, [`strategy`] decides how, [`evidence`] says whether a
//! listing is complete, and [`directory`] keeps what was found.

pub(crate) mod directory;
mod evidence;
mod lookup;
mod strategy;

pub(crate) use directory::{Directory, KeyKind};
pub(crate) use lookup::{Lookup, LookupError};
pub(crate) use strategy::LookupMode;
