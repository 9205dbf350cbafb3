//! The preview of a dry run: for each member, the values now and the target values. It shows the first fifty rows;
//! results.csv has all of them.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::model::{Change, Value, quoted};
use crate::output::{Plain, Style, count};

/// The number of rows that are shown.
const SHOWN: usize = 50;

/// Collects the rows to show.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    shown: Vec<PreviewRow>,
    all: u64,
}

/// A row that would be sent.
#[derive(Clone, Debug)]
pub(crate) struct PreviewRow {
    /// The row's number.
    pub row: u32,
    /// The physical line on which it starts.
    pub line: u64,
    /// The member's email.
    pub email: Box<str>,
    /// The changes.
    pub changes: Arc<[Change]>,
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

    /// Returns the text.
    pub(crate) fn render(mut self, colour: bool) -> String {
        let Style {
            red,
            green,
            bold,
            off,
        } = Style::new(colour);
        self.shown.sort_by_key(|row| row.row);
        let mut text = String::new();
        for row in &self.shown {
            let _ = writeln!(
                text,
                "{bold}~ {}{off}  line {}",
                Plain(&row.email),
                row.line
            );
            let shown = || row.changes.iter().filter(|change| change.is_shown());
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
                let _ = writeln!(text, "→ {green}{}{off}", value(&change.after));
            }
        }
        let more = self.all - self.shown.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {} more, in results.csv", count(more, "row"));
        }
        text
    }
}
