//! The preview of a dry run: member by member, what is now and what would be. Short: the first fifty; all of them
//! stand in results.csv.

use std::fmt::Write as _;

use crate::change::Value;
use crate::event::Finished;
use crate::output::{Plain, count};

/// Members that are shown.
const SHOWN: usize = 50;

/// Collects what is to be shown.
#[derive(Debug, Default)]
pub struct Preview {
    shown: Vec<Finished>,
    all: u64,
}

impl Preview {
    /// A row that would be sent. The first ones of the file are kept, in whatever order they come.
    pub fn add(&mut self, row: &Finished) {
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
        self.shown.push(row.clone());
    }

    /// The text.
    #[must_use]
    pub fn render(mut self, colour: bool) -> String {
        let (red, green, bold, off) = if colour {
            ("\u{1b}[31m", "\u{1b}[32m", "\u{1b}[1m", "\u{1b}[0m")
        } else {
            ("", "", "", "")
        };
        self.shown.sort_by_key(|row| row.row);
        let mut text = String::new();
        for row in &self.shown {
            let _ = writeln!(
                text,
                "{bold}~ {}{off}  line {}",
                Plain(&row.email),
                row.line
            );
            let visible = || {
                row.changes
                    .iter()
                    .filter(|change| change.is_visible() || change.field.is_write_only())
            };
            let width = visible()
                .map(|change| change.field.column().len())
                .max()
                .unwrap_or(0);
            for change in visible() {
                let shown = |value: &Value| match value {
                    Value::Text(text) => format!("\"{}\"", Plain(text)),
                    Value::Flag(flag) => flag.to_string(),
                };
                let column = change.field.column();
                let _ = write!(text, "    {column:width$}  ");
                if let Some(before) = &change.before {
                    let _ = write!(text, "{red}{}{off} ", shown(before));
                }
                let _ = writeln!(text, "→ {green}{}{off}", shown(&change.after));
            }
        }
        let more = self.all - self.shown.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {} more, in results.csv", count(more, "row"));
        }
        text
    }
}
