//! A plan lists exactly which values of which members to change, from what to what.
//!
//! A dry run saves a plan, an undo is built as one, and both are applied in the same way as the rows of a
//! CSV. The format is JSON lines: a head that binds the plan to the host, the organization and the input,
//! one line for each row, and an end. Each line is sealed (see [`crate::seal`]), so that a plan that was edited or cut is
//! refused. A plan holds personal data, so only its owner can read the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Entry, InputError, Row, RowPosition, RowRequest};
use crate::model::{Change, is_plain_id};
use crate::seal::Seal;

/// The version of the plan format.
pub(crate) const VERSION: u32 = 2;

/// What is wrong with a line whose checksum differs.
const EDITED: &str = "the line was edited, or one before it was removed (the checksum differs); make the plan again with --dry-run --save-plan";

/// The first line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHead {
    /// The format version. The field's name identifies the file as a plan.
    pub sigma_bulk_plan: u32,
    /// The version of the tool.
    pub tool: String,
    /// When the plan was made, in RFC 3339 and UTC.
    pub created_at: String,
    /// The API's base URL.
    pub base_url: String,
    /// The organization's id; empty if the API did not report it.
    pub organization: String,
    /// The source of the plan: a file name or a run directory.
    pub made_from: String,
    /// The SHA-256 of the input's text, in hexadecimal.
    pub input_sha256: String,
    /// The encoding of the input, if `--encoding` named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

/// The last line of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PlanEnd {
    /// The number of rows before it.
    end: u64,
}

/// Writes a plan.
#[derive(Debug)]
pub(crate) struct PlanWriter<W> {
    file: W,
    seal: Seal,
    rows: u64,
}

impl<W: Write> PlanWriter<W> {
    /// Begins a plan.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn new(file: W, head: &PlanHead) -> io::Result<Self> {
        let mut plan = Self {
            file,
            seal: Seal::default(),
            rows: 0,
        };
        plan.line(head)?;
        Ok(plan)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn row(&mut self, row: &PlanRow) -> io::Result<()> {
        self.rows += 1;
        self.line(row)
    }

    /// Ends the plan, and returns the file. A plan without an end is refused.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.line(&PlanEnd { end: self.rows })?;
        self.file.flush()?;
        Ok(self.file)
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        self.seal.close(&mut line, 0);
        self.file.write_all(&line)
    }
}

/// One row of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanRow {
    /// The physical line of the input that requested the change.
    pub line: u64,
    /// The member's email when the plan was made.
    pub email: Box<str>,
    /// The member's id.
    pub member: Box<str>,
    /// The changes to make.
    pub changes: Vec<Change>,
}

/// Reads a plan row by row.
#[derive(Debug)]
pub struct PlanReader {
    input: String,
    head: PlanHead,
    reader: BufReader<File>,
    buffer: String,
    seal: Seal,
    is_ended: bool,
    number: u32,
    limit: u32,
    offset: u64,
}

impl PlanReader {
    /// Opens a plan. `input` is its name in messages.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or is not a plan.
    pub fn open(input: &str, path: &Path, limit: Option<u32>) -> Result<Self, InputError> {
        let file = File::open(path).map_err(|source| InputError::open(path, source))?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut buffer = String::new();
        let read = reader
            .read_line(&mut buffer)
            .map_err(|source| InputError::Read {
                input: input.to_owned(),
                source,
            })?;
        let wrong = |what: String| InputError::Plan {
            input: input.to_owned(),
            line: 1,
            what,
        };
        if !buffer.starts_with('{') {
            return Err(InputError::NoPlan {
                input: input.to_owned(),
            });
        }
        let head: PlanHead =
            serde_json::from_str(&buffer).map_err(|error| wrong(error.to_string()))?;
        if head.sigma_bulk_plan != VERSION {
            return Err(wrong(format!(
                "it has version {}, and this is version {VERSION}: make it again with --dry-run --save-plan",
                head.sigma_bulk_plan
            )));
        }
        let mut seal = Seal::default();
        if !seal.check(buffer.as_bytes()) {
            return Err(wrong(EDITED.to_owned()));
        }
        Ok(Self {
            input: input.to_owned(),
            head,
            reader,
            buffer,
            seal,
            is_ended: false,
            number: 0,
            limit: limit.unwrap_or(u32::MAX),
            offset: read as u64,
        })
    }

    /// Returns the head, which binds the plan to its host, organization and input.
    #[must_use]
    pub const fn head(&self) -> &PlanHead {
        &self.head
    }

    /// From now on, also reads the rows after the limit.
    pub(super) const fn lift_limit(&mut self) {
        self.limit = u32::MAX;
    }

    /// Returns the next row, or `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the plan can't be read or a line is damaged.
    pub fn next_entry(&mut self) -> Result<Option<(RowPosition, Entry)>, InputError> {
        if self.is_ended || self.number == self.limit {
            return Ok(None);
        }
        let offset = self.offset;
        let read = self.read_line()?;
        let line = u64::from(self.number) + 2;
        if read == 0 {
            return Err(self.wrong(line, "it is cut off: its end is missing".to_owned()));
        }
        if !self.seal.check(self.buffer.as_bytes()) {
            return Err(self.wrong(line, EDITED.to_owned()));
        }
        // No row begins so, so that rows are parsed once.
        if self.buffer.starts_with("{\"end\":")
            && let Ok(PlanEnd { end }) = serde_json::from_str(&self.buffer)
        {
            self.is_ended = true;
            let rows = u64::from(self.number);
            return if end == rows && self.read_line()? == 0 {
                Ok(None)
            } else {
                let what = format!("it ends after {rows} of its {end} rows");
                Err(self.wrong(line, what))
            };
        }
        self.offset += read;
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| InputError::too_many_rows(&self.input))?;
        let place = RowPosition {
            number: self.number,
            line: u64::from(self.number) + 1,
            offset,
        };
        Ok(Some((place, self.parse(place)?)))
    }

    /// Reads the row at `place` again.
    ///
    /// # Errors
    /// Fails as [`PlanReader::next_entry`] does.
    pub fn entry_at(&mut self, place: RowPosition) -> Result<Entry, InputError> {
        self.reader
            .seek(SeekFrom::Start(place.offset))
            .map_err(|source| InputError::Read {
                input: self.input.clone(),
                source,
            })?;
        self.read_line()?;
        self.parse(place)
    }

    /// Reads the whole plan, however many of its rows are used.
    ///
    /// # Errors
    /// Returns an error if it can't be read, or is not as it was written.
    pub(crate) fn verify(input: &str, path: &Path) -> Result<(), InputError> {
        let mut plan = Self::open(input, path, None)?;
        while plan.next_entry()?.is_some() {}
        Ok(())
    }

    fn wrong(&self, line: u64, what: String) -> InputError {
        InputError::Plan {
            input: self.input.clone(),
            line,
            what,
        }
    }

    fn read_line(&mut self) -> Result<u64, InputError> {
        self.buffer.clear();
        self.reader
            .read_line(&mut self.buffer)
            .map(|read| read as u64)
            .map_err(|source| InputError::Read {
                input: self.input.clone(),
                source,
            })
    }

    fn parse(&self, place: RowPosition) -> Result<Entry, InputError> {
        let row: PlanRow = serde_json::from_str(&self.buffer)
            .map_err(|error| self.wrong(place.line, error.to_string()))?;
        if !is_plain_id(&row.member) {
            return Err(self.wrong(place.line, "the member's id is not one".to_owned()));
        }
        Ok(Entry::Row(Row {
            number: place.number,
            line: row.line,
            email: row.email,
            request: RowRequest::Planned {
                member_id: row.member,
                changes: row.changes,
            },
            trimmed: 0,
        }))
    }
}
