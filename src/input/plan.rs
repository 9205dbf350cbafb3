//! A plan lists exactly which values of which members to change, from what to what.
//!
//! A dry run saves a plan, an undo is built as one, and both are applied in the same way as the rows of a
//! CSV. The format is JSON lines: a head that binds the plan to the host, the organization and the input,
//! then one line for each row. A plan holds personal data, so only its owner can read the file.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Entry, InputError, Row, RowPosition, RowRequest};
use crate::model::Change;

/// The version of the plan format.
pub(crate) const VERSION: u32 = 1;

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
    /// The SHA-256 of the input, in hexadecimal.
    pub input_sha256: String,
    /// The number of rows that follow, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
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
        let head: PlanHead =
            serde_json::from_str(&buffer).map_err(|error| wrong(error.to_string()))?;
        if head.sigma_bulk_plan != VERSION {
            return Err(wrong(format!(
                "it has version {}, and this is version {VERSION}",
                head.sigma_bulk_plan
            )));
        }
        Ok(Self {
            input: input.to_owned(),
            head,
            reader,
            buffer,
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
        if self.number == self.limit {
            return Ok(None);
        }
        let offset = self.offset;
        let read = self.read_line()?;
        if read == 0 {
            return match self.head.rows {
                Some(rows) if rows != u64::from(self.number) => Err(InputError::Plan {
                    input: self.input.clone(),
                    line: u64::from(self.number) + 1,
                    what: format!("it ends after {} of its {rows} rows", self.number),
                }),
                _ => Ok(None),
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
        let row: PlanRow =
            serde_json::from_str(&self.buffer).map_err(|error| InputError::Plan {
                input: self.input.clone(),
                line: place.line,
                what: error.to_string(),
            })?;
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
