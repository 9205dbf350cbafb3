//! Parses CSV text into row requests: the header, the delimiter, and one row at a time.
//!
//! An invalid header makes the whole file invalid ([`InputError`]). An invalid row becomes an [`Entry::Bad`],
//! and reading goes on. This module checks each row by itself; `relations` checks rows against one another.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::header::{Column, Layout, find_delimiter};
use super::lines::{LineReader, ends_inside};
use super::{BadRow, Entry, InputError, Row, RowRequest};
use crate::model::{Field, FieldKind, MAX_EMAIL, Value, Values, is_email};
use crate::output::{count, shortened};

/// Returns the error for bytes that are not UTF-8.
pub(super) fn not_utf8(input: &str, line: u64) -> InputError {
    InputError::NotText {
        input: format!("{input}, line {line}"),
        what: "it is not UTF-8 (an export in Windows-1252?); save the file as \"CSV UTF-8\"",
    }
}

/// Reads a CSV file row by row.
#[derive(Debug)]
pub struct Table {
    input: String,
    layout: Layout,
    reader: csv::Reader<LineReader<File>>,
    record: ByteRecord,
    number: u32,
    limit: u32,
    /// The position of the last row that was read, and the offset at which it ends.
    last: Option<(RowPosition, u64)>,
}

/// The position of a row, to read it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPosition {
    /// The row number, from 1.
    pub number: u32,
    /// The physical line on which the row starts, from 1.
    pub line: u64,
    /// The byte offset at which the csv reader finds the row.
    pub offset: u64,
}

impl Table {
    /// Opens the decoded copy of the input. `input` is the original's name in messages.
    ///
    /// If no delimiter is given, it is detected from the header. If the header is invalid with the given
    /// delimiter but valid with the detected one, the detected one is used: a delimiter set for the input
    /// files does not apply to failed.csv and undo.csv.
    ///
    /// # Errors
    /// Returns an error if the copy can't be read or its header is invalid.
    pub fn open(
        input: &str,
        copy: &Path,
        delimiter: Option<u8>,
        limit: Option<u32>,
    ) -> Result<Self, InputError> {
        let open = |delimiter| Self::open_with(input, copy, delimiter, limit);
        let find = || {
            File::open(copy)
                .and_then(find_delimiter)
                .map_err(|source| InputError::Open {
                    input: copy.display().to_string(),
                    source,
                })
        };
        match delimiter {
            None => open(find()?),
            Some(delimiter) => open(delimiter).or_else(|wrong| open(find()?).map_err(|_| wrong)),
        }
    }

    fn open_with(
        input: &str,
        copy: &Path,
        delimiter: u8,
        limit: Option<u32>,
    ) -> Result<Self, InputError> {
        let file = File::open(copy).map_err(|source| InputError::Open {
            input: copy.display().to_string(),
            source,
        })?;
        let mut reader = csv_reader(LineReader::new(file), delimiter);
        let mut record = ByteRecord::new();
        if !reader
            .read_byte_record(&mut record)
            .map_err(|e| csv_error(input, e))?
        {
            return Err(InputError::NoHeader {
                input: input.to_owned(),
            });
        }
        let layout = Layout::from_header(input, delimiter, &record)?;
        let end = reader.position().byte();
        let inside = || record.iter().map(ends_inside).sum();
        reader.get_mut().start_of(end, inside);
        Ok(Self {
            input: input.to_owned(),
            layout,
            reader,
            record,
            number: 0,
            limit: limit.unwrap_or(u32::MAX),
            last: None,
        })
    }

    /// Returns the parsed header.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// From now on, also reads the rows after the limit.
    pub(super) const fn lift_limit(&mut self) {
        self.limit = u32::MAX;
    }

    /// Returns the next row and its position, or `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is not text, or has a quote that is never closed. In the
    /// last case the number of rows is unknown.
    pub fn next_entry(&mut self) -> Result<Option<(RowPosition, Entry)>, InputError> {
        let Some(place) = self.advance()? else {
            return Ok(None);
        };
        Ok(Some((
            place,
            parse(&self.input, &self.layout, &self.record, place)?,
        )))
    }

    /// Returns the cells of the last row that was read, as they are in the file.
    #[must_use]
    pub const fn cells(&self) -> &ByteRecord {
        &self.record
    }

    fn advance(&mut self) -> Result<Option<RowPosition>, InputError> {
        if self.number == self.limit {
            return Ok(None);
        }
        let offset = self.reader.position().byte();
        if !self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| csv_error(&self.input, error))?
        {
            return self.close().map(|()| None);
        }
        let inside = || self.record.iter().map(ends_inside).sum();
        let end = self.reader.position().byte();
        let line = self.reader.get_mut().start_of(end, inside);
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| InputError::TooManyRows {
                input: self.input.clone(),
            })?;
        let place = RowPosition {
            number: self.number,
            line,
            offset,
        };
        self.last = Some((place, end));
        Ok(Some(place))
    }

    /// At the end of the file, checks whether the last row has a quote that is never closed, which would turn
    /// the rest of the file into one cell.
    fn close(&self) -> Result<(), InputError> {
        match self.last {
            Some((place, end))
                if has_open_quote(
                    self.reader.get_ref().inner(),
                    place.offset,
                    end,
                    self.layout.delimiter,
                ) =>
            {
                Err(InputError::OpenQuote {
                    input: self.input.clone(),
                    line: place.line,
                })
            }
            _ => Ok(()),
        }
    }

    /// Reads the row at `place` again. Rows read after it are no longer numbered correctly, so use a separate
    /// table for this.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or was changed meanwhile.
    pub fn entry_at(&mut self, place: RowPosition) -> Result<Entry, InputError> {
        let mut position = csv::Position::new();
        position.set_byte(place.offset).set_line(place.line);
        self.reader
            .seek_raw(SeekFrom::Start(place.offset), position)
            .and_then(|()| self.reader.read_byte_record(&mut self.record))
            .map_err(|error| csv_error(&self.input, error))?;
        parse(&self.input, &self.layout, &self.record, place)
    }
}

pub(super) fn csv_reader<R: Read>(inner: R, delimiter: u8) -> csv::Reader<R> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(64 * 1024)
        .from_reader(inner)
}

fn csv_error(input: &str, error: csv::Error) -> InputError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => InputError::Read {
            input: input.to_owned(),
            source,
        },
        other => InputError::Read {
            input: input.to_owned(),
            source: std::io::Error::other(format!("{other:?}")),
        },
    }
}

/// Returns whether the last record, at `start..end`, has a quote that is never closed.
fn has_open_quote(mut file: &File, start: u64, end: u64, delimiter: u8) -> bool {
    let mut text = Vec::new();
    let length = end.saturating_sub(start);
    // The reader has reached the end, so its position in the file may change.
    let read = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.take(length).read_to_end(&mut text));
    read.is_ok() && ends_quoted(&text, delimiter)
}

/// Returns whether a record ends inside quotes. A quote that is not at the start of a cell is an ordinary
/// character.
fn ends_quoted(record: &[u8], delimiter: u8) -> bool {
    let (mut begins, mut quoted) = (true, false);
    let mut bytes = record.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            // A doubled quote is one quote that belongs to the value.
            if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
                quoted = false;
            }
            continue;
        }
        quoted = begins && byte == b'"';
        begins = byte == delimiter || matches!(byte, b'\n' | b'\r');
    }
    quoted
}

fn parse(
    input: &str,
    layout: &Layout,
    record: &ByteRecord,
    place: RowPosition,
) -> Result<Entry, InputError> {
    let mut email = "";
    let mut wanted = Values::default();
    let mut trimmed = 0;
    let mut problem: Option<String> = None;
    for (index, cell) in record.iter().enumerate() {
        let raw = std::str::from_utf8(cell).map_err(|_| not_utf8(input, place.line))?;
        if raw.contains('\0') {
            return Err(InputError::NotText {
                input: format!("{input}, line {}", place.line),
                what: "it has a NUL byte; save the file as \"CSV UTF-8\"",
            });
        }
        let value = raw.trim();
        let column = layout.column(index);
        if value.len() != raw.len() && column != Column::Ignored {
            trimmed += 1;
        }
        if raw.len() > raw.trim_start().len() && value.starts_with('"') && column != Column::Ignored
        {
            problem.get_or_insert_with(|| {
                format!(
                    "there is a blank before the quote of {}: remove it, or the quotes are part of the value",
                    layout.header.get(index).map_or("a cell", String::as_str)
                )
            });
        }
        match column {
            Column::Email => email = value,
            Column::Field(field) if !value.is_empty() => match parse_value(field, value) {
                Ok(value) => wanted.set(field, Some(value)),
                Err(message) => {
                    problem.get_or_insert(message);
                }
            },
            Column::Field(_) | Column::Ignored => {}
        }
    }
    if record.len() != layout.width() {
        problem = Some(format!(
            "the row has {} and the header {}: look for a missing or an unquoted delimiter ({})",
            count(record.len() as u64, "cell"),
            layout.width(),
            if layout.delimiter == b'\t' {
                "tab".to_owned()
            } else {
                char::from(layout.delimiter).to_string()
            },
        ));
    } else if email.is_empty() {
        problem = Some("the Email is missing: name the member to change".to_owned());
    } else if email.len() > MAX_EMAIL {
        problem = Some(format!(
            "the Email has {} bytes, and no address has more than {MAX_EMAIL}",
            email.len()
        ));
    }
    Ok(match problem {
        None => Entry::Row(Row {
            number: place.number,
            line: place.line,
            email: email.into(),
            request: RowRequest::Desired(wanted),
            trimmed,
        }),
        Some(problem) => Entry::Bad(BadRow {
            number: place.number,
            line: place.line,
            email: email.into(),
            problem: problem.into(),
        }),
    })
}

fn parse_value(field: Field, value: &str) -> Result<Value, String> {
    let remedy = |remedy: &str| {
        let column = field.column();
        format!(
            "{column} is \"{}\": write {remedy}, or leave it blank",
            shortened(value)
        )
    };
    match field.kind() {
        FieldKind::Flag if value.eq_ignore_ascii_case("true") => Ok(Value::Flag(true)),
        FieldKind::Flag if value.eq_ignore_ascii_case("false") => Ok(Value::Flag(false)),
        FieldKind::Flag => Err(remedy("true or false")),
        FieldKind::Email if !is_email(value) => Err(format!(
            "{} is \"{}\", which is not an email address",
            field.column(),
            shortened(value)
        )),
        FieldKind::OneOf(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(value))
            .map(|word| Value::text(word))
            .ok_or_else(|| remedy(&words.join(", "))),
        FieldKind::Text | FieldKind::Email | FieldKind::AccountType | FieldKind::Member => {
            Ok(Value::text(value))
        }
    }
}
