//! Physical line numbers of CSV records.
//!
//! The csv reader counts a line when it consumes the line feed. With CRLF it does so at the start of the *next*
//! record, and blank lines before a record count as part of it, so that its own numbers are off by one or more.
//! People look for the line in an editor, so the ends of lines are noted here while the bytes go by.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use memchr::memchr2_iter;

/// A reader that notes where lines end: at LF, at CRLF's LF, and at a CR that stands alone.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    inner: R,
    offset: u64,
    after_cr: bool,
    /// Offsets of the line ends that were read and that [`LineReader::start_of`] has not passed yet: at most a
    /// buffer of the csv reader.
    ends: VecDeque<u64>,
    /// Lines that ended before the oldest of `ends`.
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

    /// The line, from 1, on which the record's own text starts, given where the csv reader stands after it and
    /// how many lines end inside its cells, which is asked only if some may. To be called for each record, in order.
    pub(super) fn start_of(&mut self, end: u64, inside: impl FnOnce() -> u64) -> u64 {
        let before = self.passed;
        let mut last = None;
        while let Some(offset) = self.ends.front().copied().filter(|offset| *offset < end) {
            self.ends.pop_front();
            self.passed += 1;
            last = Some(offset);
        }
        let terminator = u64::from(last.is_some_and(|offset| offset + 1 == end));
        // What is neither inside a cell nor ends the record are blank lines before it.
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
            // A CR at the end of what was read is judged by what comes next.
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

/// After a seek the lines are not counted any more: who reads a row again knows its line.
impl<R: Seek> Seek for LineReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.ends.clear();
        self.inner.seek(to)
    }
}

/// How many lines end inside a cell.
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
