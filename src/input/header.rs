//! The header of a CSV: which column holds what, and which byte separates the columns.

use std::fs::File;
use std::io::Read;

use csv::ByteRecord;

use super::InputError;
use super::table::{csv_reader, not_utf8};
use crate::model::Field;
use crate::output::Plain;

/// The column that identifies the member.
const EMAIL: &str = "Email";
/// Columns of `failed.csv` that are ignored on input, so that the file can be used as input unchanged.
const IGNORED: [&str; 2] = ["Outcome", "Message"];
/// The delimiters that can be detected from the header.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
/// The maximum number of header bytes that delimiter detection reads.
const MAX_HEADER: u64 = 64 * 1024;
/// What people write instead of `Email`, in lower case and without blanks and punctuation.
const EMAIL_ALIASES: [&str; 7] = [
    "mail",
    "emailaddress",
    "user",
    "username",
    "login",
    "currentemail",
    "oldemail",
];

/// The parsed header.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The byte that separates the cells.
    pub delimiter: u8,
    /// The header's cells, trimmed.
    pub header: Vec<String>,
    columns: Vec<Column>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The email that identifies the member.
    Email,
    /// A field to change.
    Field(Field),
    /// A column that is not read.
    Ignored,
}

impl Layout {
    /// Returns the number of columns.
    pub(super) const fn width(&self) -> usize {
        self.columns.len()
    }

    /// Returns what the column with this index holds. Cells beyond the header are ignored.
    pub(super) fn column(&self, index: usize) -> Column {
        self.columns.get(index).copied().unwrap_or(Column::Ignored)
    }

    /// Returns the fields that have a column.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.columns.iter().filter_map(|column| match column {
            Column::Field(field) => Some(*field),
            Column::Email | Column::Ignored => None,
        })
    }

    /// Returns whether this column identifies the member.
    #[must_use]
    pub fn is_email(&self, column: usize) -> bool {
        self.columns.get(column) == Some(&Column::Email)
    }

    /// Returns whether the tool reads this column.
    #[must_use]
    pub fn is_read(&self, column: usize) -> bool {
        self.columns
            .get(column)
            .is_some_and(|column| *column != Column::Ignored)
    }

    pub(super) fn from_header(
        input: &str,
        delimiter: u8,
        record: &ByteRecord,
    ) -> Result<Self, InputError> {
        let mut header: Vec<String> = Vec::with_capacity(record.len());
        let mut columns = Vec::with_capacity(record.len());
        for (index, cell) in record.iter().enumerate() {
            let name = std::str::from_utf8(cell)
                .map_err(|_| not_utf8(input, 1))?
                .trim()
                .to_owned();
            let column = if name == EMAIL {
                Column::Email
            } else if let Some(field) = Field::from_column(&name) {
                Column::Field(field)
            } else if IGNORED.contains(&name.as_str()) {
                Column::Ignored
            } else {
                return Err(InputError::UnknownColumn {
                    input: input.to_owned(),
                    number: index + 1,
                    hint: suggestion(&name),
                    name: Plain(&name).to_string(),
                });
            };
            if let Some(first) = header.iter().position(|other| *other == name) {
                return Err(InputError::RepeatedColumn {
                    input: input.to_owned(),
                    name: Plain(&name).to_string(),
                    first: first + 1,
                    second: index + 1,
                });
            }
            header.push(name);
            columns.push(column);
        }
        if !columns.contains(&Column::Email) {
            return Err(InputError::NoEmail {
                input: input.to_owned(),
                header: Plain(header.join(", ")).to_string(),
            });
        }
        Ok(Self {
            delimiter,
            header,
            columns,
        })
    }
}

fn suggestion(name: &str) -> String {
    let bare = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    let wanted = bare(name);
    let names = || std::iter::once(EMAIL).chain(Field::ALL.into_iter().map(Field::column));
    let exact = names().find(|column| bare(column) == wanted);
    let alias = || {
        let of_email = EMAIL_ALIASES.contains(&wanted.as_str()).then_some(EMAIL);
        let has_alias = |field: &Field| field.aliases().contains(&wanted.as_str());
        of_email.or_else(|| Field::ALL.into_iter().find(has_alias).map(Field::column))
    };
    let near = || {
        names()
            .map(|column| (strsim::jaro_winkler(&bare(column), &wanted), column))
            .filter(|(likeness, _)| *likeness >= 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, column)| column)
    };
    match exact.or_else(alias).or_else(near) {
        Some(column) => format!("did you mean \"{column}\"?"),
        None => format!("the columns are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

/// Returns the delimiter with which the header has the most known columns, or, if it has none, the one that
/// splits its first line most often.
pub(super) fn find_delimiter(file: File) -> std::io::Result<u8> {
    let mut head = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut head)?;
    let known = |delimiter: u8| {
        let mut record = ByteRecord::new();
        let mut reader = csv_reader(head.as_slice(), delimiter);
        if !matches!(reader.read_byte_record(&mut record), Ok(true)) {
            return 0;
        }
        record
            .iter()
            .filter_map(|cell| std::str::from_utf8(cell).ok())
            .filter(|cell| {
                let name = cell.trim();
                name == EMAIL || Field::from_column(name).is_some() || IGNORED.contains(&name)
            })
            .count()
    };
    let mut best = (0, b',');
    for delimiter in DELIMITERS {
        let count = known(delimiter);
        if count > best.0 {
            best = (count, delimiter);
        }
    }
    if best.0 > 0 {
        return Ok(best.1);
    }
    // No column is known. Choose the most frequent delimiter, so that the message names a sensible first
    // unknown column.
    let line = head
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    let count = |delimiter: u8| line.split(|byte| *byte == delimiter).count();
    Ok(DELIMITERS
        .into_iter()
        .rev()
        .max_by_key(|delimiter| count(*delimiter))
        .unwrap_or(b','))
}
