//! Decodes a file's bytes to UTF-8: byte order marks, UTF-16, standard input, and files that are not text.
//!
//! [`spool`] decodes the input and copies it once into the run directory. Everything after that reads the
//! copy. Standard input can therefore be read twice, a resume needs no other file, and the tool sends exactly
//! what it checked, even if somebody edits the original meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use super::InputError;

/// The number of bytes read at a time. It is large enough to keep reading fast, and small enough not to
/// matter for the memory of a run.
const CHUNK: usize = 64 * 1024;

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

/// The SHA-256 of the decoded input. It binds a run to its input.
pub(crate) type InputHash = [u8; 32];

/// Copies the input into `copy` as UTF-8 without a byte order mark, and returns the copy's SHA-256.
///
/// # Errors
/// Returns an error if the input can't be read or is not text, or if the copy can't be written.
pub(crate) fn spool(source: &Source, copy: &mut File) -> Result<InputHash, InputError> {
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
        // The first chunk is the head that was checked for a byte order mark. It may be empty even if more
        // follows.
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

enum Decoding {
    /// UTF-8 is validated when cells are parsed, because the message can name the line there.
    Utf8,
    Utf16(Box<Decoder>),
}

impl Decoding {
    /// Detects the encoding from the first bytes, and returns it with the length of the byte order mark.
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
