//! From the cells of one record to a row: what each cell means, and what is wrong with the row by itself.

use csv::ByteRecord;

use super::damage::fatal_character;
use super::escape::{escaped, unescaped};
use super::header::{Column, Layout};
use super::quotes::Quotes;
use super::table::utf8;
use super::{BadRow, Entry, InputError, Row, RowPosition, RowRequest};
use crate::model::{Field, FieldKind, Value, Values, address_in, is_email, quoted};
use crate::output::count;

/// True and false as Excel writes them in other languages.
const FOREIGN_BOOLEANS: [&str; 24] = [
    "wahr",
    "falsch",
    "vrai",
    "faux",
    "verdadero",
    "falso",
    "verdadeiro",
    "vero",
    "waar",
    "onwaar",
    "prawda",
    "fałsz",
    "sant",
    "falskt",
    "sand",
    "falsk",
    "tosi",
    "epätosi",
    "истина",
    "ложь",
    "doğru",
    "yanlış",
    "pravda",
    "nepravda",
];

/// What is known about a record besides its cells.
pub(super) struct RecordContext<'t> {
    pub(super) input: &'t str,
    pub(super) layout: &'t Layout,
    pub(super) quotes: &'t Quotes,
    pub(super) is_terminated: bool,
}

/// Returns the row that a record holds.
///
/// # Errors
/// If the record shows that the file as a whole is wrong.
pub(super) fn parse(
    context: &RecordContext<'_>,
    record: &ByteRecord,
    position: RowPosition,
) -> Result<Entry, InputError> {
    let layout = context.layout;
    let mut problem = context.quotes.in_row(context.input, position.line)?;
    let mut email = "";
    let mut desired = Values::default();
    let mut trimmed = 0;
    for (index, cell) in record.iter().enumerate() {
        let raw = utf8(context.input, position.line, cell)?;
        let column = layout.column(index);
        let value = unescaped(raw);
        if column.is_read() {
            trimmed += u32::from(raw.trim().len() != raw.len());
            if raw.trim_start().len() < raw.len() && raw.trim_start().starts_with('"') {
                problem = Some(format!(
                    "there is a blank before the quote of {}: remove it, or the quotes are part of the value",
                    layout.header.get(index).map_or("a cell", String::as_str)
                ));
            }
        }
        match column {
            Column::Email => email = value,
            Column::Field(field) if !value.is_empty() => match parse_value(field, value) {
                Ok(value) => desired.set(field, Some(value)),
                Err(message) => {
                    problem.get_or_insert(message);
                }
            },
            Column::Nameless if !value.is_empty() && index < layout.width() => {
                return Err(InputError::NamelessColumn {
                    input: context.input.to_owned(),
                    line: position.line,
                    number: index + 1,
                    value: quoted(value),
                });
            }
            Column::Field(_) | Column::Ignored | Column::OfFailed | Column::Nameless => {}
        }
    }
    let problem = wrong_width(context, record)
        .or_else(|| wrong_email(layout, record, email))
        .or(problem)
        .or_else(|| wrong_values(&desired));
    Ok(match problem {
        None => Entry::Row(Row {
            number: position.number,
            line: position.line,
            email: email.into(),
            request: RowRequest::Desired(desired),
            trimmed,
        }),
        Some(problem) => Entry::Bad(BadRow {
            number: position.number,
            line: position.line,
            email: email.into(),
            problem: problem.into(),
        }),
    })
}

impl Column {
    const fn is_read(self) -> bool {
        matches!(self, Self::Email | Self::Field(_))
    }
}

/// Returns what is wrong with the number of cells.
fn wrong_width(context: &RecordContext<'_>, record: &ByteRecord) -> Option<String> {
    let layout = context.layout;
    if (layout.named_width()..=layout.width()).contains(&record.len()) {
        return None;
    }
    if record.len() < layout.named_width() && !context.is_terminated {
        return Some(
            "the file ends in the middle of this row: it is cut off, so get the whole file"
                .to_owned(),
        );
    }
    let delimiter = match layout.delimiter {
        b'\t' => "tab".to_owned(),
        delimiter => char::from(delimiter).to_string(),
    };
    Some(format!(
        "the row has {} and the header {}: look for a missing or an unquoted delimiter ({delimiter})",
        count(record.len() as u64, "cell"),
        layout.width(),
    ))
}

/// Returns what is wrong with the email.
fn wrong_email(layout: &Layout, record: &ByteRecord, email: &str) -> Option<String> {
    if is_email(email) {
        return None;
    }
    let is_header = record.iter().enumerate().all(|(column, cell)| {
        let cell = String::from_utf8_lossy(cell);
        let cell = cell.trim_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
        layout.header.get(column).is_some_and(|name| name == cell)
    });
    Some(if email.is_empty() {
        "the Email is missing: name the member to change".to_owned()
    } else if is_header {
        "this line repeats the header, as in files that were joined: remove it".to_owned()
    } else {
        not_an_email("Email", email)
    })
}

/// Returns what is wrong with the values together.
fn wrong_values(desired: &Values) -> Option<String> {
    (desired.get(Field::NewOwner).is_some() && desired.is_true(Field::ArchiveDocuments)).then(|| {
        "newOwner and archiveDocuments exclude each other: the documents either get a new owner or are archived"
            .to_owned()
    })
}

fn not_an_email(column: &str, value: &str) -> String {
    let suggestion = address_in(value)
        .map(|address| format!("; did you mean {address}?"))
        .unwrap_or_default();
    let value = quoted(value);
    format!("{column} is {value}, which is not an email address{suggestion}")
}

/// Returns whether a cell that holds `have` is read back as that value, so that a row with it changes nothing.
pub(crate) fn reads_back(field: Field, have: &Value) -> bool {
    let cell = escaped(have.as_str());
    let read = unescaped(&cell);
    parse_value(field, read).is_ok_and(|want| !field.differs(Some(have), &want))
}

fn parse_value(field: Field, value: &str) -> Result<Value, String> {
    let column = field.column();
    if let Some(what) = fatal_character(value) {
        return Err(format!("{column} can't be right: {what}"));
    }
    let remedy = |remedy: &str| {
        format!(
            "{column} is {}: write {remedy}, or leave it blank",
            quoted(value)
        )
    };
    match field.kind() {
        FieldKind::Flag if value.eq_ignore_ascii_case("true") => Ok(Value::Flag(true)),
        FieldKind::Flag if value.eq_ignore_ascii_case("false") => Ok(Value::Flag(false)),
        FieldKind::Flag if FOREIGN_BOOLEANS.contains(&value.to_lowercase().as_str()) => Err(
            remedy("true or false (this is Excel's word in another language)"),
        ),
        FieldKind::Flag => Err(remedy("true or false")),
        FieldKind::Email if !is_email(value) => Err(not_an_email(column, value)),
        FieldKind::Member if value.contains('@') && !is_email(value) => {
            Err(not_an_email(column, value))
        }
        FieldKind::OneOf(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(value))
            .map(|word| Value::text(word))
            .ok_or_else(|| remedy(&words.join(", "))),
        FieldKind::Text | FieldKind::Email | FieldKind::AccountType | FieldKind::Member => {
            Ok(Value::text(value))
        }
    }
}
