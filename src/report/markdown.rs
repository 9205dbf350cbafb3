//! A report as a comment for a pull request: at most 60,000 characters of Markdown, because GitHub accepts 65,536.

use std::fmt::Write as _;

use super::document::{Report, ReportRow};
use crate::model::Outcome;
use crate::output::{count, grouped};

/// The most characters of a report.
const MOST: usize = 60_000;
/// The characters that are kept free for the last line.
const LAST_LINE: usize = 200;
/// The number of rows that are kept. They can't all fit.
const ROWS_KEPT: usize = 1_000;
/// The number of causes that are shown.
const CAUSES_SHOWN: usize = 20;
/// The characters of a value that are shown.
const VALUE: usize = 500;

/// Collects the rows of a report.
#[derive(Debug, Default)]
pub(crate) struct MarkdownRows {
    rows: Vec<ReportRow>,
}

impl MarkdownRows {
    /// Adds a row. Only those that change something, or would, are shown.
    pub(crate) fn add(&mut self, row: &ReportRow) {
        if self.rows.len() < ROWS_KEPT && is_shown(row.outcome) {
            self.rows.push(row.clone());
        }
    }
}

fn is_shown(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::WouldUpdate | Outcome::Updated)
}

/// Returns the report.
pub(crate) fn render(report: &Report, rows: &MarkdownRows) -> String {
    let mut text = format!("## {}\n\n", code_text(&report.title()));
    let place = [
        report
            .summary
            .organization_id
            .as_deref()
            .map(|id| format!("organization {}", code(id))),
        report
            .summary
            .host
            .as_deref()
            .map(|host| format!("at {}", code(host))),
        (report.summary.credential_user.as_ref())
            .and_then(|user| user.email.as_deref())
            .map(|email| format!("as {}", code(email))),
    ];
    let place: Vec<String> = place.into_iter().flatten().collect();
    if !place.is_empty() {
        let _ = writeln!(text, "{}\n", place.join(" "));
    }
    for change in &report.changes {
        let mark = if change.is_destructive { "⚠️ " } else { "" };
        let _ = writeln!(text, "- {mark}{}", code_text(&change.text));
    }
    if !report.changes.is_empty() {
        text.push('\n');
    }
    text.push_str("| Outcome | Rows |\n|---|---:|\n");
    for (outcome, rows) in report.outcomes() {
        let _ = writeln!(text, "| `{outcome}` | {} |", grouped(rows));
    }
    if let Some(error) = &report.summary.error {
        let _ = writeln!(text, "\n**Stopped:** {}", code(error));
    }
    failures(&mut text, report);
    members(&mut text, report, rows);
    text
}

fn failures(text: &mut String, report: &Report) {
    if report.failures.is_empty() {
        return;
    }
    text.push_str("\n### What went wrong\n\n");
    for failure in report.failures.iter().take(CAUSES_SHOWN) {
        let lines: Vec<String> = (failure.examples.iter().take(5))
            .map(|row| row.line.to_string())
            .collect();
        let _ = writeln!(
            text,
            "- {} × `{}`: {} (line {}{})",
            grouped(failure.rows),
            failure.outcome,
            code(&failure.message),
            lines.join(", "),
            if failure.rows > lines.len() as u64 {
                ", …"
            } else {
                ""
            },
        );
    }
    let more = report.failures.len().saturating_sub(CAUSES_SHOWN) as u64;
    if more > 0 {
        let _ = writeln!(text, "- … and {} more, in failed.csv", count(more, "cause"));
    }
}

fn members(text: &mut String, report: &Report, rows: &MarkdownRows) {
    let all: u64 = (report.outcomes().into_iter())
        .filter(|(outcome, _)| is_shown(*outcome))
        .map(|(_, rows)| rows)
        .sum();
    if all == 0 {
        return;
    }
    text.push_str("\n### Members\n\n| Member | Changes |\n|---|---|\n");
    let mut length = text.chars().count();
    let mut shown = 0;
    for row in &rows.rows {
        let line = format!("| {} | {} |\n", code(&row.email), code(&row.changes));
        length += line.chars().count();
        if length + LAST_LINE > MOST {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    if shown < all {
        let _ = writeln!(text, "\n… and {} more.", count(all - shown, "member"));
    }
}

/// Returns text as a code span that fits into a table: nothing in it is a mark, a link, or the mention of somebody.
fn code(text: &str) -> String {
    let mut text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(VALUE) {
        text.truncate(end);
        text.push('…');
    }
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let gap = if longest > 0 { " " } else { "" };
    // A table ends a cell at a bar even within a code span.
    format!("{fence}{gap}{}{gap}{fence}", text.replace('|', "\\|"))
}

/// Returns text for a line of its own, in which nothing is a mark.
fn code_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~'
        ) {
            plain.push('\\');
        }
        plain.push(if c.is_control() { ' ' } else { c });
        // "@somebody" would tell them.
        if c == '@' {
            plain.push_str("<!-- -->");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_read_as_markdown() {
        for (value, expected) in [
            ("a|b", "`a\\|b`"),
            ("`x`", "`` `x` ``"),
            ("@admin <b>", "`@admin <b>`"),
            ("two\nlines", "`two lines`"),
            ("", ""),
        ] {
            assert_eq!(code(value), expected);
        }
        assert_eq!(code_text("3 <b> → *x*"), "3 \\<b\\> → \\*x\\*");
        assert_eq!(code_text("@old.com"), "@<!-- -->old.com");
        assert!(code(&"x".repeat(10_000)).chars().count() < VALUE + 4);
    }
}
