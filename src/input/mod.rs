//! From a CSV, or a plan, to row requests, and the checks of the whole file before anything is sent.
//!
//! No HTTP here, and nothing waits: reading is a few microseconds from the page cache. In the order of a row's
//! way: [`text`] decodes and copies, [`table`] cuts rows, [`plan`] reads what was previewed, [`preflight`] checks
//! the whole file with [`relations`] between its rows, and [`names`] keeps the keys.

use std::borrow::Cow;
use std::io;

use crate::change::{Change, Field, Value, Values, fold};

mod lines;
pub mod names;
pub mod plan;
pub mod preflight;
pub mod relations;
pub mod table;
pub mod text;

pub use names::{NameId, Names};
pub use preflight::{Preflight, preflight};
pub use relations::Relations;
pub use table::{Layout, Place, Table};

/// What one row asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number, from 1.
    pub number: u32,
    /// The physical line on which it starts, from 1.
    pub line: u64,
    /// The member's email as the row spells it, trimmed.
    pub email: Box<str>,
    /// What to do.
    pub ask: Ask,
    /// How many cells had white space around them.
    pub trimmed: u32,
}

/// What a row asks to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The member with this email shall hold these values, whatever it holds now.
    Wanted(Values),
    /// The member with this id shall be changed exactly so, and only if it holds what it held then.
    Planned {
        /// The member.
        member_id: Box<str>,
        /// Before and after, field by field.
        changes: Vec<Change>,
    },
}

impl Row {
    /// By what rows of one member are recognized: the folded email, or the member's id.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        match &self.ask {
            Ask::Wanted(_) => fold(&self.email),
            Ask::Planned { member_id, .. } => Cow::Borrowed(member_id),
        }
    }

    /// The value that the row gives `field`.
    #[must_use]
    pub fn wants(&self, field: Field) -> Option<&Value> {
        match &self.ask {
            Ask::Wanted(values) => values.get(field),
            Ask::Planned { changes, .. } => changes
                .iter()
                .find(|change| change.field == field)
                .map(|change| &change.after),
        }
    }

    /// The email that the row gives its member, folded.
    #[must_use]
    pub fn new_email(&self) -> Option<Cow<'_, str>> {
        self.wants(Field::Email).and_then(Value::as_text).map(fold)
    }

    /// A hash of what the row asks for, the same in every version of the tool: FNV-1a, 64 bits
    /// (<http://www.isthe.com/chongo/tech/comp/fnv/>). It tells an accident from the row that was sent, and is no seal.
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
            match self.wants(field) {
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

    /// The email of the member who shall own the documents; a member's id has no `@`.
    #[must_use]
    pub fn owner_email(&self) -> Option<&str> {
        match &self.ask {
            Ask::Wanted(values) => values
                .text(Field::NewOwner)
                .filter(|owner| owner.contains('@')),
            Ask::Planned { .. } => None,
        }
    }
}

/// A row that can't be sent as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The number, from 1.
    pub number: u32,
    /// The physical line on which it starts, from 1.
    pub line: u64,
    /// The email, if there is one.
    pub email: Box<str>,
    /// What is wrong and what to do.
    pub problem: Box<str>,
}

/// What stands at one row's place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Entry {
    /// A row that can be sent.
    Row(Row),
    /// One that can't.
    Bad(BadRow),
}

/// The rows of a run, from whatever holds them.
#[derive(Debug)]
pub enum Rows {
    /// A CSV.
    Csv(Box<Table>),
    /// A plan.
    Plan(Box<plan::PlanReader>),
}

impl Rows {
    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// If the input is wrong as a whole.
    pub fn next_entry(&mut self) -> Result<Option<(Place, Entry)>, InputError> {
        match self {
            Self::Csv(table) => table.next_entry(),
            Self::Plan(plan) => plan.next_entry(),
        }
    }

    /// Reads on to the end, past the limit: a file that is wrong behind it is wrong all the same.
    ///
    /// # Errors
    /// If the input is wrong as a whole.
    pub fn check_rest(&mut self) -> Result<(), InputError> {
        match self {
            Self::Csv(table) => table.lift_limit(),
            Self::Plan(plan) => plan.lift_limit(),
        }
        while self.next_entry()?.is_some() {}
        Ok(())
    }

    /// The row at `place` once more.
    ///
    /// # Errors
    /// If the input can't be read.
    pub fn entry_at(&mut self, place: Place) -> Result<Entry, InputError> {
        match self {
            Self::Csv(table) => table.entry_at(place),
            Self::Plan(plan) => plan.entry_at(place),
        }
    }

    /// The fields that a row may change.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        match self {
            Self::Csv(table) => table.layout().fields().collect(),
            Self::Plan(_) => Field::ALL.to_vec(),
        }
    }
}

/// The input is wrong as a whole: nothing is sent.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
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
        "{input}, line 1: column \"{name}\" stands there twice (columns {first} and {second}); remove one"
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
    #[error("{input}, line {line}: this is no plan of sigma-bulk that can be read: {what}")]
    Plan {
        input: String,
        line: u64,
        what: String,
    },
}
