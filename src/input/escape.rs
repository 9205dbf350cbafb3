//! How a CSV cell holds a value that spreadsheets or readers would change: with an apostrophe that reading removes.
//!
//! An apostrophe stands in front of a value that begins with one of the characters that OWASP's page on CSV injection
//! lists, because a spreadsheet would run it as a formula, or with white space, which reading drops otherwise. One stands
//! behind a value that ends with white space. Apostrophes between the added one and such a character don't count, so that
//! every value has exactly one escaped form and comes back as it was.

use std::borrow::Cow;

/// The first characters of formulas. The full-width forms count in some Asian versions of spreadsheets.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

fn needs_escape_before(value: &str) -> bool {
    value
        .trim_start_matches('\'')
        .starts_with(|c: char| c.is_whitespace() || FORMULA.contains(&c))
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
    fn formulas_and_white_space_at_the_ends_are_escaped_and_nothing_else() {
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
        fn every_value_comes_back(value in "['=+@＝a \t\r\n-]{0,6}|.*") {
            let cell = escaped(&value);
            prop_assert_eq!(unescaped(&cell), value.as_str());
            let padded = format!(" {cell}\t");
            prop_assert_eq!(unescaped(&padded), value.as_str());
            prop_assert_eq!(cell.trim(), &*cell);
            prop_assert!(!cell.starts_with(FORMULA));
        }
    }
}
