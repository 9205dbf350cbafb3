//! The preview of a dry run, for somebody who has to agree: what kinds of changes there are, and for some members the
//! values now and the target values. results.csv has all of them.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::decide::{Kind, Severity};
use crate::model::{Change, Field, Value, quoted};
use crate::output::{Plain, Style, count};

/// The number of members that are shown.
const SHOWN: usize = 20;

/// Collects what a dry run finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preview {
    shown: Vec<PreviewRow>,
    all: u64,
}

/// A row that would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreviewRow {
    /// The row's number.
    pub row: u32,
    /// The physical line on which it starts.
    pub line: u64,
    /// The member's email.
    pub email: Box<str>,
    /// The changes.
    pub changes: Arc<[Change]>,
    /// The new owner, by name and email, if the row has one.
    pub owner: Option<String>,
}

impl Preview {
    /// Adds a row. The first rows of the file are kept, whatever the order in which they come.
    pub(crate) fn add(&mut self, row: PreviewRow) {
        self.all += 1;
        if self.shown.len() == SHOWN {
            let Some(last) = self.shown.iter().map(|kept| kept.row).max() else {
                return;
            };
            if row.row > last {
                return;
            }
            self.shown.retain(|kept| kept.row != last);
        }
        self.shown.push(row);
    }

    /// Returns whether there is nothing to show.
    pub(crate) const fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// Returns the text.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let mut shown: Vec<&PreviewRow> = self.shown.iter().collect();
        shown.sort_by_key(|row| row.row);
        for row in shown {
            row.render(&mut text, style);
        }
        let more = self.all - self.shown.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {} more, in results.csv", count(more, "member"));
        }
        text
    }
}

impl PreviewRow {
    fn render(&self, text: &mut String, style: Style) {
        let Style {
            red,
            green,
            bold,
            dim,
            off,
            ..
        } = style;
        let _ = writeln!(
            text,
            "{bold}~ {}{off}  {dim}line {}{off}",
            Plain(&self.email),
            self.line
        );
        let shown = || self.changes.iter().filter(|change| change.is_shown());
        let width = shown()
            .map(|change| change.field.column().len())
            .max()
            .unwrap_or(0);
        for change in shown() {
            let value = |value: &Value| match value {
                Value::Text(text) => quoted(text),
                Value::Flag(flag) => flag.to_string(),
            };
            let column = change.field.column();
            let _ = write!(text, "    {column:width$}  ");
            if let Some(before) = &change.before {
                let _ = write!(text, "{red}{}{off} ", value(before));
            }
            let after = match (&self.owner, change.field) {
                (Some(owner), Field::NewOwner) => Plain(owner).to_string(),
                _ => value(&change.after),
            };
            let is_destructive = change.field.archives() && change.after == Value::Flag(true);
            let color = if is_destructive { red } else { green };
            let _ = writeln!(text, "→ {color}{after}{off}");
        }
    }
}

/// Describes kinds of changes: those that take something away in a line and a color of their own, and then the others.
pub(crate) fn describe(kinds: &[Kind], indent: &str, style: Style) -> String {
    let Style { red, bold, off, .. } = style;
    let line = |severity: Severity, color: &str| {
        let of_them = kinds.iter().filter(|kind| kind.severity == severity);
        let texts: Vec<String> = of_them.map(|kind| Plain(&kind.text).to_string()).collect();
        let text = texts.join(" · ");
        (!texts.is_empty()).then(|| format!("{indent}{bold}{color}{text}{off}"))
    };
    let lines = [line(Severity::Destructive, red), line(Severity::Usual, "")];
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}
