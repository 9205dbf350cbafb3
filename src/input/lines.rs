//! The bytes and the physical line of each CSV record.
//!
//! The csv reader counts a line when it consumes the line feed. With CRLF it does so at the start of the *next* record,
//! and it counts blank lines before a record as a part of that record. People look up the line in an editor, so this
//! reader keeps the bytes until their record is complete, and counts the lines itself.

use std::io::{self, Read, Seek, SeekFrom};

use memchr::memchr2_iter;

/// The bytes that may be kept before those of earlier records are dropped.
const KEPT: usize = 256 * 1024;

/// A reader that keeps the bytes of the record that is being read.
#[derive(Debug)]
pub(super) struct RecordReader<R> {
    inner: R,
    /// Bytes that were read, from `base` on. Those before `start` belong to earlier records.
    bytes: Vec<u8>,
    base: u64,
    start: usize,
    /// The line ends before `start`.
    lines: LineEnds,
}

/// A record as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawRecord<'r> {
    /// The bytes, without blank lines before them.
    pub(super) bytes: &'r [u8],
    /// The line on which it starts, from 1.
    pub(super) line: u64,
}

impl RawRecord<'_> {
    /// Returns whether a line end follows the record. Without one, it is the last record, and may be cut off.
    pub(super) fn is_terminated(&self) -> bool {
        self.bytes.ends_with(b"\n") || self.bytes.ends_with(b"\r")
    }
}

impl<R> RecordReader<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self {
            inner,
            bytes: Vec::new(),
            base: 0,
            start: 0,
            lines: LineEnds {
                count: 0,
                after_cr: false,
            },
        }
    }

    /// Returns the record that ends at `end`, the csv reader's position after it. It must be called for each record, in
    /// order. After a seek the line is not known.
    pub(super) fn record(&mut self, end: u64) -> RawRecord<'_> {
        self.skip_blank_lines();
        let length = usize::try_from(end.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let length = length.clamp(self.start, self.bytes.len());
        let at = self.start;
        let record = self.bytes.get(at..length).unwrap_or_default();
        let line = self.lines.count + 1;
        self.lines.extend(record);
        self.start = length;
        RawRecord {
            bytes: self.bytes.get(at..length).unwrap_or_default(),
            line,
        }
    }
}

/// Counts line ends: LF, CRLF, or CR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineEnds {
    /// The number so far.
    pub(super) count: u64,
    /// Whether the last byte was a CR, to which an LF belongs.
    after_cr: bool,
}

impl LineEnds {
    /// Takes the next byte.
    pub(super) const fn push(&mut self, byte: u8) {
        if byte == b'\r' || (byte == b'\n' && !self.after_cr) {
            self.count += 1;
        }
        self.after_cr = byte == b'\r';
    }

    /// Takes the next bytes.
    fn extend(&mut self, text: &[u8]) {
        let mut next = 0;
        for at in memchr2_iter(b'\n', b'\r', text) {
            self.after_cr &= at == next;
            self.push(text.get(at).copied().unwrap_or(b'\n'));
            next = at + 1;
        }
        self.after_cr &= next == text.len();
    }
}

impl<R> RecordReader<R> {
    /// Passes over the blank lines before the record that is being read, so that any number of them needs no memory.
    fn skip_blank_lines(&mut self) {
        let text = self.bytes.get(self.start..).unwrap_or_default();
        let blank = text
            .iter()
            .take_while(|byte| matches!(byte, b'\n' | b'\r'))
            .count();
        let blank = text.get(..blank).unwrap_or_default();
        self.lines.extend(blank);
        self.start += blank.len();
    }
}

impl<R: Read> Read for RecordReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.skip_blank_lines();
        if self.start >= KEPT {
            self.bytes.drain(..self.start);
            self.base += self.start as u64;
            self.start = 0;
        }
        self.bytes
            .extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// After a seek the lines are not counted any more: whoever reads a row again knows its line.
impl<R: Seek> Seek for RecordReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.base = self.inner.seek(to)?;
        self.bytes.clear();
        self.start = 0;
        Ok(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_of_every_system_are_counted_once() {
        for (text, after_cr, count) in [
            ("", false, 0),
            ("a", false, 0),
            ("a\nb\n", false, 2),
            ("a\r\nb\r\n", false, 2),
            ("a\rb\r", false, 2),
            ("\r\r\n\n", false, 3),
            ("\na\n", true, 1),
            ("\na\n", false, 2),
            ("\ra", true, 1),
        ] {
            let start = LineEnds { count: 0, after_cr };
            let (mut at_once, mut by_byte) = (start, start);
            at_once.extend(text.as_bytes());
            text.bytes().for_each(|byte| by_byte.push(byte));
            assert_eq!(at_once.count, count, "{text:?}");
            assert_eq!(at_once, by_byte, "{text:?}");
        }
    }

    #[test]
    fn records_keep_their_bytes_and_lines() {
        let text = "a,b\r\n\r\n\"c\r\nd\",e\r\nf,g";
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(RecordReader::new(text.as_bytes()));
        let mut record = csv::ByteRecord::new();
        let mut seen = Vec::new();
        while reader.read_byte_record(&mut record).expect("readable") {
            let end = reader.position().byte();
            let raw = reader.get_mut().record(end);
            let bytes = String::from_utf8_lossy(raw.bytes).trim_end().to_owned();
            seen.push((bytes, raw.line, raw.is_terminated()));
        }
        let expected = [
            ("a,b", 1, true),
            ("\"c\r\nd\",e", 3, true),
            ("f,g", 5, false),
        ];
        assert_eq!(
            seen,
            expected.map(|(bytes, line, ended)| (bytes.to_owned(), line, ended))
        );
    }
}
