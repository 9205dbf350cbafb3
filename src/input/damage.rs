//! Cells that look damaged: by a spreadsheet, by a wrong encoding, or by an export. A value with U+FFFD or a control
//! character is invalid; everything else is a warning, because a person may be called so.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{
    Field, FieldKind, is_email, is_invisible, looks_decoded_wrongly, looks_replaced, quoted,
};
use crate::output::{LINES_SHOWN, count, line_list};

/// What spreadsheets show in place of a value that they can't compute, besides `#REF!`, `#NAME?` and the like.
const SPREADSHEET_ERRORS: [&str; 8] = [
    "#N/A",
    "#N/D",
    "#ND",
    "#NV",
    "#GETTING_DATA",
    "#DIV/0",
    "Loading...",
    "Loading…",
];
/// What exports write for a value that is not there. `Null` and `None` are names.
const MISSING: [&str; 9] = [
    "NULL",
    "(null)",
    "(NULL)",
    "<null>",
    "<NULL>",
    "\\N",
    "undefined",
    "NaN",
    "[object Object]",
];
/// Quotes that programs put around a value, besides the CSV's own.
const QUOTE_PAIRS: [(char, char); 7] = [
    ('“', '”'),
    ('„', '“'),
    ('„', '”'),
    ('«', '»'),
    ('‘', '’'),
    ('"', '"'),
    ('\'', '\''),
];

/// A kind of damage that a value only seems to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// UTF-8 that was read in another encoding.
    Encoding,
    /// Signs in place of letters, by an encoding that lacks them or by a wrong one.
    Replaced,
    /// An error of a spreadsheet, or the signs that it shows for a column that is too narrow.
    SpreadsheetError,
    /// A word for a missing value.
    Missing,
    /// Quotes that belong to the value.
    Quotes,
    /// An email address in a field that holds a name.
    EmailAsName,
    /// A character that can't be seen.
    Invisible,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "looks like UTF-8 that was read in another encoding",
            Self::Replaced => "has signs that a program writes in place of letters",
            Self::SpreadsheetError => "looks like an error of a spreadsheet",
            Self::Missing => "looks like a word for a missing value",
            Self::Quotes => "has quotes around its value",
            Self::EmailAsName => "holds an email address",
            Self::Invisible => "has characters that can't be seen",
        })
    }
}

/// Returns why a value can't be sent: it has a character that only damage leaves.
pub(crate) fn fatal_character(value: &str) -> Option<String> {
    let bad = value
        .chars()
        .find(|c| *c == '\u{FFFD}' || (c.is_control() && !matches!(c, '\n' | '\r')))?;
    let what = if bad == '\u{FFFD}' {
        "which a program puts where it can't read a character"
    } else {
        "a control character"
    };
    Some(format!(
        "it has U+{:04X}, {what}: {}",
        u32::from(bad),
        quoted(value)
    ))
}

/// Returns the damage that a value of `field` seems to have.
pub(crate) fn damage(field: Field, value: &str) -> Option<Damage> {
    let is_name = field.kind() == FieldKind::Text;
    if !is_name && field.kind() != FieldKind::AccountType {
        return None;
    }
    let is_wrapped = |(open, close): (char, char)| {
        value.len() > open.len_utf8() && value.starts_with(open) && value.ends_with(close)
    };
    let is_too_narrow = value.len() >= 3 && value.bytes().all(|byte| byte == b'#');
    // ZWJ and ZWNJ belong to scripts and emoji.
    let is_hidden =
        |c: char| is_invisible(c) && !matches!(c, '\u{200C}' | '\u{200D}' | '\n' | '\r');
    if looks_decoded_wrongly(value) {
        Some(Damage::Encoding)
    } else if is_too_narrow || is_spreadsheet_error(value) {
        Some(Damage::SpreadsheetError)
    } else if MISSING.contains(&value) {
        Some(Damage::Missing)
    } else if is_name && looks_replaced(value) {
        Some(Damage::Replaced)
    } else if QUOTE_PAIRS.into_iter().any(is_wrapped) {
        Some(Damage::Quotes)
    } else if is_name && is_email(value) {
        Some(Damage::EmailAsName)
    } else if value.contains(is_hidden) {
        Some(Damage::Invisible)
    } else {
        None
    }
}

/// Whether the value is an error of Excel or Google Sheets in any language (`#REF!`, `#BEZUG!`), or of `LibreOffice`
/// (`Err:502`).
fn is_spreadsheet_error(value: &str) -> bool {
    let named = || {
        let name = value.strip_prefix('#')?.strip_suffix(['!', '?'])?;
        let is_of_name = |c: char| c.is_uppercase() || c.is_ascii_digit() || matches!(c, '/' | '_');
        (name.chars().count() > 1 && name.chars().all(is_of_name)).then_some(())
    };
    let numbered = || {
        let code = value.strip_prefix("Err:")?;
        (code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    SPREADSHEET_ERRORS
        .iter()
        .any(|error| error.eq_ignore_ascii_case(value))
        || named().is_some()
        || numbered().is_some()
}

/// The damage that the cells of a file seem to have, by kind and column.
#[derive(Debug, Default)]
pub(crate) struct Warnings(BTreeMap<(Damage, Field), Seen>);

#[derive(Debug, Default)]
struct Seen {
    count: usize,
    lines: Vec<u64>,
    example: String,
}

impl Warnings {
    /// Adds a cell.
    pub(crate) fn add(&mut self, damage: Damage, field: Field, line: u64, value: &str) {
        let seen = self.0.entry((damage, field)).or_default();
        if seen.count == 0 {
            seen.example = quoted(value);
        }
        seen.count += 1;
        if seen.lines.len() < LINES_SHOWN {
            seen.lines.push(line);
        }
    }

    /// Returns one line for each kind and column, with the count and the first lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|((damage, field), seen)| {
                format!(
                    "{} {damage} in {}: {}, for example {}",
                    field.column(),
                    count(seen.count as u64, "cell"),
                    line_list(seen.count, seen.lines.iter().copied()),
                    seen.example
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_values_are_told_from_right_ones() {
        use Damage::{
            EmailAsName, Encoding, Invisible, Missing, Quotes, Replaced, SpreadsheetError,
        };
        for (value, expected) in [
            ("MarÃ\u{AD}a", Some(Encoding)),
            ("ZoÃ«", Some(Encoding)),
            ("Zo?", Some(Replaced)),
            ("Zo‰", Some(Replaced)),
            ("#NAME?", Some(SpreadsheetError)),
            ("#N/A", Some(SpreadsheetError)),
            ("#REF!", Some(SpreadsheetError)),
            ("#BEZUG!", Some(SpreadsheetError)),
            ("#NV", Some(SpreadsheetError)),
            ("#1", None),
            ("#blessed!", None),
            ("#n/a", Some(SpreadsheetError)),
            ("Loading...", Some(SpreadsheetError)),
            ("####", Some(SpreadsheetError)),
            ("Err:502", Some(SpreadsheetError)),
            ("NULL", Some(Missing)),
            ("\\N", Some(Missing)),
            ("“Zed”", Some(Quotes)),
            ("‘Zed’", Some(Quotes)),
            ("\"Zed\"", Some(Quotes)),
            ("a@x.org", Some(EmailAsName)),
            ("Zed\u{200B}", Some(Invisible)),
            ("Zed\u{A0}Z", Some(Invisible)),
            ("Null", None),
            ("None", None),
            ("NA", None),
            ("N/A", None),
            ("TRUE", None),
            ("1-Sep", None),
            ("O’Neil", None),
            ("O'Neil", None),
            ("#1", None),
            ("\u{1F469}\u{200D}\u{1F680}", None),
            ("می\u{200C}خواهم", None),
            ("Zed\nZ", None),
            ("\"", None),
            ("Zoë", None),
        ] {
            assert_eq!(damage(Field::FirstName, value), expected, "{value:?}");
        }
        assert_eq!(damage(Field::MemberType, "#N/A"), Some(SpreadsheetError));
        assert_eq!(damage(Field::IsArchived, "#N/A"), None, "it is invalid");
    }

    #[test]
    fn characters_that_only_damage_leaves_are_fatal() {
        for bad in ["Z\u{FFFD}d", "Z\u{1B}[31md", "Z\u{7}d", "Z\u{9B}d", "a\tb"] {
            assert!(fatal_character(bad).is_some(), "{bad:?}");
        }
        for right in ["Zed", "Zed\r\nZ", "Zoë", "\u{1F600}"] {
            assert_eq!(fatal_character(right), None, "{right:?}");
        }
    }

    #[test]
    fn warnings_are_counted_with_their_lines() {
        let mut warnings = Warnings::default();
        for line in 2..14 {
            warnings.add(Damage::Missing, Field::FirstName, line, "NULL");
        }
        warnings.add(Damage::Encoding, Field::LastName, 3, "ZoÃ«");
        assert_eq!(
            warnings.lines(),
            [
                "Last Name looks like UTF-8 that was read in another encoding in 1 cell: line 3, for example \"ZoÃ«\"",
                "First Name looks like a word for a missing value in 12 cells: lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more, for example \"NULL\"",
            ]
        );
    }
}
