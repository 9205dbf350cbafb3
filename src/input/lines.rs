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
    /// The number of line ends before `start`.
    lines: u64,
    /// Whether the byte before `start` is a carriage return.
    after_cr: bool,
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
            lines: 0,
            after_cr: false,
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
        let line = self.lines + 1;
        self.lines += line_ends(record, self.after_cr);
        self.after_cr = record.last().map_or(self.after_cr, |byte| *byte == b'\r');
        self.start = length;
        RawRecord {
            bytes: self.bytes.get(at..length).unwrap_or_default(),
            line,
        }
    }
}

/// Returns the number of line ends: LF, CRLF, or CR. `after_cr` says that a CR stands before the text, to which an LF at
/// its start belongs.
fn line_ends(text: &[u8], after_cr: bool) -> u64 {
    let mut count = 0;
    let mut last_cr = after_cr.then_some(0);
    for at in memchr2_iter(b'\n', b'\r', text) {
        let is_cr = text.get(at) == Some(&b'\r');
        // Positions are shifted by one, so that a CR before the text has one too.
        if is_cr || last_cr != Some(at) {
            count += 1;
        }
        last_cr = is_cr.then_some(at + 1);
    }
    count
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
        self.lines += line_ends(blank, self.after_cr);
        self.after_cr = blank.last().map_or(self.after_cr, |byte| *byte == b'\r');
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
            assert_eq!(line_ends(text.as_bytes(), after_cr), count, "{text:?}");
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
