//! The journal, being read.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::VERSION;
use super::record::{Glance, Head, Record};

/// How far a journal was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where the whole lines end.
    pub end: u64,
    /// Where the file ended.
    pub length: u64,
}

/// The journal can't be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum JournalError {
    #[error("{path} can't be read: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path} is damaged at line {line} ({what}); what stands before it is whole: keep a copy, and cut the file before that line to resume; rows recorded behind it then look as if they were never sent, so look at their members first if any was renamed"
    )]
    Damaged {
        path: String,
        line: u64,
        what: String,
    },
    #[error(
        "{path} is of version {found}, and this sigma-bulk reads version {VERSION}: use the one that wrote it"
    )]
    Version { path: String, found: u32 },
    #[error(
        "{path} has no head: the run ended before anything was sent; start it anew in another directory"
    )]
    NoHead { path: String },
}

/// A journal, being read.
#[derive(Debug)]
pub struct JournalReader {
    path: String,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    /// Where the reader stands.
    position: u64,
    /// Where the whole lines end, as far as they were read.
    end: u64,
}

impl JournalReader {
    /// Opens one and reads its head.
    ///
    /// # Errors
    /// If it can't be read or has no head.
    pub fn open(path: &Path) -> Result<(Self, Head), JournalError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|source| JournalError::Io {
            path: shown.clone(),
            source,
        })?;
        let mut reader = Self {
            path: shown,
            reader: BufReader::with_capacity(64 * 1024, file),
            line: Vec::new(),
            number: 0,
            position: 0,
            end: 0,
        };
        match reader.next_glance()? {
            Some((_, Glance::Head(head))) if head.version == VERSION => Ok((reader, *head)),
            Some((_, Glance::Head(head))) => Err(JournalError::Version {
                path: reader.path,
                found: head.version,
            }),
            _ => Err(JournalError::NoHead { path: reader.path }),
        }
    }

    /// The next record at a glance and its offset, or `None` at the end or at a last line that is torn.
    ///
    /// # Errors
    /// If the file can't be read or is damaged.
    pub fn next_glance(&mut self) -> Result<Option<(u64, Glance)>, JournalError> {
        self.line.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(|source| self.io(source))?;
        let at = self.position;
        self.position += read as u64;
        if read == 0 || !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        self.number += 1;
        match Glance::at(&self.line) {
            Ok(glance) => {
                self.end = self.position;
                Ok(Some((at, glance)))
            }
            Err(error) => {
                let rest = self.reader.fill_buf().map(<[u8]>::is_empty);
                if rest.map_err(|source| self.io(source))? {
                    return Ok(None);
                }
                Err(JournalError::Damaged {
                    path: self.path.clone(),
                    line: self.number,
                    what: if error.is_data() {
                        "a record of another kind"
                    } else {
                        "no JSON"
                    }
                    .to_owned(),
                })
            }
        }
    }

    /// The record at an offset that [`JournalReader::next_glance`] answered, or that was written there; `line` holds its
    /// text.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn record_at<'l>(
        &mut self,
        offset: u64,
        line: &'l mut Vec<u8>,
    ) -> Result<Record<'l>, JournalError> {
        // Offsets that are close are in the buffer already.
        let signed = |offset| i64::try_from(offset).unwrap_or(i64::MAX);
        self.reader
            .seek_relative(signed(offset) - signed(self.position))
            .map_err(|source| self.io(source))?;
        line.clear();
        let read = self
            .reader
            .read_until(b'\n', line)
            .map_err(|source| self.io(source))?;
        self.position = offset + read as u64;
        std::str::from_utf8(line)
            .map_err(io::Error::other)
            .and_then(|text| Ok(serde_json::from_str(text)?))
            .map_err(|source| self.io(source))
    }

    /// How far it was read, when [`JournalReader::next_glance`] has answered `None`.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        Extent {
            end: self.end,
            length: self.position,
        }
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }
}
