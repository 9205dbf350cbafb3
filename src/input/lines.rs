//! Physical line numbers of CSV records.
//!
//! The csv reader counts a line when it consumes the line feed. With CRLF it does so at the start of the
//! *next* record, and it counts blank lines before a record as part of that record. Its own line numbers are
//! therefore off by one or more. People look up the line in an editor, so this module records the line ends
//! while the bytes pass through.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use memchr::memchr2_iter;

/// A reader that records where lines end: at an LF, at the LF of a CRLF, and at a lone CR.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    inner: R,
    offset: u64,
    after_cr: bool,
    /// Offsets of the line ends that were read but that [`LineReader::start_of`] has not passed yet. They
    /// span at most one buffer of the csv reader.
    ends: VecDeque<u64>,
    /// The number of lines that ended before the oldest of `ends`.
    passed: u64,
}

impl<R> LineReader<R> {
    pub(super) const fn inner(&self) -> &R {
        &self.inner
    }

    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            offset: 0,
            after_cr: false,
            ends: VecDeque::new(),
            passed: 0,
        }
    }

    /// Returns the line, counted from 1, on which the record's own text starts. `end` is the csv reader's
    /// position after the record. `inside` returns how many lines end inside the record's cells and is called
    /// only if it matters. Call this method once for each record, in order.
    pub(super) fn start_of(&mut self, end: u64, inside: impl FnOnce() -> u64) -> u64 {
        let before = self.passed;
        let mut last = None;
        while let Some(offset) = self.ends.front().copied().filter(|offset| *offset < end) {
            self.ends.pop_front();
            self.passed += 1;
            last = Some(offset);
        }
        let terminator = u64::from(last.is_some_and(|offset| offset + 1 == end));
        // Line ends that are neither inside a cell nor the record's terminator are blank lines before the
        // record.
        let others = (self.passed - before).saturating_sub(terminator);
        let blank = if others == 0 {
            0
        } else {
            others.saturating_sub(inside())
        };
        before + blank + 1
    }
}

impl<R: Read> Read for LineReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if self.after_cr && bytes.first().is_some_and(|first| *first != b'\n') {
            self.ends.push_back(self.offset - 1);
        }
        for at in memchr2_iter(b'\n', b'\r', bytes) {
            // The next read decides about a CR at the end of this one: it may be the first half of a CRLF.
            let lone = || bytes.get(at + 1).is_some_and(|next| *next != b'\n');
            if bytes.get(at) == Some(&b'\n') || lone() {
                self.ends.push_back(self.offset + at as u64);
            }
        }
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
        self.offset += read as u64;
        Ok(read)
    }
}

/// Line counting stops after a seek, because a caller that rereads a row already knows its line.
impl<R: Seek> Seek for LineReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.ends.clear();
        self.inner.seek(to)
    }
}

/// Returns how many lines end inside a cell.
pub(super) fn ends_inside(cell: &[u8]) -> u64 {
    let mut count = 0;
    let mut bytes = cell.iter().peekable();
    while let Some(byte) = bytes.next() {
        if *byte == b'\n' || (*byte == b'\r' && bytes.peek() != Some(&&b'\n')) {
            count += 1;
        }
    }
    count
}
