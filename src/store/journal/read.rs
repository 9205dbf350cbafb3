//! Reading the journal: all of it in order, and single records by offset.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::VERSION;
use super::record::{Head, Record};
use crate::seal::{Seal, unseal};

/// How far a journal was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalExtent {
    /// Where the last whole line ends.
    pub end: u64,
    /// Where the file ended.
    pub length: u64,
    /// The checksum of the whole lines.
    pub seal: Seal,
}

/// The journal can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("{path} can't be read: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path} is damaged at line {line} ({what}). The lines before it are whole: keep a copy, and cut the file before that line to resume. Rows recorded after it then count as never sent, so look at their members first if any was renamed"
    )]
    Damaged {
        path: String,
        line: u64,
        what: &'static str,
    },
    #[error(
        "{path} was changed at line {line}, or a line before it was removed (the checksum differs): restore the file, because what it says can't be relied on"
    )]
    Changed { path: String, line: u64 },
    #[error(
        "{path} has format version {found}, and this sigma-bulk reads version {VERSION}: use the sigma-bulk that wrote it"
    )]
    Version { path: String, found: u32 },
    #[error(
        "{path} has no head: the run ended before anything was sent; start it again in another directory"
    )]
    NoHead { path: String },
}

/// Reads a journal.
#[derive(Debug)]
pub(crate) struct JournalReader {
    path: String,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    /// The position of the reader.
    position: u64,
    /// Where the last whole line ends, as far as the journal was read.
    end: u64,
    /// The checksum of the lines up to there.
    seal: Seal,
}

impl JournalReader {
    /// Opens a journal and reads its head.
    ///
    /// # Errors
    /// If it can't be read or has no head.
    pub(crate) fn open(path: &Path) -> Result<(Self, Head), JournalError> {
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
            seal: Seal::default(),
        };
        match reader.next_record()? {
            Some((_, Record::Head(head))) if head.version == VERSION => Ok((reader, *head)),
            Some((_, Record::Head(head))) => Err(JournalError::Version {
                path: reader.path,
                found: head.version,
            }),
            _ => Err(JournalError::NoHead { path: reader.path }),
        }
    }

    /// Returns the next record and its offset, or `None` at the end and at a torn last line.
    ///
    /// # Errors
    /// If the file can't be read or is damaged.
    pub(crate) fn next_record(&mut self) -> Result<Option<(u64, Record)>, JournalError> {
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
        let mut seal = self.seal;
        let is_whole = seal.check(&self.line);
        unseal(&mut self.line);
        match parse(&self.line) {
            // A head of another version may have no checksum.
            Ok(record) if is_whole || is_of_other_version(&record) => {
                self.end = self.position;
                self.seal = seal;
                Ok(Some((at, record)))
            }
            Ok(_) => Err(JournalError::Changed {
                path: self.path.clone(),
                line: self.number,
            }),
            Err(error) => {
                let rest = self.reader.fill_buf().map(<[u8]>::is_empty);
                if rest.map_err(|source| self.io(source))? {
                    return Ok(None);
                }
                Err(JournalError::Damaged {
                    path: self.path.clone(),
                    line: self.number,
                    what: if error.is_data() {
                        "not a record of a journal"
                    } else {
                        "not JSON"
                    },
                })
            }
        }
    }

    /// Returns the record at an offset that [`JournalReader::next_record`] returned, or that was written there.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn record_at(&mut self, offset: u64) -> Result<Record, JournalError> {
        // Records that stand close together are in the buffer already.
        let signed = |offset| i64::try_from(offset).unwrap_or(i64::MAX);
        self.reader
            .seek_relative(signed(offset) - signed(self.position))
            .map_err(|source| self.io(source))?;
        self.line.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(|source| self.io(source))?;
        self.position = offset + read as u64;
        unseal(&mut self.line);
        parse(&self.line).map_err(|error| self.io(error.into()))
    }

    /// Returns how far the journal was read, once [`JournalReader::next_record`] has returned `None`.
    pub(crate) const fn extent(&self) -> JournalExtent {
        JournalExtent {
            end: self.end,
            length: self.position,
            seal: self.seal,
        }
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

const fn is_of_other_version(record: &Record) -> bool {
    matches!(record, Record::Head(head) if head.version != VERSION)
}

fn parse(line: &[u8]) -> serde_json::Result<Record> {
    match std::str::from_utf8(line) {
        // Checked as a whole once, its strings need not be checked one by one.
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(line),
    }
}
