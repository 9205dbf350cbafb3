//! How a CSV cell holds a value that spreadsheets or readers would change: with an apostrophe that reading removes.
//!
//! An apostrophe stands in front of a value
//!
//! - that begins with one of the characters that OWASP's page on CSV injection lists, because a spreadsheet would run it
//!   as a formula,
//! - that a spreadsheet would take for a number, a date or a time, and save in another form (`007`, `1-Sep`, `10:30`),
//! - that begins with white space, which reading drops otherwise.
//!
//! One stands behind a value that ends with white space. Apostrophes between the added one and such text don't count, so
//! that every value has exactly one escaped form and comes back as it was.

use std::borrow::Cow;

/// The first characters of formulas. The full-width forms count in some Asian versions of spreadsheets.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// The months, which a date may also abbreviate to three letters or more.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn is_formula(value: &str) -> bool {
    value.starts_with(FORMULA)
}

/// Whether a spreadsheet takes the value for a number, a date or a time. It may say so of more values, which is harmless.
fn is_number_or_date(value: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || " .,:/-+%".contains(c);
    let is_word = |word: &str| {
        let word = word.to_ascii_lowercase();
        matches!(&*word, "e" | "am" | "pm")
            || (word.len() >= 3 && MONTHS.iter().any(|month| month.starts_with(&*word)))
    };
    value.bytes().any(|byte| byte.is_ascii_digit())
        && value.chars().all(is_part)
        && value
            .split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| !word.is_empty())
            .all(is_word)
}

fn needs_escape_before(value: &str) -> bool {
    let value = value.trim_start_matches('\'');
    value.starts_with(char::is_whitespace)
        || is_formula(value)
        || is_number_or_date(value.trim_end_matches('\''))
}

fn needs_escape_after(value: &str) -> bool {
    value.trim_end_matches('\'').ends_with(char::is_whitespace)
}

/// Returns the cell that holds a value.
pub(crate) fn escaped(value: &str) -> Cow<'_, str> {
    let (before, after) = (needs_escape_before(value), needs_escape_after(value));
    if !before && !after {
        return Cow::Borrowed(value);
    }
    let mark = |is_needed: bool| if is_needed { "'" } else { "" };
    Cow::Owned(format!("{}{value}{}", mark(before), mark(after)))
}

/// Returns a cell of a file that only people read, which a spreadsheet does not run.
pub(crate) fn without_formula(text: &str) -> Cow<'_, str> {
    let visible = text.trim_start();
    if is_formula(visible) || text.starts_with(['\t', '\r', '\n']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns the value that a cell holds, without the white space around the cell.
pub(crate) fn unescaped(cell: &str) -> &str {
    let cell = cell.trim();
    let cell = match cell.strip_suffix('\'') {
        Some(value) if needs_escape_after(value) => value,
        _ => cell,
    };
    match cell.strip_prefix('\'') {
        Some(value) if needs_escape_before(value) => value,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_that_would_change_are_escaped_and_nothing_else() {
        for (value, cell) in [
            ("=HYPERLINK(\"x\")", "'=HYPERLINK(\"x\")"),
            ("=cmd|'/c calc'!A0", "'=cmd|'/c calc'!A0"),
            ("@SUM(1)", "'@SUM(1)"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("＝1", "'＝1"),
            (" Zed", "' Zed"),
            ("Zed ", "Zed '"),
            (" Zed\u{A0}", "' Zed\u{A0}'"),
            (" ", "' '"),
            ("= '", "'= ''"),
            ("007", "'007"),
            ("'007", "''007"),
            ("1-Sep", "'1-Sep"),
            ("10:30 PM", "'10:30 PM"),
            ("1e5", "'1e5"),
            ("Sept 1", "'Sept 1"),
            ("7 ", "'7 '"),
            ("7'", "'7'"),
            ("1@x.org", "1@x.org"),
            ("3KdKw9", "3KdKw9"),
            ("2Pac", "2Pac"),
            ("7even", "7even"),
            ("'7even", "'7even"),
            ("Marcus 2", "Marcus 2"),
            ("May", "May"),
            ("'=1", "''=1"),
            ("''=1", "'''=1"),
            ("'t Hart", "'t Hart"),
            ("O'Neil", "O'Neil"),
            ("a=1", "a=1"),
            ("", ""),
            ("'", "'"),
        ] {
            assert_eq!(escaped(value), cell);
            assert_eq!(unescaped(cell), value);
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in "['=+@＝a1 \t\r\n-]{0,6}|.*") {
            let cell = escaped(&value);
            prop_assert_eq!(unescaped(&cell), value.as_str());
            let padded = format!(" {cell}\t");
            prop_assert_eq!(unescaped(&padded), value.as_str());
            prop_assert_eq!(cell.trim(), &*cell);
            prop_assert!(!cell.starts_with(FORMULA));
        }
    }
}
