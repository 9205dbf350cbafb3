//! The quotes of a CSV, as RFC 4180 has them. The csv crate repairs wrong quotes; this module finds them, so that no
//! repaired value is sent.
//!
//! ```text
//!               quote                    quote                  quote (a doubled one)
//!   CellStart ────────► Quoted ────────────────► AfterQuote ─────────────────────────► Quoted
//!     │   ▲                                          │  │
//!     │   └───────────── delimiter, line end ◄───────┘  └─ else: wrong, text after a closing quote ─► Plain
//!     │ else
//!     ▼
//!   Plain ── quote: wrong, a quote inside an unquoted cell
//!     └───── delimiter, line end ─► CellStart
//! ```
//!
//! The states follow the csv crate, so that both find the same records.

use super::InputError;
use super::lines::LineEnds;

/// Where a scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QuoteState {
    CellStart,
    Plain,
    Quoted,
    AfterQuote,
}

/// What a byte is for the record in which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuoteEvent {
    /// A part of a cell.
    None,
    /// A cell ends, and another one of the record begins.
    CellEnd,
    /// The record ends.
    RecordEnd,
    /// A quote opens a cell.
    Opens,
    /// Text stands after a closing quote.
    TextAfterQuote,
    /// A quote stands inside an unquoted cell.
    QuoteInside,
}

/// Follows the bytes of a CSV.
#[derive(Clone, Debug)]
pub(super) struct QuoteScanner {
    delimiter: u8,
    state: QuoteState,
}

impl QuoteScanner {
    /// Returns a scanner that stands at the start of a record.
    pub(super) const fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            state: QuoteState::CellStart,
        }
    }

    /// Takes the next byte.
    pub(super) fn push(&mut self, byte: u8) -> QuoteEvent {
        use QuoteState::{AfterQuote, CellStart, Plain, Quoted};
        let (state, event) = match (self.state, byte) {
            (Quoted, b'"') => (AfterQuote, QuoteEvent::None),
            (Quoted, _) | (AfterQuote, b'"') => (Quoted, QuoteEvent::None),
            (CellStart, b'"') => (Quoted, QuoteEvent::Opens),
            (_, b'\n' | b'\r') => (CellStart, QuoteEvent::RecordEnd),
            (_, byte) if byte == self.delimiter => (CellStart, QuoteEvent::CellEnd),
            (AfterQuote, _) => (Plain, QuoteEvent::TextAfterQuote),
            (Plain, b'"') => (Plain, QuoteEvent::QuoteInside),
            (CellStart | Plain, _) => (Plain, QuoteEvent::None),
        };
        self.state = state;
        event
    }

    /// Returns whether the bytes so far end inside quotes.
    pub(super) fn is_open(&self) -> bool {
        self.state == QuoteState::Quoted
    }
}

/// The quotes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They are as RFC 4180 has them.
    Right,
    /// They are wrong, within one line: the other rows can be trusted.
    WrongRow(&'static str),
    /// They are wrong, and the record spans several lines: the rest of the file can't be trusted. The number is that of
    /// the lines after the start of the record on which the quote opens.
    WrongFile(&'static str, u64),
    /// A quote is never closed, so that the rest of the file is one cell.
    Open(u64),
}

impl Quotes {
    /// Returns what is wrong with the quotes of a row that starts on `line`.
    ///
    /// # Errors
    /// If the rest of the file can't be trusted.
    pub(super) fn in_row(self, input: &str, line: u64) -> Result<Option<String>, InputError> {
        match self {
            Self::Right => Ok(None),
            Self::WrongRow(what) => Ok(Some(format!(
                "{what}: put quotes around the whole cell, and double those inside it (\"\")"
            ))),
            Self::WrongFile(what, lines_before) => Err(InputError::Quotes {
                input: input.to_owned(),
                line: line + lines_before,
                what,
            }),
            Self::Open(lines_before) => Err(InputError::OpenQuote {
                input: input.to_owned(),
                line: line + lines_before,
            }),
        }
    }

    /// Checks the quotes of a header that starts on `line`.
    ///
    /// # Errors
    /// If they are wrong in any way.
    pub(super) fn in_header(self, input: &str, line: u64) -> Result<(), InputError> {
        match self.in_row(input, line)? {
            None => Ok(()),
            Some(problems) => Err(InputError::Columns {
                input: input.to_owned(),
                line,
                problems: format!(": {problems}"),
            }),
        }
    }
}

const TEXT_AFTER_QUOTE: &str = "there is text after a closing quote";
const QUOTE_INSIDE: &str = "a quote stands inside a cell that does not begin with one";
const SWALLOWS_ROW: &str = "a quoted cell goes on over a line that looks like the next row";

/// Checks the bytes of one record, without blank lines before it. `width` is the number of columns. `is_email_at` says
/// whether a cell is an address in the column of the email, by which a row that a quoted cell swallows is recognized.
pub(super) fn check_record(
    record: &[u8],
    delimiter: u8,
    width: usize,
    is_email_at: impl Fn(usize, &str) -> bool,
) -> Quotes {
    if memchr::memchr(b'"', record).is_none() {
        return Quotes::Right;
    }
    let body = without_line_end(record);
    let spans_lines = memchr::memchr2(b'\n', b'\r', body).is_some();
    let mut scanner = QuoteScanner::new(delimiter);
    // Line ends so far, and those before the last quote that opened.
    let (mut lines, mut opened_after) = (LineEnds::default(), 0);
    let mut swallows = None;
    for (at, byte) in body.iter().copied().enumerate() {
        let wrong = match scanner.push(byte) {
            QuoteEvent::Opens => {
                opened_after = lines.count;
                None
            }
            QuoteEvent::TextAfterQuote => Some((TEXT_AFTER_QUOTE, opened_after)),
            QuoteEvent::QuoteInside => Some((QUOTE_INSIDE, lines.count)),
            QuoteEvent::CellEnd | QuoteEvent::RecordEnd | QuoteEvent::None => None,
        };
        match wrong {
            Some((what, lines_before)) if spans_lines => {
                return Quotes::WrongFile(what, lines_before);
            }
            Some((what, _)) => return Quotes::WrongRow(what),
            None => {}
        }
        lines.push(byte);
        if matches!(byte, b'\n' | b'\r') && scanner.is_open() && swallows.is_none() {
            let rest = body.get(at + 1..).unwrap_or_default();
            if looks_like_row(rest, delimiter, width, &is_email_at) {
                swallows = Some(opened_after);
            }
        }
    }
    match swallows {
        _ if scanner.is_open() => Quotes::Open(opened_after),
        Some(lines_before) => Quotes::WrongFile(SWALLOWS_ROW, lines_before),
        None => Quotes::Right,
    }
}

/// Returns the record without the line end after it.
fn without_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// Whether the first line of `text`, which is inside a quoted cell, has as many cells as the header, and an address where
/// the email is expected.
fn looks_like_row(
    text: &[u8],
    delimiter: u8,
    width: usize,
    is_email_at: impl Fn(usize, &str) -> bool,
) -> bool {
    let line = text
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    let cells: Vec<&[u8]> = line.split(|byte| *byte == delimiter).collect();
    width > 1
        && cells.len() == width
        && cells.iter().enumerate().any(|(column, cell)| {
            std::str::from_utf8(cell)
                .is_ok_and(|cell| is_email_at(column, cell.trim().trim_matches('"')))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, width: usize) -> Quotes {
        let is_email_at = |column, cell: &str| column == 0 && crate::model::is_email(cell);
        check_record(record.as_bytes(), b',', width, is_email_at)
    }

    #[test]
    fn quotes_of_rfc_4180_are_right() {
        for right in [
            "a@x.org,Zed\n",
            "a@x.org,\"Zed\"\r\n",
            "\"a@x.org\",\"Zed \"\"Z\"\" Q\"\n",
            "a@x.org,\"\"\n",
            "a@x.org,\"\"\"\"\n",
            "a@x.org,\"Zed,\nAsh\"\n",
            "a@x.org,\"Zed\r\n\r\nb@x.org\"",
            "a@x.org,\"call b@x.org, or\nwait\"\n",
            "a@x.org,O'Neil",
        ] {
            assert_eq!(check(right, 2), Quotes::Right, "{right:?}");
        }
    }

    #[test]
    fn wrong_quotes_name_the_line_where_they_open() {
        use Quotes::{Open, WrongFile, WrongRow};
        for (wrong, width, expected) in [
            ("a@x.org,\"Zed\" Z\n", 2, WrongRow(TEXT_AFTER_QUOTE)),
            ("a@x.org,Zed \"Z\"\n", 2, WrongRow(QUOTE_INSIDE)),
            (
                "a@x.org,\"Bob \"Bobby\" S\"\n",
                2,
                WrongRow(TEXT_AFTER_QUOTE),
            ),
            (
                "a@x.org,\"Zed \\\"Z\\\" Q\"\n",
                2,
                WrongRow(TEXT_AFTER_QUOTE),
            ),
            ("a@x.org, \"Zed\"\n", 2, WrongRow(QUOTE_INSIDE)),
            ("a@x.org,5\" pipe\n", 2, WrongRow(QUOTE_INSIDE)),
            (
                "a@x.org,\"Zed,Ash\nb@x.org,\"Bob\",Birch\n",
                3,
                WrongFile(TEXT_AFTER_QUOTE, 0),
            ),
            (
                "a@x.org,\"Zed\nAsh\" Z\n",
                2,
                WrongFile(TEXT_AFTER_QUOTE, 0),
            ),
            (
                "a@x.org,\"Zed\nb@x.org,Bob\"\n",
                2,
                WrongFile(SWALLOWS_ROW, 0),
            ),
            (
                "a@x.org,\"1\n2\",\"3\n\"4\n",
                3,
                WrongFile(TEXT_AFTER_QUOTE, 1),
            ),
            ("a@x.org,\"Zed\nb@x.org,Bob\n", 2, Open(0)),
            ("a@x.org,\"Zed", 2, Open(0)),
        ] {
            assert_eq!(check(wrong, width), expected, "{wrong:?}");
        }
    }
}
