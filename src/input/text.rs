//! Decodes a file's bytes to UTF-8: byte order marks, UTF-16, standard input, and files that are not text.
//!
//! [`spool`] decodes the input and copies it once into the run directory. Everything after that reads the
//! copy. Standard input can therefore be read twice, a resume needs no other file, and the tool sends exactly
//! what it checked, even if somebody edits the original meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use super::InputError;
use super::header::{find_delimiter, separator_line};
use super::lines::LineEnds;
use super::quotes::{QuoteEvent, QuoteScanner};
use crate::paths;

/// The number of bytes read at a time. It is large enough to keep reading fast, and small enough not to
/// matter for the memory of a run.
const CHUNK: usize = 64 * 1024;

/// The longest cell, in bytes.
const MAX_CELL: usize = 1024 * 1024;
/// The longest record, in bytes.
const MAX_RECORD: usize = 4 * 1024 * 1024;

/// The source of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input, given as `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Returns standard input for `-`, and a file for any other path.
    pub(crate) fn from_arg(arg: &Path) -> Self {
        if arg.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::File(arg.to_owned())
        }
    }

    /// Returns the source's name for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Returns a short name for a run directory: the file name without its extension.
    pub(crate) fn stem(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.file_stem().map_or_else(
                || "input".to_owned(),
                |stem| stem.to_string_lossy().into_owned(),
            ),
        }
    }

    fn open(&self) -> Result<Box<dyn Read>, InputError> {
        match self {
            Self::Stdin => Ok(Box::new(io::stdin().lock())),
            Self::File(path) => {
                let unreadable = |source| InputError::open(path, source);
                if let Some(name) = paths::device_name(path) {
                    let what = format!("{name} is the name of a device on Windows: rename it");
                    return Err(unreadable(io::Error::other(what)));
                }
                // Windows opens no directory and says only that the access is denied.
                if path.is_dir() {
                    return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
                }
                Ok(Box::new(File::open(path).map_err(unreadable)?))
            }
        }
    }
}

/// The SHA-256 of the decoded input. It binds a run to its input.
pub(crate) type InputHash = [u8; 32];

/// What a copy was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spooled {
    /// The SHA-256 of the copy.
    pub(crate) sha256: InputHash,
    /// Whether the input had a byte order mark, or another sign that Excel wrote it. Then the files of the run have a byte
    /// order mark, so that Excel reads them rightly.
    pub(crate) is_from_excel: bool,
}

/// Copies the input into `copy` as UTF-8 without a byte order mark.
///
/// `encoding` is the label of an encoding other than UTF-8 and UTF-16. `delimiter` is that of a CSV, if it is set.
///
/// # Errors
/// If the input can't be read, is not text, or has a record that is too long; or if the copy can't be written.
pub(crate) fn spool(
    source: &Source,
    copy: &mut impl Write,
    encoding: Option<&'static Encoding>,
    delimiter: Option<u8>,
) -> Result<Spooled, InputError> {
    let unreadable = |error| InputError::Read {
        input: source.name(),
        source: error,
    };
    let not_text = |what: String| InputError::NotText {
        input: source.name(),
        what,
    };
    let mut reader = BufReader::with_capacity(CHUNK, source.open()?);
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut read = |chunk: &mut Vec<u8>| {
        chunk.clear();
        reader
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(chunk)
            .map_err(unreadable)
    };
    read(&mut chunk)?;
    let (mut decoding, mark) = Decoding::of(&chunk, encoding).map_err(not_text)?;
    let is_from_excel = mark > 0 || matches!(decoding, Decoding::Other(_));
    chunk.drain(..mark);
    let mut hash = Sha256::new();
    let mut text = Vec::with_capacity(2 * CHUNK);
    let mut bounds: Option<Bounds> = None;
    let mut is_separated = false;
    loop {
        let is_last = chunk.is_empty();
        text.clear();
        decoding
            .push(&chunk, is_last, &mut text)
            .map_err(|what| not_text(what.to_owned()))?;
        let bounds = bounds.get_or_insert_with(|| {
            is_separated = separator_line(&text).is_some();
            let found = || find_delimiter(&text);
            Bounds::new(delimiter.unwrap_or_else(found))
        });
        bounds.check(&text, &source.name())?;
        hash.update(&text);
        copy.write_all(&text).map_err(InputError::Copy)?;
        if is_last {
            break;
        }
        read(&mut chunk)?;
    }
    copy.flush().map_err(InputError::Copy)?;
    Ok(Spooled {
        sha256: hash.finalize().into(),
        is_from_excel: is_from_excel || is_separated,
    })
}

/// Returns the SHA-256 that a copy of the input would have. The parameters and errors are those of [`spool`].
pub(crate) fn input_hash(
    source: &Source,
    encoding: Option<&'static Encoding>,
    delimiter: Option<u8>,
) -> Result<InputHash, InputError> {
    Ok(spool(source, &mut io::sink(), encoding, delimiter)?.sha256)
}

/// Refuses NUL bytes and records that are too long while the input is copied, before anything holds all of a record.
struct Bounds {
    scanner: QuoteScanner,
    lines: LineEnds,
    record: usize,
    record_line: u64,
    /// The line of the last quote that opened.
    quote_line: u64,
    cell: usize,
}

impl Bounds {
    fn new(delimiter: u8) -> Self {
        Self {
            scanner: QuoteScanner::new(delimiter),
            lines: LineEnds::default(),
            record: 0,
            record_line: 1,
            quote_line: 1,
            cell: 0,
        }
    }

    fn check(&mut self, text: &[u8], input: &str) -> Result<(), InputError> {
        for byte in text {
            let event = self.scanner.push(*byte);
            self.record += 1;
            self.cell += 1;
            match (*byte, event) {
                (0, _) => {
                    return Err(InputError::NotText {
                        input: format!("{input}, line {}", self.lines.count + 1),
                        what: "it has a NUL byte; save the file as \"CSV UTF-8\"".to_owned(),
                    });
                }
                (_, QuoteEvent::CellEnd) => self.cell = 0,
                (_, QuoteEvent::Opens) => self.quote_line = self.lines.count + 1,
                (_, QuoteEvent::RecordEnd) => (self.cell, self.record) = (0, 0),
                _ => {}
            }
            self.lines.push(*byte);
            if self.record == 0 {
                self.record_line = self.lines.count + 1;
            }
            if self.cell > MAX_CELL || self.record > MAX_RECORD {
                return Err(if self.scanner.is_open() {
                    InputError::LongQuote {
                        input: input.to_owned(),
                        line: self.quote_line,
                    }
                } else {
                    InputError::TooLong {
                        input: input.to_owned(),
                        line: self.record_line,
                    }
                });
            }
        }
        Ok(())
    }
}

/// Formats a hash in hexadecimal.
pub(crate) fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter()
        .fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns the SHA-256 of a copy that [`spool`] made.
///
/// # Errors
/// Returns an error if the copy can't be read.
pub(crate) fn hash_of(copy: &Path) -> io::Result<InputHash> {
    let mut file = File::open(copy)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
}

/// How bytes become text.
enum Decoding {
    /// UTF-8 is checked where cells are cut, because there a message can name the line.
    Utf8,
    Utf16(Box<Decoder>),
    /// An encoding that the user named.
    Other(Box<Decoder>),
}

impl Decoding {
    /// Returns the decoding of an input that begins with `head`, and the length of its byte order mark.
    ///
    /// # Errors
    /// If the first bytes show that the input is not text.
    fn of(head: &[u8], encoding: Option<&'static Encoding>) -> Result<(Self, usize), String> {
        if let Some(what) = file_kind(head) {
            return Err(what.to_owned());
        }
        match head {
            [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => {
                Err("it is UTF-32; save it as \"CSV UTF-8\"".to_owned())
            }
            [0xEF, 0xBB, 0xBF, ..] => {
                // Programs that add a mark do not look whether there is one.
                let marks = head.chunks(3).take_while(|bytes| *bytes == b"\xEF\xBB\xBF");
                Ok((Self::Utf8, 3 * marks.count()))
            }
            [0xFF, 0xFE, ..] => Ok((Self::utf16(UTF_16LE), 2)),
            [0xFE, 0xFF, ..] => Ok((Self::utf16(UTF_16BE), 2)),
            _ => match encoding {
                Some(encoding) => {
                    let decoder = encoding.new_decoder_without_bom_handling();
                    Ok((Self::Other(Box::new(decoder)), 0))
                }
                None if matches!(head, [0, 1..=255, 0, 1..=255, ..]) => {
                    Err(without_mark("utf-16be"))
                }
                None if matches!(head, [1..=255, 0, 1..=255, 0, ..]) => {
                    Err(without_mark("utf-16le"))
                }
                None => Ok((Self::Utf8, 0)),
            },
        }
    }

    fn utf16(encoding: &'static Encoding) -> Self {
        Self::Utf16(Box::new(encoding.new_decoder_without_bom_handling()))
    }

    fn push(
        &mut self,
        mut bytes: &[u8],
        is_last: bool,
        text: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let (decoder, broken) = match self {
            Self::Utf8 => {
                text.extend_from_slice(bytes);
                return Ok(());
            }
            Self::Utf16(decoder) => (
                decoder,
                "its UTF-16 is broken (half of a character, or cut off); save it as \"CSV UTF-8\"",
            ),
            Self::Other(decoder) => (
                decoder,
                "it has bytes that the encoding of --encoding does not have; name another one",
            ),
        };
        let mut buffer = vec![0; 4 * 1024];
        loop {
            let (result, read, written) =
                decoder.decode_to_utf8_without_replacement(bytes, &mut buffer, is_last);
            text.extend_from_slice(buffer.get(..written).unwrap_or_default());
            bytes = bytes.get(read..).unwrap_or_default();
            match result {
                DecoderResult::InputEmpty => return Ok(()),
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => return Err(broken),
            }
        }
    }
}

fn without_mark(encoding: &str) -> String {
    format!(
        "it looks like UTF-16 without a byte order mark; save it as \"CSV UTF-8\", or add --encoding {encoding}"
    )
}

/// Returns what a file is that is no CSV, and what to do, by its first bytes.
fn file_kind(head: &[u8]) -> Option<&'static str> {
    let text = head
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(head)
        .trim_ascii_start();
    let begins = |prefix: &str| {
        text.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let kind = match head {
        [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..] => {
            "it is a workbook (.xlsx) or a zip archive; open it in Excel and save the sheet as \"CSV UTF-8\""
        }
        [0xD0, 0xCF, 0x11, 0xE0, ..] => {
            "it is an old Excel workbook (.xls); open it in Excel and save the sheet as \"CSV UTF-8\""
        }
        [0x1F, 0x8B, ..] => "it is compressed; unpack it first (gunzip)",
        [b'7', b'z', 0xBC, 0xAF, ..] => "it is compressed; unpack it first (7-Zip)",
        [0x89, b'P', b'N', b'G', ..] | [0xFF, 0xD8, 0xFF, ..] => {
            "it is a picture; export the list as CSV"
        }
        _ if begins("SQLite format 3") => "it is a database (SQLite); export the list as CSV",
        [b'P', b'A', b'R', b'1', ..] => "it is a table in Parquet; export the list as CSV",
        _ if begins("%PDF") => "it is a PDF; export the list as CSV",
        _ if begins("{\\rtf") => "it is a document in RTF; export the list as CSV",
        // A comment, or a part of a page.
        _ if begins("<!")
            || begins("<html")
            || begins("<head")
            || begins("<body")
            || begins("<table") =>
        {
            "it is a web page (HTML), perhaps of a download that needs a login; export the list as CSV"
        }
        _ if begins("<") => "it is XML; export the list as CSV",
        _ if begins("{") || begins("[{") || begins("[\n") => "it is JSON; export the list as CSV",
        _ if begins("#TYPE ") => {
            "its first line is PowerShell's type information; delete that line, or export with -NoTypeInformation"
        }
        _ => return None,
    };
    Some(kind)
}
