//! A report as one HTML page that opens offline: it asks for nothing, and escapes everything.

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::chart::{HEIGHT, WIDTH};
use super::document::{Report, ReportRow, ShownRows};
use crate::output::grouped;

/// The name of the template. Its ending is why minijinja escapes every value.
const TEMPLATE: &str = "page.html";

/// What the template shows.
#[derive(Serialize)]
struct Page<'r> {
    title: String,
    place: String,
    banner: Option<String>,
    counts: Vec<OutcomeCount>,
    report: &'r Report,
    rows: Vec<TableRow<'r>>,
    all_rows: u64,
    rest: &'static str,
    facts: Vec<(&'static str, String)>,
    width: f64,
    height: f64,
}

/// A number of rows with an outcome.
#[derive(Serialize)]
struct OutcomeCount {
    name: &'static str,
    rows: String,
    is_success: bool,
}

/// A row of the table.
#[derive(Serialize)]
struct TableRow<'r> {
    line: u64,
    email: &'r str,
    outcome: &'static str,
    is_success: bool,
    changes: &'r str,
    message: &'r str,
}

impl<'r> From<&'r ReportRow> for TableRow<'r> {
    fn from(row: &'r ReportRow) -> Self {
        Self {
            line: row.line,
            email: &row.email,
            outcome: row.outcome.name(),
            is_success: row.outcome.is_success(),
            changes: &row.changes,
            message: &row.message,
        }
    }
}

/// Returns the page.
///
/// # Errors
/// If the template, which is built in, can't be rendered.
pub(crate) fn render(report: &Report, rows: ShownRows) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_template(TEMPLATE, include_str!("page.html"))?;
    let summary = &report.summary;
    let counts: Vec<OutcomeCount> = (report.outcomes().into_iter())
        .map(|(outcome, rows)| OutcomeCount {
            name: outcome.name(),
            rows: grouped(rows),
            is_success: outcome.is_success(),
        })
        .collect();
    let organization = summary.organization_id.as_deref().unwrap_or("unknown");
    let host = summary.host.as_deref().unwrap_or("unknown");
    let banner = match report.kind {
        "run" => summary
            .error
            .as_ref()
            .map(|error| format!("Stopped: {error}")),
        _ => Some("Nothing was sent: this is what would be changed.".to_owned()),
    };
    let (rows, all_rows) = rows.into_rows();
    let rows: Vec<TableRow<'_>> = rows.iter().map(TableRow::from).collect();
    let page = Page {
        title: report.title(),
        place: format!("Organization {organization} at {host}"),
        banner,
        counts,
        report,
        rows,
        all_rows,
        rest: if report.kind == "plan" {
            ""
        } else {
            "results.csv has all of them."
        },
        facts: report.facts(),
        width: WIDTH,
        height: HEIGHT,
    };
    environment.get_template(TEMPLATE)?.render(Serde(&page))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;
    use crate::report::document::ROWS_SHOWN;

    fn row(number: u32, outcome: Outcome) -> ReportRow {
        ReportRow {
            row: number,
            line: u64::from(number) + 1,
            email: "<script>alert(1)</script>@x.org".to_owned(),
            outcome,
            status: None,
            changes: "First Name: </td> → \"'&".to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn rows_that_failed_are_shown_first_when_not_all_fit() {
        let mut rows = ShownRows::default();
        for number in 1..=10_000 {
            let is_failed = number > 9_990;
            let outcome = if is_failed {
                Outcome::Failed
            } else {
                Outcome::Updated
            };
            rows.add(&row(number, outcome));
        }
        let (shown, all) = rows.into_rows();
        assert_eq!((shown.len(), all), (ROWS_SHOWN, 10_000));
        let failed = shown.iter().filter(|row| row.outcome == Outcome::Failed);
        assert_eq!(failed.count(), 10);
        assert!(shown.is_sorted_by_key(|row| row.row));
    }
}
