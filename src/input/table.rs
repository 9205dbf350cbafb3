//! Reads a CSV record by record: its rows with their lines, and the quotes that make a row or the file wrong.
//!
//! An invalid header makes the whole file invalid ([`InputError`]), and so does a quote after which the rest of the file
//! can't be trusted. An invalid row becomes an [`Entry::Bad`], and reading goes on. This module checks each row by itself;
//! `relations` checks rows against one another.

use std::fs::File;
use std::io::{Read, SeekFrom};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::cells::{RecordContext, parse};
use super::header::{ColumnRules, Layout, MAX_HEADER, find_delimiter, separator_line};
use super::lines::RecordReader;
use super::quotes::{Quotes, check_record};
use super::{Entry, InputError};
use crate::model::{is_email, quoted, readings};

/// The number of lines below a wrong header in which the right one is looked for.
const LINES_TO_HEADER: usize = 20;

/// Returns a cell as text.
///
/// # Errors
/// If it is not UTF-8. The message shows how other encodings read the cell, because only a person knows which is right.
pub(super) fn utf8<'c>(input: &str, line: u64, cell: &'c [u8]) -> Result<&'c str, InputError> {
    std::str::from_utf8(cell).map_err(|_| {
        let readings = readings(cell);
        let readings: Vec<String> = readings
            .iter()
            .map(|(encoding, text)| format!("--encoding {encoding} ({})", quoted(text)))
            .collect();
        let flag = if readings.is_empty() {
            "--encoding with the name of its encoding".to_owned()
        } else {
            format!(
                "the encoding in which this cell is right: {}",
                readings.join(", ")
            )
        };
        InputError::NotText {
            input: format!("{input}, line {line}"),
            what: format!("it is not UTF-8; save the file as \"CSV UTF-8\", or add {flag}"),
        }
    })
}

/// How a CSV is read.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The delimiter; without it, it is found from the header.
    pub delimiter: Option<u8>,
    /// Only the first rows.
    pub limit: Option<u32>,
    /// How unknown columns are treated.
    pub columns: ColumnRules,
}

/// Reads a CSV file row by row.
#[derive(Debug)]
pub struct Table {
    input: String,
    layout: Layout,
    reader: csv::Reader<RecordReader<File>>,
    record: ByteRecord,
    quotes: Quotes,
    /// Whether the last record is followed by a line end.
    is_terminated: bool,
    number: u32,
    limit: u32,
    blank_rows: u64,
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
    /// If no delimiter is given, it is detected from the header. If the header is invalid with the given delimiter but
    /// valid with the detected one, the detected one is used: a delimiter set for the input files does not apply to
    /// failed.csv and undo.csv.
    ///
    /// # Errors
    /// Returns an error if the copy can't be read or its header is invalid.
    pub fn open(input: &str, copy: &Path, options: &TableOptions) -> Result<Self, InputError> {
        let unreadable = |source| InputError::open(copy, source);
        let mut head = Vec::new();
        File::open(copy)
            .and_then(|file| file.take(MAX_HEADER).read_to_end(&mut head))
            .map_err(unreadable)?;
        let has_separator = separator_line(&head).is_some();
        let open = |delimiter| {
            let file = File::open(copy).map_err(unreadable)?;
            let opened = Self::open_with(input, file, delimiter, has_separator, options);
            opened.map_err(|wrong| match wrong {
                InputError::NoHeader { input } if !head.is_empty() => {
                    InputError::OnlyBlankLines { input }
                }
                wrong => wrong,
            })
        };
        match options.delimiter {
            None => open(find_delimiter(&head)),
            Some(delimiter) => {
                open(delimiter).or_else(|wrong| open(find_delimiter(&head)).map_err(|_| wrong))
            }
        }
    }

    fn open_with(
        input: &str,
        file: File,
        delimiter: u8,
        has_separator: bool,
        options: &TableOptions,
    ) -> Result<Self, InputError> {
        let mut reader = csv_reader(RecordReader::new(file), delimiter);
        let mut record = ByteRecord::new();
        // Returns the line of the next record that is not blank, or `None` at the end.
        let mut next = |record: &mut ByteRecord| loop {
            let has_more = reader
                .read_byte_record(record)
                .map_err(|error| csv_error(input, error))?;
            if !has_more {
                return Ok(None);
            }
            let end = reader.position().byte();
            let raw = reader.get_mut().record(end);
            let quotes = check_record(raw.bytes, delimiter, record.len(), |_, _| false);
            if !(record.iter().all(is_blank) && quotes == Quotes::Right) {
                return Ok(Some((raw.line, quotes)));
            }
        };
        let mut start = next(&mut record)?;
        if has_separator && start.is_some() {
            start = next(&mut record)?;
        }
        let Some((line, quotes)) = start else {
            return Err(InputError::NoHeader {
                input: input.to_owned(),
            });
        };
        quotes.in_header(input, line)?;
        let layout = Layout::from_header(input, line, delimiter, &record, &options.columns);
        let layout = layout.or_else(|wrong| {
            // A title, or the name of a table, may stand above the header.
            for _ in 0..LINES_TO_HEADER {
                let Some((below, _)) = next(&mut record)? else {
                    break;
                };
                if Layout::from_header(input, below, delimiter, &record, &options.columns).is_ok() {
                    return Err(InputError::HeaderBelow {
                        input: input.to_owned(),
                        first: line,
                        line: below,
                    });
                }
            }
            Err(wrong)
        })?;
        Ok(Self {
            input: input.to_owned(),
            layout,
            reader,
            record,
            quotes: Quotes::Right,
            is_terminated: true,
            number: 0,
            limit: options.limit.unwrap_or(u32::MAX),
            blank_rows: 0,
        })
    }

    /// Returns the parsed header.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the number of blank rows that were skipped so far.
    pub(super) const fn blank_rows(&self) -> u64 {
        self.blank_rows
    }

    /// From now on, also reads the rows after the limit.
    pub(super) const fn lift_limit(&mut self) {
        self.limit = u32::MAX;
    }

    /// Returns the next row and its position, or `None` at the end. Blank rows are skipped.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is not text, or has a quote after which it can't be trusted.
    pub fn next_entry(&mut self) -> Result<Option<(RowPosition, Entry)>, InputError> {
        let Some(position) = self.advance()? else {
            return Ok(None);
        };
        Ok(Some((position, self.parse(position)?)))
    }

    /// Returns the cells of the last row that was read, as they are in the file.
    #[must_use]
    pub const fn cells(&self) -> &ByteRecord {
        &self.record
    }

    /// Returns whether the quotes of the last row that was read are wrong, so that its cells may be others than meant.
    pub(crate) const fn has_wrong_quotes(&self) -> bool {
        !matches!(self.quotes, Quotes::Right)
    }

    fn advance(&mut self) -> Result<Option<RowPosition>, InputError> {
        loop {
            if self.number == self.limit {
                return Ok(None);
            }
            let offset = self.reader.position().byte();
            let Some(line) = self.read_record()? else {
                return Ok(None);
            };
            if self.is_blank() && !self.has_wrong_quotes() {
                self.blank_rows += 1;
                continue;
            }
            self.number = self
                .number
                .checked_add(1)
                .ok_or_else(|| InputError::too_many_rows(&self.input))?;
            return Ok(Some(RowPosition {
                number: self.number,
                line,
                offset,
            }));
        }
    }

    /// Reads a record and checks its quotes. Returns the line on which it starts.
    fn read_record(&mut self) -> Result<Option<u64>, InputError> {
        if !self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| csv_error(&self.input, error))?
        {
            return Ok(None);
        }
        let end = self.reader.position().byte();
        let layout = &self.layout;
        let raw = self.reader.get_mut().record(end);
        self.is_terminated = raw.is_terminated();
        self.quotes = check_record(
            raw.bytes,
            layout.delimiter,
            layout.width(),
            |column, cell| layout.is_email(column) && is_email(cell),
        );
        Ok(Some(raw.line))
    }

    /// Whether the record names nobody and asks for nothing: all cells are blank, or the unticked check boxes of a sheet.
    fn is_blank(&self) -> bool {
        self.record.iter().enumerate().all(|(column, cell)| {
            let is_blank = match std::str::from_utf8(cell) {
                Ok(text) => text.trim().is_empty(),
                Err(_) => false,
            };
            let cell = cell.trim_ascii();
            is_blank
                || (!self.layout.is_email(column)
                    && cell.trim_ascii().eq_ignore_ascii_case(b"false"))
        })
    }

    fn parse(&self, position: RowPosition) -> Result<Entry, InputError> {
        let context = RecordContext {
            input: &self.input,
            layout: &self.layout,
            quotes: &self.quotes,
            is_terminated: self.is_terminated,
        };
        parse(&context, &self.record, position)
    }

    /// Reads the row at `position` again. Rows read after it are no longer numbered correctly, so use a separate table
    /// for this.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or was changed meanwhile.
    pub fn entry_at(&mut self, position: RowPosition) -> Result<Entry, InputError> {
        let mut place = csv::Position::new();
        place.set_byte(position.offset).set_line(position.line);
        self.reader
            .seek_raw(SeekFrom::Start(position.offset), place)
            .map_err(|error| csv_error(&self.input, error))?;
        // Blank rows before the row belong to its position.
        loop {
            if self.read_record()?.is_none() {
                return Err(InputError::Changed {
                    line: position.line,
                });
            }
            if !self.is_blank() {
                return self.parse(position);
            }
        }
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
    let source = match error.into_kind() {
        csv::ErrorKind::Io(source) => source,
        other => std::io::Error::other(format!("{other:?}")),
    };
    InputError::Read {
        input: input.to_owned(),
        source,
    }
}

/// Whether a cell is empty or has nothing but white space.
fn is_blank(cell: &[u8]) -> bool {
    std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty())
}
