//! Reads a CSV or a plan into row requests, and checks the whole file before anything is sent.
//!
//! This module does no HTTP and no waiting: a read takes a few microseconds from the page cache. A row passes
//! the modules in this order: [`text`] decodes and copies the input, [`table`] parses CSV rows, [`plan`]
//! reads the rows of a saved preview, [`preflight`](mod@preflight) checks the whole file, using [`relations`] for conflicts
//! between rows, and [`keys`] stores the keys.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use crate::model::{Change, Field, Value, Values, did_you_mean, fold};

pub(crate) mod cells;
pub(crate) mod damage;
pub(crate) mod escape;
pub(crate) mod header;
pub(crate) mod keys;
mod lines;
pub(crate) mod plan;
pub(crate) mod preflight;
#[cfg(test)]
mod properties;
mod quotes;
pub(crate) mod relations;
pub(crate) mod table;
pub(crate) mod text;

pub(crate) use keys::{KeyId, KeyTable};
pub(crate) use preflight::{Preflight, preflight};
pub(crate) use table::{RowPosition, Table, TableOptions};

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

    /// Returns the email or the id of the member who receives the documents, as the row names it.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match &self.request {
            RowRequest::Desired(values) => values.text(Field::NewOwner),
            // A plan has the id that was found when it was made.
            RowRequest::Planned { .. } => None,
        }
    }

    /// Returns whether the row archives its member.
    #[must_use]
    pub fn archives(&self) -> bool {
        Field::ALL
            .into_iter()
            .any(|field| field.archives() && self.value(field) == Some(&Value::Flag(true)))
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

    /// Returns the number of blank rows that were skipped so far.
    pub(crate) fn blank_rows(&self) -> u64 {
        match self {
            Self::Csv(table) => table.blank_rows(),
            Self::Plan(_) => 0,
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
    #[error("{input} can't be opened: {source}{near}; check the path and its permissions")]
    Open {
        input: String,
        source: io::Error,
        /// A file beside it that may be meant, as a part of the sentence.
        near: String,
    },
    #[error("{input} can't be read: {source}")]
    Read { input: String, source: io::Error },
    #[error("the run directory's copy of the input can't be written: {0}; nothing was sent")]
    Copy(io::Error),
    #[error("{input} can't be used: {what}")]
    NotText { input: String, what: String },
    #[error("{input} has only blank lines: its first line must name the columns, Email among them")]
    OnlyBlankLines { input: String },
    #[error("{input} is empty: its first line must name the columns, Email among them")]
    NoHeader { input: String },
    #[error("{input}, line {line}{problems}")]
    Columns {
        input: String,
        line: u64,
        problems: String,
    },
    #[error(
        "{input}, line {first}: this is not the header, which seems to be on line {line}; remove the lines above it"
    )]
    HeaderBelow {
        input: String,
        first: u64,
        line: u64,
    },
    #[error(
        "{input}, line {line}: column {number} has no name in the header, and here the value {value}; name it, or remove the value"
    )]
    NamelessColumn {
        input: String,
        line: u64,
        number: usize,
        value: String,
    },
    #[error(
        "{input}, line {line}: {what}, so that the rest of the file can't be trusted; close the quote that opens here, or double it (\"\") if it belongs to the value"
    )]
    Quotes {
        input: String,
        line: u64,
        what: &'static str,
    },
    #[error(
        "{input}, line {line}: a quote opens and is never closed, so that the rest of the file is one cell; close it, or double it (\"\") if it belongs to the value"
    )]
    OpenQuote { input: String, line: u64 },
    #[error(
        "{input}, line {line}: a quote opens and is not closed within 1 MiB, the most that a cell may have; close it, or double it (\"\") if it belongs to the value"
    )]
    LongQuote { input: String, line: u64 },
    #[error(
        "{input}, line {line}: a cell is longer than 1 MiB, or a row longer than 4 MiB; look for a missing line break or quote"
    )]
    TooLong { input: String, line: u64 },
    #[error("{input} has more than 4,294,967,295 rows or members; split it")]
    TooManyRows { input: String },
    #[error(
        "{input} is not a plan: update --dry-run --save-plan FILE writes one; if it is a CSV, run it by sigma-bulk update {}",
        crate::shell::quoted(input)
    )]
    NoPlan { input: String },
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

impl InputError {
    pub(crate) fn too_many_rows(input: &str) -> Self {
        Self::TooManyRows {
            input: input.to_owned(),
        }
    }

    /// The error of a file that can't be opened.
    pub(crate) fn open(path: &Path, source: io::Error) -> Self {
        Self::Open {
            input: path.display().to_string(),
            near: match source.kind() {
                io::ErrorKind::NotFound => file_like(path),
                _ => String::new(),
            },
            source,
        }
    }
}

/// The number of neighbours of a missing file whose names are compared with it.
const FILES_LOOKED_AT: usize = 10_000;

/// Returns ` (did you mean "…"?)` with a file of nearly the same name in the same directory, or nothing.
fn file_like(path: &Path) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (Some(wanted), Ok(entries)) = (path.file_name(), std::fs::read_dir(directory)) else {
        return String::new();
    };
    let names: Vec<String> = entries
        .take(FILES_LOOKED_AT)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    did_you_mean(&wanted.to_string_lossy(), names.iter().map(String::as_str))
}
