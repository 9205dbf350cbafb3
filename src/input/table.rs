//! From CSV text to row requests: the header, the delimiter, and one row at a time.
//!
//! A wrong header is a wrong file ([`InputError`]); a wrong row is an [`Entry::Bad`] and the others go on. Only
//! what can be said of a row by itself is said here; rows against one another are `relations`' business.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::lines::{LineReader, ends_inside};
use super::{Ask, BadRow, Entry, InputError, Row};
use crate::change::{Field, Kind, MAX_EMAIL, Value, Values, is_email};
use crate::output::{Plain, count, shortened};

/// The column that names the member.
const EMAIL: &str = "Email";
/// Columns of `failed.csv` that are not input, so that it can be fed back as it is.
const IGNORED: [&str; 2] = ["Outcome", "Message"];
/// Delimiters that are found from the header.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
/// The longest header that is looked at.
const MAX_HEADER: u64 = 64 * 1024;
/// Account kinds that the API knows.
const USER_KINDS: [&str; 3] = ["internal", "guest", "embed"];

/// What people write for a column, beside its name; compared by letters and digits alone, in lower case.
const ALIASES: [(&str, &str); 24] = [
    ("mail", EMAIL),
    ("emailaddress", EMAIL),
    ("user", EMAIL),
    ("username", EMAIL),
    ("login", EMAIL),
    ("currentemail", EMAIL),
    ("oldemail", EMAIL),
    ("givenname", "First Name"),
    ("forename", "First Name"),
    ("surname", "Last Name"),
    ("familyname", "Last Name"),
    ("updatedemail", "New Email"),
    ("emailnew", "New Email"),
    ("role", "Member Type"),
    ("type", "Member Type"),
    ("accounttype", "Member Type"),
    ("newmembertype", "Member Type"),
    ("archived", "isArchived"),
    ("archive", "isArchived"),
    ("deactivated", "isArchived"),
    ("inactive", "isInactive"),
    ("kind", "userKind"),
    ("owner", "newOwner"),
    ("newownerid", "newOwner"),
];

/// What the header says.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The byte between cells.
    pub delimiter: u8,
    /// The header's cells, trimmed.
    pub header: Vec<String>,
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Email,
    Field(Field),
    Ignored,
}

impl Layout {
    /// The fields that have a column.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.columns.iter().filter_map(|column| match column {
            Column::Field(field) => Some(*field),
            Column::Email | Column::Ignored => None,
        })
    }

    /// Whether the column with this number names the member.
    #[must_use]
    pub fn is_email(&self, column: usize) -> bool {
        self.columns.get(column) == Some(&Column::Email)
    }

    /// Whether the column with this number is one that is read.
    #[must_use]
    pub fn is_read(&self, column: usize) -> bool {
        self.columns
            .get(column)
            .is_some_and(|column| *column != Column::Ignored)
    }

    fn from_header(input: &str, delimiter: u8, record: &ByteRecord) -> Result<Self, InputError> {
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
        ALIASES
            .iter()
            .find(|(alias, _)| *alias == wanted)
            .map(|(_, column)| *column)
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

fn not_utf8(input: &str, line: u64) -> InputError {
    InputError::NotText {
        input: format!("{input}, line {line}"),
        what: "it is not UTF-8 (an export in Windows-1252?); save the file as \"CSV UTF-8\"",
    }
}

/// A CSV file, row by row.
#[derive(Debug)]
pub struct Table {
    input: String,
    layout: Layout,
    reader: csv::Reader<LineReader<File>>,
    record: ByteRecord,
    number: u32,
    limit: u32,
    /// Where the row before the next one stands, and where it ends.
    last: Option<(Place, u64)>,
}

/// Where a row stands, to find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row's number, from 1.
    pub number: u32,
    /// The physical line on which it starts, from 1.
    pub line: u64,
    /// The offset in bytes from which the csv reader finds it.
    pub offset: u64,
}

impl Table {
    /// Opens the decoded copy of the input; `input` is how messages call the original.
    ///
    /// Without a delimiter it is found from the header. Also with one, if the header is wrong by it and right by the one
    /// that is found: a delimiter that is set for the inputs is not that of failed.csv and undo.csv.
    ///
    /// # Errors
    /// If the copy can't be read or its header is wrong.
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
        let mut reader = reader(LineReader::new(file), delimiter);
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

    /// What the header says.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads the rows behind the limit too, from now on.
    pub(super) const fn lift_limit(&mut self) {
        self.limit = u32::MAX;
    }

    /// The next row and where it stands, or `None` at the end.
    ///
    /// # Errors
    /// If the file can't be read, is no text, or has a quote that is never closed: then nobody can tell how many
    /// rows it has.
    pub fn next_entry(&mut self) -> Result<Option<(Place, Entry)>, InputError> {
        let Some(place) = self.advance()? else {
            return Ok(None);
        };
        Ok(Some((
            place,
            parse(&self.input, &self.layout, &self.record, place)?,
        )))
    }

    /// The cells of the row that was read last, as they stand in the file.
    #[must_use]
    pub const fn cells(&self) -> &ByteRecord {
        &self.record
    }

    fn advance(&mut self) -> Result<Option<Place>, InputError> {
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
        let place = Place {
            number: self.number,
            line,
            offset,
        };
        self.last = Some((place, end));
        Ok(Some(place))
    }

    /// At the end of the file, looks whether its last row is one: a quote that opens and never closes makes one
    /// cell of all that follows.
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

    /// Reads the row at `place` again. Rows that follow are not numbered any more; use a table of its own.
    ///
    /// # Errors
    /// If the file can't be read or changed underneath.
    pub fn entry_at(&mut self, place: Place) -> Result<Entry, InputError> {
        let mut position = csv::Position::new();
        position.set_byte(place.offset).set_line(place.line);
        self.reader
            .seek_raw(SeekFrom::Start(place.offset), position)
            .and_then(|()| self.reader.read_byte_record(&mut self.record))
            .map_err(|error| csv_error(&self.input, error))?;
        parse(&self.input, &self.layout, &self.record, place)
    }
}

fn reader<R: Read>(inner: R, delimiter: u8) -> csv::Reader<R> {
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

/// The delimiter with which the header has the most columns that are known; a comma if none has any.
fn find_delimiter(file: File) -> std::io::Result<u8> {
    let mut head = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut head)?;
    let known = |delimiter: u8| {
        let mut record = ByteRecord::new();
        let mut reader = reader(head.as_slice(), delimiter);
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
    // No column is known, so that the message about the first unknown one is as good as the cut is.
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

/// Whether a cell of the last record, which stands from `start` to `end`, opens a quote that is never closed.
fn has_open_quote(mut file: &File, start: u64, end: u64, delimiter: u8) -> bool {
    let mut text = Vec::new();
    let length = end.saturating_sub(start);
    // The reader is at its end, so that its place in the file is not needed any more.
    let read = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.take(length).read_to_end(&mut text));
    read.is_ok() && ends_quoted(&text, delimiter)
}

/// Whether a record ends inside of quotes. One that does not stand at a cell's beginning is a character like any other.
fn ends_quoted(record: &[u8], delimiter: u8) -> bool {
    let (mut begins, mut quoted) = (true, false);
    let mut bytes = record.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            // Two of them are one that belongs to the value.
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
    place: Place,
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
        let column = layout
            .columns
            .get(index)
            .copied()
            .unwrap_or(Column::Ignored);
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
    if record.len() != layout.columns.len() {
        problem = Some(format!(
            "the row has {} and the header {}: look for a missing or an unquoted delimiter ({})",
            count(record.len() as u64, "cell"),
            layout.columns.len(),
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
            ask: Ask::Wanted(wanted),
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
    match field {
        _ if field.kind() == Kind::Flag => {
            if value.eq_ignore_ascii_case("true") {
                Ok(Value::Flag(true))
            } else if value.eq_ignore_ascii_case("false") {
                Ok(Value::Flag(false))
            } else {
                Err(format!(
                    "{} is \"{}\": write true or false, or leave it blank",
                    field.column(),
                    shortened(value)
                ))
            }
        }
        Field::Email if !is_email(value) => Err(format!(
            "{} is \"{}\", which is no email address",
            field.column(),
            shortened(value)
        )),
        Field::UserKind => USER_KINDS
            .into_iter()
            .find(|kind| kind.eq_ignore_ascii_case(value))
            .map(Value::text)
            .ok_or_else(|| {
                format!(
                    "userKind is \"{}\": write {}, or leave it blank",
                    shortened(value),
                    USER_KINDS.join(", ")
                )
            }),
        _ => Ok(Value::text(value)),
    }
}
