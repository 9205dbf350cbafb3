//! The header of a CSV: which column holds what, and which byte separates the columns.

use std::fmt::Write as _;
use std::str::FromStr;

use csv::ByteRecord;
use serde::{Deserialize, Serialize};

use super::InputError;
use super::escape::unescaped;
use super::table::{csv_reader, utf8};
use crate::model::{Field, bare, is_invisible, nearest, quoted, shown};

/// The column that identifies the member.
const EMAIL: &str = "Email";
/// Columns of `failed.csv` that are ignored on input, so that the file can be used as input unchanged.
const OF_FAILED: [&str; 2] = ["Outcome", "Message"];
/// Columns of an export that no update can change. They are ignored on input, so that an export is an input.
pub(crate) const READ_ONLY: [&str; 5] = [
    "Member ID",
    "Created At",
    "Updated At",
    "Created By",
    "Updated By",
];
/// The delimiters that can be detected from the header.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
/// The maximum number of header bytes that delimiter detection reads.
pub(super) const MAX_HEADER: u64 = 64 * 1024;
/// The number of problems that a message about the header lists.
const PROBLEMS_SHOWN: usize = 20;
/// What people write instead of `Email`, in lower case and without blanks and punctuation.
const EMAIL_ALIASES: [&str; 18] = [
    "mail",
    "emailaddress",
    "primaryemail",
    "workemail",
    "emailid",
    "user",
    "username",
    "userprincipalname",
    "upn",
    "login",
    "currentemail",
    "oldemail",
    "emailadresse",
    "mailadresse",
    "adresseemail",
    "courriel",
    "correo",
    "correoelectronico",
];

/// How columns that the tool does not know are treated. The run keeps it, so that a resume reads the file alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnRules {
    /// The names of columns to ignore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Whether all unknown columns are ignored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignores_unknown: bool,
    /// Other names for known columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<ColumnName>,
}

impl ColumnRules {
    /// Returns whether the rules change nothing.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the name under which the tool knows a column.
    fn known<'n>(&'n self, name: &'n str) -> &'n str {
        self.renamed
            .iter()
            .find(|rename| rename.theirs == name)
            .map_or(name, |rename| &rename.ours)
    }
}

/// Another name for a known column: `Their Name=Email`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ColumnName {
    /// The name in the file.
    pub theirs: String,
    /// The name that the tool knows.
    pub ours: String,
}

impl FromStr for ColumnName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (theirs, ours) = text
            .rsplit_once('=')
            .ok_or_else(|| format!("{} has no \"=\": write \"Their Name=Email\"", quoted(text)))?;
        let (theirs, ours) = (theirs.trim(), ours.trim());
        if kind_of(ours).is_none() {
            return Err(format!(
                "{} is not a column of sigma-bulk; {}",
                quoted(ours),
                suggestion(ours)
            ));
        }
        Ok(Self {
            theirs: theirs.to_owned(),
            ours: ours.to_owned(),
        })
    }
}

impl TryFrom<String> for ColumnName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ColumnName> for String {
    fn from(name: ColumnName) -> Self {
        name.to_string()
    }
}

impl std::fmt::Display for ColumnName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.theirs, self.ours)
    }
}

/// The parsed header.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The byte that separates the cells.
    pub delimiter: u8,
    /// The header's cells, trimmed.
    pub header: Vec<String>,
    columns: Vec<Column>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The email that identifies the member.
    Email,
    /// A field to change.
    Field(Field),
    /// A column that is not read.
    Ignored,
    /// A column of failed.csv that is not read, and written anew.
    OfFailed,
    /// A column without a name, which must be empty.
    Nameless,
}

fn kind_of(name: &str) -> Option<Column> {
    if name == EMAIL {
        Some(Column::Email)
    } else {
        Field::from_column(name).map(Column::Field)
    }
}

impl Layout {
    /// Returns the number of columns.
    pub(super) const fn width(&self) -> usize {
        self.columns.len()
    }

    /// Returns the number of columns up to the last one with a name. A row may leave out the others.
    pub(crate) fn named_width(&self) -> usize {
        let is_named = |column: &Column| *column != Column::Nameless;
        self.columns
            .iter()
            .rposition(is_named)
            .map_or(0, |last| last + 1)
    }

    /// Returns what the column with this index holds. Cells beyond the header belong to columns without a name.
    pub(super) fn column(&self, index: usize) -> Column {
        self.columns.get(index).copied().unwrap_or(Column::Nameless)
    }

    /// Returns the fields that have a column.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.columns.iter().filter_map(|column| match column {
            Column::Field(field) => Some(*field),
            _ => None,
        })
    }

    /// Returns whether this column identifies the member.
    #[must_use]
    pub fn is_email(&self, column: usize) -> bool {
        self.columns.get(column) == Some(&Column::Email)
    }

    /// Returns whether failed.csv repeats this column.
    #[must_use]
    pub fn is_kept(&self, column: usize) -> bool {
        self.columns
            .get(column)
            .is_some_and(|column| !matches!(column, Column::OfFailed | Column::Nameless))
    }

    pub(super) fn from_header(
        input: &str,
        line: u64,
        delimiter: u8,
        record: &ByteRecord,
        rules: &ColumnRules,
    ) -> Result<Self, InputError> {
        let mut header: Vec<String> = Vec::with_capacity(record.len());
        let mut columns = Vec::with_capacity(record.len());
        let mut problems = Vec::new();
        for (index, cell) in record.iter().enumerate() {
            let name = utf8(input, line, cell)?;
            let name = unescaped(name).to_owned();
            let column = if name.is_empty() {
                Column::Nameless
            } else if rules.ignored.contains(&name) {
                Column::Ignored
            } else if let Some(column) = kind_of(rules.known(&name)) {
                column
            } else if OF_FAILED.contains(&name.as_str()) {
                Column::OfFailed
            } else if rules.ignores_unknown || READ_ONLY.contains(&name.as_str()) {
                Column::Ignored
            } else {
                problems.push(format!(
                    "column {} is called {}, which is unknown; {}",
                    index + 1,
                    quoted(&name),
                    suggestion(&name)
                ));
                Column::Ignored
            };
            let is_single = !matches!(column, Column::Nameless | Column::Ignored);
            if is_single && let Some(first) = columns.iter().position(|other| *other == column) {
                let is_failed = column == Column::OfFailed;
                if !is_failed || header.get(first) == Some(&name) {
                    problems.push(format!(
                        "column {} occurs twice (columns {} and {}); remove one",
                        quoted(rules.known(&name)),
                        first + 1,
                        index + 1
                    ));
                }
            }
            header.push(name);
            columns.push(column);
        }
        if let Some(problem) = other_delimiter(&header, delimiter) {
            problems = vec![problem];
        } else if !columns.contains(&Column::Email) {
            problems.insert(0, no_email(&header));
        }
        if !problems.is_empty() {
            return Err(InputError::Columns {
                input: input.to_owned(),
                line,
                problems: listed(problems),
            });
        }
        Ok(Self {
            delimiter,
            header,
            columns,
        })
    }
}

/// Returns the problems as a message lists them.
fn listed(mut problems: Vec<String>) -> String {
    match problems.as_slice() {
        [one] => format!(": {one}"),
        _ => {
            let all = problems.len();
            problems.truncate(PROBLEMS_SHOWN);
            let mut text = format!(": {all} problems with the columns");
            for problem in &problems {
                text.push_str("\n  ");
                text.push_str(problem);
            }
            if all > PROBLEMS_SHOWN {
                let _ = write!(text, "\n  … and {} more", all - PROBLEMS_SHOWN);
            }
            text
        }
    }
}

fn no_email(header: &[String]) -> String {
    let found: Vec<String> = header
        .iter()
        .take(PROBLEMS_SHOWN)
        .map(|name| shown(name))
        .collect();
    let more = if header.len() > PROBLEMS_SHOWN {
        ", …"
    } else {
        ""
    };
    format!(
        "there is no column \"Email\" (names are case-sensitive); the columns found are: {}{more}",
        found.join(", ")
    )
}

/// Returns what is wrong if the whole header is one cell because another delimiter separates it.
fn other_delimiter(header: &[String], delimiter: u8) -> Option<String> {
    let [only] = header else { return None };
    let other = ['|', ':', ';', '\t', ','].into_iter().find(|other| {
        u8::try_from(*other) != Ok(delimiter)
            && only.split(*other).any(|name| name.trim() == EMAIL)
            && only.contains(*other)
    })?;
    let flag = crate::shell::quoted(&match other {
        '\t' => "tab".to_owned(),
        other => other.to_string(),
    });
    Some(format!(
        "another delimiter separates the columns {}; add --delimiter {flag}",
        quoted(only)
    ))
}

/// What people call the opposite of `isArchived`, or a column of words about it.
const STATUS_ALIASES: [&str; 10] = [
    "active",
    "isactive",
    "enabled",
    "accountenabled",
    "status",
    "state",
    "userstatus",
    "aktiv",
    "actif",
    "statut",
];

/// Returns what an unknown column may have meant.
fn suggestion(name: &str) -> String {
    let wanted = bare(name);
    if STATUS_ALIASES.contains(&wanted.as_str()) {
        return format!(
            "did you mean \"{}\"? It is true for a member who is archived, and false for one who is active",
            Field::IsArchived.column()
        );
    }
    let names = || std::iter::once(EMAIL).chain(Field::ALL.into_iter().map(Field::column));
    let exact = names().find(|column| bare(column) == wanted);
    let alias = || {
        let of_email = EMAIL_ALIASES.contains(&wanted.as_str()).then_some(EMAIL);
        let has_alias = |field: &Field| field.aliases().contains(&wanted.as_str());
        of_email.or_else(|| Field::ALL.into_iter().find(has_alias).map(Field::column))
    };
    let near = || nearest(name, names());
    // A flag that could not be copied from the screen helps nobody.
    let is_plain = shown(name) == name;
    match exact.or_else(alias).or_else(near) {
        Some(column) if name.contains(is_invisible) => {
            format!("did you mean \"{column}\", without the character that can't be seen?")
        }
        Some(column) if !is_plain => format!("did you mean \"{column}\"?"),
        Some(column) => format!(
            "did you mean \"{column}\"? (--map {} accepts it)",
            crate::shell::quoted(&format!("{name}={column}"))
        ),
        None => {
            let columns = names().collect::<Vec<_>>().join(", ");
            let hint = if is_plain {
                format!("--ignore-column {}", crate::shell::quoted(name))
            } else {
                "--ignore-unknown-columns".to_owned()
            };
            format!("the columns are {columns} ({hint} skips it)")
        }
    }
}

/// Returns the delimiter that the first line sets (`sep=;`, which Excel reads), with or without quotes.
pub(super) fn separator_line(head: &[u8]) -> Option<u8> {
    let is_quoted = head.starts_with(b"\"");
    let text = head.get(usize::from(is_quoted)..)?;
    let rest = text
        .get(..4)
        .filter(|start| start.eq_ignore_ascii_case(b"sep="))
        .and_then(|_| text.get(4..))?;
    match (is_quoted, rest) {
        (true, [delimiter, b'"', b'\n' | b'\r', ..]) | (false, [delimiter, b'\n' | b'\r', ..]) => {
            Some(*delimiter)
        }
        _ => None,
    }
}

/// Returns the delimiter that the file's first line sets, or with which the header has the most known columns, or, if it
/// has none, the one that splits its first line most often.
pub(super) fn find_delimiter(head: &[u8]) -> u8 {
    if let Some(delimiter) = separator_line(head) {
        return delimiter;
    }
    let known = |delimiter: u8| {
        let mut record = ByteRecord::new();
        let mut reader = csv_reader(head, delimiter);
        if !matches!(reader.read_byte_record(&mut record), Ok(true)) {
            return 0;
        }
        record
            .iter()
            .filter_map(|cell| std::str::from_utf8(cell).ok())
            .map(str::trim)
            .filter(|name| kind_of(name).is_some() || OF_FAILED.contains(name))
            .count()
    };
    let mut best = (0, b',');
    for delimiter in DELIMITERS {
        let count = known(delimiter);
        if count > best.0 {
            best = (count, delimiter);
        }
    }
    if best.0 > 0 {
        return best.1;
    }
    // No column is known. Choose the most frequent delimiter, so that the message names a sensible first unknown column.
    let line = head
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let count = |delimiter: u8| line.split(|byte| *byte == delimiter).count();
    DELIMITERS
        .into_iter()
        .rev()
        .max_by_key(|delimiter| count(*delimiter))
        .unwrap_or(b',')
}
