//! From a file's bytes to UTF-8: byte order marks, UTF-16, standard input, and files that are no text at all.
//!
//! [`spool`] copies the input once, decoded, into the run directory. Everything after it reads the copy: standard
//! input can be read twice, a resume needs no other file, and what was checked is what is sent even if somebody
//! saves the original meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use super::InputError;

/// Bytes read at a time. Large enough that reading is not what takes the time, small enough not to be seen in
/// the memory of a run.
const CHUNK: usize = 64 * 1024;

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// `-` is standard input, everything else a path.
    #[must_use]
    pub fn from_arg(arg: &Path) -> Self {
        if arg.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::File(arg.to_owned())
        }
    }

    /// How messages call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// A short name for a run directory: the file's name without its extension.
    #[must_use]
    pub fn stem(&self) -> String {
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
                let unreadable = |source| InputError::Open {
                    input: self.name(),
                    source,
                };
                let file = File::open(path).map_err(unreadable)?;
                if file.metadata().map_err(unreadable)?.is_dir() {
                    return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
                }
                Ok(Box::new(file))
            }
        }
    }
}

/// The hash of the decoded input, by which a run is bound to it.
pub type InputHash = [u8; 32];

/// Copies the input into `copy` as UTF-8 without a byte order mark, and answers its SHA-256.
///
/// # Errors
/// If the input can't be read or is no text, or the copy can't be written.
pub fn spool(source: &Source, copy: &mut File) -> Result<InputHash, InputError> {
    let unreadable = |error| InputError::Read {
        input: source.name(),
        source: error,
    };
    let mut reader = BufReader::with_capacity(CHUNK, source.open()?);
    let mut head = Vec::with_capacity(4);
    reader
        .by_ref()
        .take(4)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    let (mut decoding, mark) = Decoding::of(&head).map_err(|what| InputError::NotText {
        input: source.name(),
        what,
    })?;
    let mut hash = Sha256::new();
    let mut chunk: Vec<u8> = head.get(mark..).unwrap_or_default().to_vec();
    let mut text = Vec::with_capacity(2 * CHUNK);
    loop {
        let last = chunk.is_empty();
        text.clear();
        decoding
            .push(&chunk, last, &mut text)
            .map_err(|what| InputError::NotText {
                input: source.name(),
                what,
            })?;
        hash.update(&text);
        copy.write_all(&text).map_err(InputError::Copy)?;
        // The first chunk is what was looked at for the mark, and may be empty though more follows.
        chunk.clear();
        let read = reader
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .map_err(unreadable)?;
        if read == 0 && last {
            break;
        }
    }
    copy.flush().map_err(InputError::Copy)?;
    Ok(hash.finalize().into())
}

/// A hash in hexadecimal.
#[must_use]
pub fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter()
        .fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The SHA-256 of a copy that [`spool`] made.
///
/// # Errors
/// If it can't be read.
pub fn hash_of(copy: &Path) -> io::Result<InputHash> {
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

enum Decoding {
    /// UTF-8 is checked where cells are cut, for there a message can name the line.
    Utf8,
    Utf16(Box<Decoder>),
}

impl Decoding {
    /// What the first bytes say, and how many of them are a byte order mark.
    fn of(head: &[u8]) -> Result<(Self, usize), &'static str> {
        match head {
            [0xEF, 0xBB, 0xBF, ..] => Ok((Self::Utf8, 3)),
            [0xFF, 0xFE, 0, 0] | [0, 0, 0xFE, 0xFF] => {
                Err("it is UTF-32; save it as \"CSV UTF-8\"")
            }
            [0xFF, 0xFE, ..] => Ok((Self::utf16(UTF_16LE), 2)),
            [0xFE, 0xFF, ..] => Ok((Self::utf16(UTF_16BE), 2)),
            [b'P', b'K', 3, 4] => {
                Err("it is a workbook or a zip archive; in Excel, save the sheet as \"CSV UTF-8\"")
            }
            [0x1F, 0x8B, ..] => Err("it is compressed; unpack it first (gunzip)"),
            [0, _, 0, _] | [_, 0, _, 0] => {
                Err("it looks like UTF-16 without a byte order mark; save it as \"CSV UTF-8\"")
            }
            _ => Ok((Self::Utf8, 0)),
        }
    }

    fn utf16(encoding: &'static encoding_rs::Encoding) -> Self {
        Self::Utf16(Box::new(encoding.new_decoder_without_bom_handling()))
    }

    fn push(
        &mut self,
        mut bytes: &[u8],
        last: bool,
        text: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let Self::Utf16(decoder) = self else {
            text.extend_from_slice(bytes);
            return Ok(());
        };
        let mut buffer = vec![0; 4 * 1024];
        loop {
            let (result, read, written) =
                decoder.decode_to_utf8_without_replacement(bytes, &mut buffer, last);
            text.extend_from_slice(buffer.get(..written).unwrap_or_default());
            bytes = bytes.get(read..).unwrap_or_default();
            match result {
                DecoderResult::InputEmpty => return Ok(()),
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    return Err(
                        "its UTF-16 is broken (half of a character, or cut off); save it as \"CSV UTF-8\"",
                    );
                }
            }
        }
    }
}
