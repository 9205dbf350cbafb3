//! The files that people read: results.csv, failed.csv and undo.csv.
//!
//! They are made from the history and the input at the end of each session. So they describe the whole run, however
//! many sessions it took, and can't disagree.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use super::csv_file::{CsvFormat, write_cells};
use super::document::ReportRow;
use super::totals::Totals;
use crate::input::escape::{unescaped, without_formula};
use crate::input::{Entry, Rows};
use crate::model::{Change, Effect, Field, Value, fold};
use crate::store::history::{HistoryError, Rename, Renames, RowHistory};
use crate::store::{RunDir, RunHistory};

/// What follows a row with too few cells in failed.csv, so that the row is still invalid when the file is read.
const SHORT_ROW: &str = "(too few cells: insert the missing cells, and delete this one)";
/// What follows a row with wrong quotes in failed.csv, so that values that may be others than meant are not sent.
const WRONG_QUOTES: &str = "(wrong quotes: look at the cells, correct them, and delete this one)";

/// Writes results.csv, failed.csv and undo.csv, and returns the counts. `kept` gets the paths of those that stay beside
/// files which another program has open.
///
/// # Errors
/// If the journal or the input can't be read, or the files can't be written.
pub(crate) fn write(
    history: &mut RunHistory,
    dir: &RunDir,
    kept: &mut Vec<PathBuf>,
) -> Result<Totals, HistoryError> {
    let mut results = dir.replace(&dir.results())?;
    let mut failed = dir.replace(&dir.failed())?;
    let mut undo = dir.replace(&dir.undo())?;
    let totals = write_rows(history, dir, &mut results, &mut failed, &mut undo)?;
    for file in [results, failed, undo] {
        dir.put(file, kept)?;
    }
    Ok(totals)
}

/// Returns the counts of a run whose files another process is about to write.
///
/// # Errors
/// If the journal or the input can't be read.
pub(crate) fn count(history: &mut RunHistory, dir: &RunDir) -> Result<Totals, HistoryError> {
    write_rows(history, dir, io::sink(), io::sink(), io::sink())
}

/// Passes every row to `each`, in order.
///
/// # Errors
/// If the journal or the input can't be read, or `each` fails.
pub(crate) fn each_row(
    history: &mut RunHistory,
    dir: &RunDir,
    each: &mut dyn FnMut(&ReportRow) -> io::Result<()>,
) -> Result<(), HistoryError> {
    let mut rows = history.rows(dir)?;
    while let Some((position, entry)) = rows.next_entry()? {
        let (line, email) = match entry {
            Entry::Row(row) => (row.line, row.email),
            Entry::Bad(bad) => (bad.line, bad.email),
        };
        let outcome = history.row(position.number)?.outcome;
        let mut changes = String::new();
        Change::describe_all(&outcome.changes, outcome.owner.as_deref(), &mut changes);
        let row = ReportRow {
            row: position.number,
            line,
            email: email.into(),
            outcome: outcome.outcome,
            status: outcome.status,
            changes,
            message: outcome.message().to_owned(),
        };
        each(&row).map_err(|error| dir.error(error))?;
    }
    Ok(())
}

fn write_rows(
    history: &mut RunHistory,
    dir: &RunDir,
    results: impl io::Write,
    failed: impl io::Write,
    undo: impl io::Write,
) -> Result<Totals, HistoryError> {
    let failing = |error: csv::Error| HistoryError::Dir(dir.error(error.into()));
    let writing = |error: io::Error| HistoryError::Dir(dir.error(error));
    let mut totals = Totals::new(history);
    let mut rows = history.rows(dir)?;
    let fields = rows.fields();
    let format = CsvFormat::of(history.head());
    let mut results = format.writer(results).map_err(writing)?;
    results
        .write_record([
            "Row",
            "Line",
            "Email",
            "Member ID",
            "Outcome",
            "Status",
            "Attempts",
            "Changes",
            "Message",
        ])
        .map_err(failing)?;
    let mut failed = format.writer(failed).map_err(writing)?;
    let header = failed_header(&rows, &fields);
    write_cells(&mut failed, header.iter().map(String::as_str)).map_err(failing)?;
    let undo = format.writer(undo).map_err(writing)?;
    let mut undo = UndoWriter::new(undo, &fields).map_err(failing)?;
    let renames = history.renames()?;
    // Most runs have few rows that fail, or none.
    let moved = LazyCell::new(|| RenameIndex::of(&renames));
    let mut changes = String::new();
    while let Some((position, entry)) = rows.next_entry()? {
        let (line, email) = match &entry {
            Entry::Row(row) => (row.line, &row.email),
            Entry::Bad(bad) => (bad.line, &bad.email),
        };
        let row = history.row(position.number)?;
        let outcome = &row.outcome;
        let member = outcome.member_id.as_deref();
        changes.clear();
        Change::describe_all(&outcome.changes, None, &mut changes);
        let number = position.number.to_string();
        let (line_text, attempts) = (line.to_string(), outcome.attempts.to_string());
        let status = outcome
            .status
            .map_or_else(String::new, |status| status.to_string());
        let cells = [
            &number,
            &line_text,
            &**email,
            member.unwrap_or_default(),
            outcome.outcome.name(),
            &status,
            &attempts,
            &changes,
            outcome.message(),
        ];
        results
            .write_record(cells.map(|cell| without_formula(cell).into_owned()))
            .map_err(failing)?;
        if !outcome.outcome.is_success() {
            let moved = moved.email_now(member, email);
            let (original, beyond) = original_cells(&rows, &entry, &fields, moved);
            let added = [outcome.outcome.name(), outcome.message()];
            let cells = original.iter().map(String::as_str).chain(added);
            write_cells(&mut failed, cells.chain(beyond.iter().map(String::as_str)))
                .map_err(failing)?;
        }
        let rename = member.and_then(|member| renames.of(member));
        match rename {
            // Whether the member has the old email or the new one is not known.
            Some(rename) if rename.effect == Effect::Possible && row.is_touched => {
                totals.not_in_undo += 1;
            }
            rename => {
                let now = rename.and_then(Rename::email_now).unwrap_or(email);
                undo.write(&row, now).map_err(failing)?;
            }
        }
        totals.count(line, email, &row);
    }
    for flushed in [results.flush(), failed.flush(), undo.writer.flush()] {
        flushed.map_err(|source| dir.error(source))?;
    }
    Ok(totals)
}

/// Writes undo.csv: the values before, for every member that may have been changed.
struct UndoWriter<W: io::Write> {
    writer: csv::Writer<W>,
    fields: Vec<Field>,
}

impl<W: io::Write> UndoWriter<W> {
    fn new(mut writer: csv::Writer<W>, fields: &[Field]) -> csv::Result<Self> {
        let fields: Vec<Field> = fields
            .iter()
            .copied()
            .filter(|field| !field.is_write_only())
            .collect();
        let columns = fields.iter().map(|field| field.column());
        writer.write_record(std::iter::once("Email").chain(columns))?;
        Ok(Self { writer, fields })
    }

    /// Writes a row if its member may have been changed.
    fn write(&mut self, row: &RowHistory, email: &str) -> csv::Result<()> {
        let visible = || {
            row.outcome
                .changes
                .iter()
                .filter(|change| change.is_visible())
        };
        if !row.is_touched || visible().next().is_none() {
            return Ok(());
        }
        let before = |field: &Field| {
            let change = visible().find(|change| change.field == *field);
            let before = change.and_then(|change| change.before.as_ref());
            before.map(Value::as_str).unwrap_or_default()
        };
        let cells = std::iter::once(email).chain(self.fields.iter().map(before));
        write_cells(&mut self.writer, cells)
    }
}

/// Returns the header of failed.csv: the input's own columns, or those that a CSV needs for a plan, and two more.
fn failed_header(rows: &Rows, fields: &[Field]) -> Vec<String> {
    let own: Vec<String> = match rows {
        Rows::Csv(table) => {
            let layout = table.layout();
            let read =
                (layout.header.iter().enumerate()).filter(|(column, _)| layout.is_kept(*column));
            read.map(|(_, name)| name.clone()).collect()
        }
        Rows::Plan(_) => std::iter::once("Email")
            .chain(fields.iter().map(|field| field.column()))
            .map(str::to_owned)
            .collect(),
    };
    let more = ["Outcome".to_owned(), "Message".to_owned()];
    own.into_iter().chain(more).collect()
}

/// The members that the run has renamed. A row in failed.csv must name such a member by its present email, because
/// the email before may belong to somebody else by now.
#[derive(Debug)]
struct RenameIndex<'r> {
    renames: &'r Renames,
    /// Applied renames, by folded email before.
    by_email: HashMap<Cow<'r, str>, &'r Rename>,
}

impl<'r> RenameIndex<'r> {
    fn of(renames: &'r Renames) -> Self {
        let by_email = (renames.applied()).map(|rename| (fold(&rename.first), rename));
        Self {
            renames,
            by_email: by_email.collect(),
        }
    }

    /// Returns the present email of a row's member, if a row renamed it.
    fn email_now(&self, member: Option<&str>, email: &str) -> Option<&'r str> {
        let rename = match member {
            Some(member) => self.renames.applied_to(member),
            None if self.by_email.is_empty() => None,
            None => self.by_email.get(&*fold(email)).copied(),
        };
        rename.map(|rename| &*rename.last)
    }
}

/// Returns the cells of the row that was just read, for failed.csv, and the cells beyond the header. A row with too few
/// cells gets one of these too, so that writing the row does not make it valid. `email` replaces the email of a member
/// that has another one by now.
fn original_cells(
    rows: &Rows,
    entry: &Entry,
    fields: &[Field],
    email: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    match (rows, entry) {
        (Rows::Csv(table), _) => {
            // An escaped cell is written once more below.
            let text = |cell: &[u8]| unescaped(&String::from_utf8_lossy(cell)).to_owned();
            let (layout, cells) = (table.layout(), table.cells());
            let width = layout.header.len();
            let cell = |column| match email {
                Some(email) if layout.is_email(column) => email.to_owned(),
                _ => cells.get(column).map(text).unwrap_or_default(),
            };
            let own = (0..width)
                .filter(|column| layout.is_kept(*column))
                .map(cell);
            let mut beyond: Vec<String> = cells.iter().skip(width).map(text).collect();
            if cells.len() < layout.named_width() {
                beyond.push(SHORT_ROW.to_owned());
            }
            if table.has_wrong_quotes() {
                beyond.push(WRONG_QUOTES.to_owned());
            }
            (own.collect(), beyond)
        }
        (Rows::Plan(_), Entry::Row(row)) => {
            let value = |field: &Field| {
                row.value(*field)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            let email = email.unwrap_or(&row.email).to_owned();
            let own = std::iter::once(email).chain(fields.iter().map(value));
            (own.collect(), Vec::new())
        }
        // The rows of a plan are never bad.
        (Rows::Plan(_), Entry::Bad(_)) => Default::default(),
    }
}
