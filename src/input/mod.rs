//! Reads a CSV or a plan into row requests, and checks the whole file before anything is sent.
//!
//! This module does no HTTP and no waiting: a read takes a few microseconds from the page cache. A row passes
//! the modules in this order: [`text`] decodes and copies the input, [`table`] parses CSV rows, [`plan`]
//! reads the rows of a saved preview, [`preflight`] checks the whole file, using [`relations`] for conflicts
//! between rows, and [`keys`] stores the keys.

use std::borrow::Cow;
use std::io;

use crate::model::{Change, Field, Value, Values, fold};

mod header;
pub(crate) mod keys;
mod lines;
pub(crate) mod plan;
pub(crate) mod preflight;
pub(crate) mod relations;
pub(crate) mod table;
pub(crate) mod text;

pub(crate) use keys::{KeyId, KeyTable};
pub(crate) use preflight::{Preflight, preflight};
pub(crate) use table::{RowPosition, Table};

/// One row of the input and what it requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The row number, from 1.
    pub number: u32,
    /// The physical line on which the row starts, from 1.
    pub line: u64,
    /// The member's email as written in the row, trimmed.
    pub email: Box<str>,
    /// The requested change.
    pub request: RowRequest,
    /// The number of cells that had surrounding white space.
    pub trimmed: u32,
}

/// What a row requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowRequest {
    /// Give the member with this email these values, whatever its current values are.
    Desired(Values),
    /// Apply exactly these changes to the member with this id, and only if it still has the values it had
    /// when the plan was made.
    Planned {
        /// The member's id.
        member_id: Box<str>,
        /// The value before and after, for each field.
        changes: Vec<Change>,
    },
}

impl Row {
    /// Returns the key that identifies the row's member: the folded email, or the member's id.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        match &self.request {
            RowRequest::Desired(_) => fold(&self.email),
            RowRequest::Planned { member_id, .. } => Cow::Borrowed(member_id),
        }
    }

    /// Returns the value that the row requests for `field`.
    #[must_use]
    pub fn value(&self, field: Field) -> Option<&Value> {
        match &self.request {
            RowRequest::Desired(values) => values.get(field),
            RowRequest::Planned { changes, .. } => changes
                .iter()
                .find(|change| change.field == field)
                .map(|change| &change.after),
        }
    }

    /// Returns the new email that the row requests, folded.
    #[must_use]
    pub fn new_email(&self) -> Option<Cow<'_, str>> {
        self.value(Field::Email).and_then(Value::as_text).map(fold)
    }

    /// Returns a hash of what the row requests. It is the same in every version of the tool: FNV-1a, 64 bits
    /// (<http://www.isthe.com/chongo/tech/comp/fnv/>). It detects accidental changes to a row that was sent;
    /// it is not a cryptographic seal.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let mut hash = OFFSET_BASIS;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
        };
        add(self.email.as_bytes());
        for field in Field::ALL {
            match self.value(field) {
                None => {}
                Some(Value::Text(text)) => {
                    add(&[0, field as u8]);
                    add(text.as_bytes());
                }
                Some(Value::Flag(flag)) => add(&[0, field as u8, u8::from(*flag)]),
            }
        }
        hash
    }

    /// Returns the new owner's email, if the owner is given as an email. A member id contains no `@`.
    #[must_use]
    pub fn owner_email(&self) -> Option<&str> {
        match &self.request {
            RowRequest::Desired(values) => values
                .text(Field::NewOwner)
                .filter(|owner| owner.contains('@')),
            RowRequest::Planned { .. } => None,
        }
    }
}

/// A row that is invalid and is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The row number, from 1.
    pub number: u32,
    /// The physical line on which the row starts, from 1.
    pub line: u64,
    /// The email, or an empty string if there is none.
    pub email: Box<str>,
    /// What is wrong, and how to fix it.
    pub problem: Box<str>,
}

/// A parsed row, valid or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Entry {
    /// A valid row.
    Row(Row),
    /// An invalid row.
    Bad(BadRow),
}

/// The rows of a run, from a CSV or from a plan.
#[derive(Debug)]
pub enum Rows {
    /// A CSV.
    Csv(Box<Table>),
    /// A plan.
    Plan(Box<plan::PlanReader>),
}

impl Rows {
    /// Returns the next row, or `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the input as a whole is invalid.
    pub fn next_entry(&mut self) -> Result<Option<(RowPosition, Entry)>, InputError> {
        match self {
            Self::Csv(table) => table.next_entry(),
            Self::Plan(plan) => plan.next_entry(),
        }
    }

    /// Reads to the end of the file, past the limit, because an error after the limit still makes the whole
    /// file invalid.
    ///
    /// # Errors
    /// Returns an error if the input as a whole is invalid.
    pub fn check_rest(&mut self) -> Result<(), InputError> {
        match self {
            Self::Csv(table) => table.lift_limit(),
            Self::Plan(plan) => plan.lift_limit(),
        }
        while self.next_entry()?.is_some() {}
        Ok(())
    }

    /// Reads the row at `place` again.
    ///
    /// # Errors
    /// Returns an error if the input can't be read.
    pub fn entry_at(&mut self, place: RowPosition) -> Result<Entry, InputError> {
        match self {
            Self::Csv(table) => table.entry_at(place),
            Self::Plan(plan) => plan.entry_at(place),
        }
    }

    /// Returns the fields that a row may change.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        match self {
            Self::Csv(table) => table.layout().fields().collect(),
            Self::Plan(_) => Field::ALL.to_vec(),
        }
    }
}

/// The input as a whole is invalid, and nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{input} can't be opened: {source}; check the path and its permissions")]
    Open { input: String, source: io::Error },
    #[error("{input} can't be read: {source}")]
    Read { input: String, source: io::Error },
    #[error("the run directory's copy of the input can't be written: {0}; nothing was sent")]
    Copy(io::Error),
    #[error("{input} can't be used: {what}")]
    NotText { input: String, what: &'static str },
    #[error("{input} is empty: its first line must name the columns, Email among them")]
    NoHeader { input: String },
    #[error(
        "{input}, line 1: there is no column \"Email\" (names are case-sensitive); the columns found are: {header}"
    )]
    NoEmail { input: String, header: String },
    #[error("{input}, line 1: column {number} is called \"{name}\", which is unknown; {hint}")]
    UnknownColumn {
        input: String,
        number: usize,
        name: String,
        hint: String,
    },
    #[error(
        "{input}, line 1: column \"{name}\" occurs twice (columns {first} and {second}); remove one"
    )]
    RepeatedColumn {
        input: String,
        name: String,
        first: usize,
        second: usize,
    },
    #[error(
        "{input}, line {line}: a quote opens and is never closed, so that the rest of the file is one cell; close it, or double it (\"\") if it belongs to the value"
    )]
    OpenQuote { input: String, line: u64 },
    #[error("{input} has more than 4,294,967,295 rows or members; split it")]
    TooManyRows { input: String },
    #[error("{input}, line {line}: it is not a plan of sigma-bulk, or it is damaged: {what}")]
    Plan {
        input: String,
        line: u64,
        what: String,
    },
    #[error(
        "line {line} of the run directory's copy is not the row that was checked before: the copy was changed while the run went on"
    )]
    Changed { line: u64 },
}
