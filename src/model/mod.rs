//! The domain: members, their fields, what a row changes, and how a row ends.
//!
//! Nothing here knows of files, HTTP or time, and nothing here imports another module of this crate. Everything
//! that the tool does to a member is a list of [`Change`]s: one field, the value before, and the value after.

pub(crate) mod change;
pub(crate) mod email;
pub(crate) mod field;
pub(crate) mod member;
pub(crate) mod outcome;
pub(crate) mod text;
pub(crate) mod value;

pub(crate) use change::Change;
pub(crate) use email::{address_in, is_email};
pub(crate) use field::{Field, FieldKind};
pub(crate) use member::{Found, Member, is_plain_id};
pub(crate) use outcome::{Applied, Effect, Outcome, RowOutcome};
pub(crate) use text::{
    bare, did_you_mean, fold, is_decoded_wrongly, is_invisible, looks_decoded_wrongly,
    looks_replaced, nearest, quoted, readings, shown,
};
pub(crate) use value::{Value, Values};
