//! The members that rows name: [`lookup`] asks the API for them, [`strategy`] decides how, [`pages`] requests the pages of
//! a listing, [`evidence`] says whether a listing is complete, and [`directory`] keeps what was found.

pub(crate) mod directory;
mod evidence;
mod lookup;
mod pages;
mod strategy;

pub(crate) use directory::{Directory, KeyKind};
pub(crate) use evidence::ListingEvidence;
pub(crate) use lookup::{Lookup, LookupError, LookupProgress};
pub(crate) use pages::Pages;
pub(crate) use strategy::LookupMode;
