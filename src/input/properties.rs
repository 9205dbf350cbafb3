//! What holds for the rows of any file. [`Record::at`] is a second, strict reader of RFC 4180, written for this test alone.

use std::io::Write;

use proptest::prelude::*;

use super::table::{Table, TableOptions};
use super::text::{Source, spool};
use super::{Entry, Row};
use crate::model::{Field, Value};

/// Pieces of files: whole cells, and everything that has a meaning in a CSV or stands next to something that has.
const PIECES: [&str; 29] = [
    "a@x.org",
    "b@x.org",
    "Zed",
    "\"Zed\"",
    "\"Zed,Ash\"",
    "\"Zed;Ash\"",
    "\"two\nlines\"",
    "\"\"",
    "\"",
    ",",
    ",",
    ";",
    "\t",
    "|",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\u{A0}",
    "'",
    "=",
    "\\",
    "é",
    "\u{FEFF}",
    "\u{0}",
    "Email",
    "7",
    "sep=;",
];

const HEADERS: [&str; 4] = [
    "Email,First Name,Last Name\n",
    "Email;First Name;Last Name\r\n",
    "\"Email\"\tFirst Name\tLast Name\r",
    "",
];

/// A record as RFC 4180 has it.
struct Record {
    cells: Vec<String>,
    /// Where the bytes after the record begin.
    end: usize,
}

impl Record {
    /// Reads the record that begins at `at`, or returns `None` if its quotes are not as RFC 4180 has them.
    fn at(text: &str, mut at: usize, delimiter: char) -> Option<Self> {
        let ends_cell = |c: char| c == delimiter || c == '\n' || c == '\r';
        let mut cells = Vec::new();
        loop {
            let rest = text.get(at..)?;
            let cell = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let mut value = String::new();
                    let mut left = quoted;
                    loop {
                        let quote = left.find('"')?;
                        value.push_str(left.get(..quote)?);
                        left = left.get(quote + 1..)?;
                        match left.strip_prefix('"') {
                            Some(more) => {
                                value.push('"');
                                left = more;
                            }
                            None => break,
                        }
                    }
                    at += rest.len() - left.len();
                    value
                }
                None => {
                    let value = rest.split(ends_cell).next()?;
                    at += value.len();
                    if value.contains('"') {
                        return None;
                    }
                    value.to_owned()
                }
            };
            cells.push(cell);
            match text.get(at..)?.chars().next() {
                Some(c) if c == delimiter => at += c.len_utf8(),
                None | Some('\n' | '\r') => return Some(Self { cells, end: at }),
                Some(_) => return None,
            }
        }
    }
}

/// What the documentation says of white space and apostrophes around a cell.
fn documented_value(cell: &str) -> &str {
    let mut value = cell.trim();
    let without = value.trim_end_matches('\'');
    if without.len() < value.len() && without.ends_with(char::is_whitespace) {
        value = value.strip_suffix('\'').unwrap_or(value);
    }
    let without = value.trim_start_matches('\'');
    let is_marked = |c: char| c.is_whitespace() || "=+-@＝＋－＠".contains(c);
    let is_number = |text: &str| text.contains('7') && text.chars().all(|c| "7 ".contains(c));
    if without.len() < value.len()
        && (without.starts_with(is_marked) || is_number(without.trim_end_matches('\'')))
    {
        value = value.strip_prefix('\'').unwrap_or(value);
    }
    value
}

/// Reads a file as the tool does, and returns its rows with the places of their records, or nothing if it is refused.
fn rows(file: &std::path::Path, copy: &std::path::Path) -> Option<(char, Vec<(usize, Row)>)> {
    let mut target = std::fs::File::create(copy).expect("writable");
    spool(&Source::File(file.to_owned()), &mut target, None, None).ok()?;
    let mut table = Table::open("x.csv", copy, &TableOptions::default()).ok()?;
    let delimiter = char::from(table.layout().delimiter);
    let mut rows = Vec::new();
    while let Some((position, entry)) = table.next_entry().ok()? {
        if let Entry::Row(row) = entry {
            rows.push((usize::try_from(position.offset).expect("short"), row));
        }
    }
    Some((delimiter, rows))
}

fn check(text: &str, file: &std::path::Path, copy: &std::path::Path) -> Result<(), TestCaseError> {
    let mut written = std::fs::File::create(file).expect("writable");
    written.write_all(text.as_bytes()).expect("writable");
    let Some((delimiter, rows)) = rows(file, copy) else {
        return Ok(());
    };
    let text = text.trim_start_matches('\u{FEFF}');
    let header_at = text.len() - text.trim_start_matches(['\n', '\r']).len();
    let mut header = Record::at(text, header_at, delimiter);
    let is_separator = |record: &Record| {
        record
            .cells
            .iter()
            .all(|cell| cell.is_empty() || cell.to_lowercase().starts_with("sep="))
    };
    while let Some(record) = header.take_if(|record| {
        is_separator(record) || record.cells.iter().all(|cell| cell.trim().is_empty())
    }) {
        let rest = text.get(record.end..).unwrap_or_default();
        let at = text.len() - rest.trim_start_matches(['\n', '\r']).len();
        header = Record::at(text, at, delimiter);
    }
    let header = header.ok_or_else(|| TestCaseError::fail("the header's quotes are wrong"))?;
    let column = |name: &str| {
        header
            .cells
            .iter()
            .position(|cell| documented_value(cell) == name)
    };
    for (offset, row) in rows {
        let blank = text.get(offset..).unwrap_or_default();
        let at = text.len() - blank.trim_start_matches(['\n', '\r']).len();
        let record = Record::at(text, at, delimiter)
            .ok_or_else(|| TestCaseError::fail(format!("line {} has wrong quotes", row.line)))?;
        let cell = |name: &str| {
            let cell = column(name).and_then(|column| record.cells.get(column));
            documented_value(cell.map_or("", String::as_str))
        };
        prop_assert_eq!(&*row.email, cell("Email"));
        for field in [Field::FirstName, Field::LastName] {
            let value = row.value(field).map(Value::as_str).unwrap_or_default();
            prop_assert_eq!(value, cell(field.column()));
        }
    }
    Ok(())
}

/// `PROPTEST_CASES` asks for more files.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.max(4096),
        failure_persistence: None,
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_value_of_a_row_is_literally_a_cell_of_the_file(
        header in prop::sample::select(&HEADERS[..]),
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24),
    ) {
        thread_local! {
            static DIR: tempfile::TempDir = tempfile::tempdir().expect("a directory");
        }
        DIR.with(|dir| {
            let text = format!("{header}{}", pieces.concat());
            check(&text, &dir.path().join("x.csv"), &dir.path().join("copy.csv"))
        })?;
    }
}
