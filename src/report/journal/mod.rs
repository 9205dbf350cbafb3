//! `journal.jsonl`: what is about to be done, before it is done, and what became of it.
//!
//! JSON lines, append-only, one writer. The first line binds the run to its input, host and organization. A line
//! is in the file (in the system's hands, safe from the death of this process) before anything that depends on it
//! happens, and on the disk (safe from a power cut) within [`SYNC_EVERY`]. A last line that is torn is normal after
//! a crash; damage elsewhere is not, and is refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::rundir::{private_file, put_in_place, temporary};
use crate::change::{Change, Outcome};
use crate::event::{Finished, Intent};
use crate::gateway::Stats;

/// The format's version.
pub const VERSION: u32 = 1;
/// The journal is synced to disk at least so often while it grows.
pub const SYNC_EVERY: Duration = Duration::from_millis(200);

/// What the rows of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A CSV.
    Csv,
    /// A plan, saved by a dry run or made for an undo.
    Plan,
}

/// The first line: what the run is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format's version.
    pub version: u32,
    /// The tool's version.
    pub tool: String,
    /// When the run began, RFC 3339 in UTC.
    pub started_at: String,
    /// `update`, `apply` or `undo`.
    pub command: String,
    /// What the input is called.
    pub input: String,
    /// What the input is.
    pub kind: InputKind,
    /// SHA-256 of the input's text, in hexadecimal.
    pub input_sha256: String,
    /// The rows of the run, `--limit` considered.
    pub rows: u32,
    /// The CSV's columns.
    pub header: Vec<String>,
    /// The CSV's delimiter.
    pub delimiter: char,
    /// The API's base URL.
    pub base_url: String,
    /// The organization's id, if the API told.
    pub organization: Option<String>,
    /// Whether only reads are sent.
    pub dry_run: bool,
    /// Whether values that a member has already are sent.
    pub send_unchanged: bool,
}

/// Requests and time of one piece of a run, up to now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// All requests.
    pub requests: u64,
    /// Those that were a further try.
    pub retries: u64,
    /// How often each status was answered.
    pub by_status: BTreeMap<u16, u64>,
    /// Since the piece began.
    pub seconds: f64,
}

/// A row's end, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// The row's number.
    pub row: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Box<str>>,
    /// The last HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Updates sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Whether the member bears a part of what was sent, though the row failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partly: bool,
    /// What would be sent; what was sent stands in the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Arc<[Change]>>,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
}

impl Sent {
    /// What was sent by a piece that began then.
    #[must_use]
    pub fn of(stats: &Stats, began: Instant) -> Self {
        Self {
            requests: stats.requests(),
            retries: stats.retries(),
            by_status: stats.by_status().into_iter().collect(),
            seconds: began.elapsed().as_secs_f64(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Head(Head),
    /// A further piece of the run begins, at this time.
    Resumed(String),
    /// About to be sent.
    Intent(Intent),
    /// A row has its outcome.
    Outcome(OutcomeRecord),
    /// Nothing of the row's last intent was sent.
    Abandoned(u32),
    /// What this piece has sent so far.
    Sent(Sent),
    /// This piece ended, for this reason, with this exit code.
    Ended {
        /// `stop` in `summary.json`.
        stop: String,
        /// The exit code.
        exit_code: u8,
        /// When.
        at: String,
    },
}

/// A record as far as finding it again needs it.
#[derive(Debug)]
pub enum Glance {
    /// A row's intent; the whole of it if it gives the member another email.
    Intent(u32, Option<Intent>),
    /// A row's outcome.
    Outcome(u32),
    /// Any other record, which are few.
    Other(Record),
}

/// The two records of which there are as many as rows, skimmed: what is not needed is checked to be there and to be
/// JSON, and not kept.
#[derive(Deserialize)]
struct Skim<'a> {
    #[serde(borrow)]
    intent: Option<SkimmedIntent<'a>>,
    outcome: Option<SkimmedOutcome>,
}

#[derive(Deserialize)]
struct SkimmedIntent<'a> {
    row: u32,
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "member")]
    _member: IgnoredAny,
    #[serde(borrow)]
    changes: &'a RawValue,
}

#[derive(Deserialize)]
struct SkimmedOutcome {
    row: u32,
    #[serde(rename = "outcome")]
    _outcome: Outcome,
}

impl Glance {
    fn at(line: &[u8]) -> serde_json::Result<Self> {
        /// How [`Field::Email`] stands in a change; in a name, the quotes would be escaped.
        const EMAIL: &str = "\"email\"";
        let skim: Skim<'_> = serde_json::from_slice(line)?;
        let record = || serde_json::from_slice::<Record>(line);
        Ok(match (skim.intent, skim.outcome) {
            (Some(intent), _) if intent.changes.get().contains(EMAIL) => match record()? {
                Record::Intent(whole) => Self::Intent(intent.row, Some(whole)),
                other => Self::Other(other),
            },
            (Some(intent), _) => Self::Intent(intent.row, None),
            (None, Some(outcome)) => Self::Outcome(outcome.row),
            (None, None) => Self::Other(record()?),
        })
    }
}

impl From<Finished> for Record {
    fn from(finished: Finished) -> Self {
        Self::Outcome(OutcomeRecord {
            row: finished.row,
            outcome: finished.outcome,
            member: finished.member_id,
            status: finished.status,
            attempts: finished.attempts,
            partly: finished.partly,
            changes: Some(finished.changes)
                .filter(|changes| !finished.recorded && !changes.is_empty()),
            message: finished.message,
        })
    }
}

/// How far a journal was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where the whole lines end.
    pub end: u64,
    /// Where the file ended.
    pub length: u64,
}

/// The journal, being written.
#[derive(Debug)]
pub struct Journal {
    file: Arc<File>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    is_dirty: bool,
}

impl Journal {
    /// Begins one. It is there with its head or not at all: whoever is killed meanwhile leaves no run that can't go on.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn create(path: &Path, head: Head) -> io::Result<Self> {
        let temporary = temporary(path);
        let mut journal = Self::with(private_file(&temporary)?);
        journal.add(&Record::Head(head))?;
        journal.finish()?;
        put_in_place(&temporary, path)?;
        Ok(journal)
    }

    /// Goes on with one as it was read: what stands behind its whole lines is torn.
    ///
    /// # Errors
    /// If the file can't be opened or mended, or if somebody else has written to it since.
    pub fn reopen(path: &Path, extent: Extent) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != extent.length {
            return Err(io::Error::other(
                "the run went on in another process meanwhile; resume it once more",
            ));
        }
        file.set_len(extent.end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::with(file))
    }

    fn with(file: File) -> Self {
        Self {
            file: Arc::new(file),
            lines: Vec::with_capacity(64 * 1024),
            is_dirty: false,
        }
    }

    /// Adds a line; it is in the file after [`Journal::write`].
    ///
    /// # Errors
    /// If the record can't be formed.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, record)?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Puts the added lines into the file.
    ///
    /// # Errors
    /// If that fails; then nothing may be done that depends on them.
    pub fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            (&*self.file).write_all(&self.lines)?;
            self.lines.clear();
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Whether the file has lines that are not known to be on disk.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The file, if it has lines that are not known to be on disk; they are taken to be from now on.
    pub fn to_sync(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.is_dirty).then(|| Arc::clone(&self.file))
    }

    /// Puts everything on the disk.
    ///
    /// # Errors
    /// If that fails.
    pub fn finish(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_data()
    }
}

/// The journal can't be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum JournalError {
    #[error("{path} can't be read: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path} is damaged at line {line} ({what}); what stands before it is whole: keep a copy, cut the file before that line, and resume again, and rows recorded behind it are read back"
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
            Some((_, Glance::Other(Record::Head(head)))) if head.version == VERSION => {
                Ok((reader, head))
            }
            Some((_, Glance::Other(Record::Head(head)))) => Err(JournalError::Version {
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

    /// The record at an offset that [`JournalReader::next_glance`] answered.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn record_at(&mut self, offset: u64) -> Result<Record, JournalError> {
        // Offsets that are close are in the buffer already.
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
        serde_json::from_slice(&self.line).map_err(|error| self.io(error.into()))
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
