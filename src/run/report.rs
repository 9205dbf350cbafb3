//! `report`: a run, a dry run or a saved plan, in several forms. It sends nothing. For a run it also writes the files and
//! the summary again, from the journal.

use std::io::{self, Write};
use std::path::Path;

use super::finish::{printing_failed, say_kept};
use super::next_commands::next_commands;
use super::prepared::read_history;
use super::session::place;
use super::{Context, EMBEDDED, RunError};
use crate::cli::ReportFormat;
use crate::decide::{ChangeKinds, Tense};
use crate::exit_code;
use crate::input::plan::PlanReader;
use crate::input::{Entry, RowRequest};
use crate::output::{Plain, Style, stdout_file};
use crate::report::closing::{Ending, InputNotes};
use crate::report::document::{Report, ReportRow, ShownRows};
use crate::report::junit::JunitWriter;
use crate::report::markdown::{self, MarkdownRows};
use crate::report::preview::{Preview, PreviewRow, describe};
use crate::report::summary::{RunEnd, Summary};
use crate::report::{page, results};
use crate::settings::Settings;
use crate::store::journal::Head;
use crate::store::run_dir::Replacement;
use crate::store::{HistoryError, RunDir, RunHistory, catalog};

pub(super) fn report(
    context: &Context,
    settings: &Settings,
    path: &Path,
    format: ReportFormat,
    target: Option<&Path>,
) -> Result<u8, RunError> {
    let format = if settings.json {
        ReportFormat::Json
    } else {
        format
    };
    if path.is_file() {
        return of_plan(context, path, format, target);
    }
    let dir = catalog::open(path)?;
    let mut history = read_history(&dir)?;
    let head = history.head().clone();
    let is_under_way = dir.is_busy();
    let mut kept = Vec::new();
    let made = if is_under_way {
        context.output.note(format_args!(
            "The run in {} is still under way. These are the counts so far; it writes its files when it ends.",
            Plain(dir.path().display())
        ));
        results::count(&mut history, &dir)
    } else {
        results::write(&mut history, &dir, &mut kept)
    };
    let totals = made.map_err(of_history)?;
    let ending = Ending {
        stop: None,
        dry_run: head.dry_run,
        is_embedded: head.base_url == EMBEDDED,
        error: None,
        detail: None,
        place: &place(&head),
        next: &next_commands(context, settings, &head, &dir),
        input: &InputNotes::default(),
    };
    let end = RunEnd::recorded(&totals, is_under_way);
    let summary = Summary::new(&head, &totals, &end, dir.path());
    if !is_under_way {
        summary.write(&dir, &mut kept)?;
        say_kept(context, &dir, &kept);
    }
    match (format, target) {
        (ReportFormat::Text, None) => {
            let text = summary.render(&totals, &ending, true, context.output.stdout_style());
            context.output.print_lines(&text).map_err(printing_failed)?;
        }
        (ReportFormat::Text, Some(target)) => {
            let text = summary.render(&totals, &ending, true, Style::new(false));
            save(target, |file| file.write_all(text.as_bytes()))?;
        }
        _ => {
            let report = Report::of_run(summary, &totals, head.origin.settings.clone());
            let rows = |each: &mut dyn FnMut(&ReportRow) -> io::Result<()>| {
                results::each_row(&mut history, &dir, each).map_err(of_history)
            };
            write(context, &report, format, target, rows)?;
        }
    }
    Ok(end.exit_code)
}

fn of_history(error: HistoryError) -> RunError {
    match error {
        HistoryError::Input(error) => RunError::Input(error),
        error => error.into(),
    }
}

/// Reports a saved plan.
fn of_plan(
    context: &Context,
    path: &Path,
    format: ReportFormat,
    target: Option<&Path>,
) -> Result<u8, RunError> {
    let name = path.display().to_string();
    PlanReader::verify(&name, path)?;
    let mut kinds = ChangeKinds::default();
    let mut preview = Preview::default();
    let mut rows = 0;
    let each = |each: &mut dyn FnMut(&PreviewRow) -> io::Result<()>| {
        let mut plan = PlanReader::open(&name, path, None)?;
        while let Some((position, entry)) = plan.next_entry()? {
            if let Entry::Row(row) = entry
                && let RowRequest::Planned { changes, .. } = row.request
            {
                let row = PreviewRow {
                    row: position.number,
                    line: row.line,
                    email: row.email,
                    changes: changes.into(),
                    owner: None,
                };
                each(&row).map_err(printing_failed)?;
            }
        }
        Ok::<_, RunError>(())
    };
    each(&mut |row| {
        rows += 1;
        kinds.add(&row.changes);
        preview.add(row.clone());
        Ok(())
    })?;
    let plan = PlanReader::open(&name, path, None)?;
    let summary = Summary::of_plan(plan.head(), rows, path);
    if format == ReportFormat::Text {
        let style = match target {
            Some(_) => Style::new(false),
            None => context.output.stdout_style(),
        };
        let head = plan.head();
        let text = format!(
            "\n{}\n\n{}\n{rows} to change. The plan was made from {} on {}.\nNext   to make these changes:\n  sigma-bulk apply {}\n",
            describe(&kinds.kinds(Tense::Planned), "  ", style),
            preview.render(style),
            Plain(&head.made_from),
            crate::clock::local(&head.created_at),
            crate::shell::quoted(&name),
        );
        match target {
            Some(target) => save(target, |file| file.write_all(text.as_bytes()))?,
            None => context.output.print_lines(&text).map_err(printing_failed)?,
        }
        return Ok(exit_code::SUCCESS);
    }
    let report = Report::of_plan(summary, plan.head().made_from.clone(), &kinds);
    let rows = |write: &mut dyn FnMut(&ReportRow) -> io::Result<()>| {
        each(&mut |row| {
            write(&ReportRow::planned(
                row.row,
                row.line,
                &row.email,
                &row.changes,
            ))
        })
    };
    write(context, &report, format, target, rows)?;
    Ok(exit_code::SUCCESS)
}

/// Writes a report. `rows` passes all rows on, in order.
fn write(
    context: &Context,
    report: &Report,
    format: ReportFormat,
    target: Option<&Path>,
    rows: impl FnOnce(&mut dyn FnMut(&ReportRow) -> io::Result<()>) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let text = match format {
        ReportFormat::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        ReportFormat::Markdown => {
            let mut kept = MarkdownRows::default();
            rows(&mut |row| {
                kept.add(row);
                Ok(())
            })?;
            markdown::render(report, &kept)
        }
        ReportFormat::Html => {
            let mut kept = ShownRows::default();
            rows(&mut |row| {
                kept.add(row);
                Ok(())
            })?;
            page::render(report, kept)
                .map_err(|error| RunError::Recording(format!("the page can't be made: {error}")))?
        }
        ReportFormat::Junit | ReportFormat::Text => {
            let stream = |file: &mut dyn Write| {
                let mut junit = JunitWriter::new(file, report)?;
                let mut failed = None;
                let passed = rows(&mut |row| junit.row(row));
                if let Err(error) = passed {
                    failed = Some(error);
                }
                junit.end()?;
                failed.map_or(Ok(()), |error| Err(io::Error::other(error)))
            };
            return match target {
                Some(target) => save(target, stream),
                None => stream(&mut stdout_file()).map_err(printing_failed),
            };
        }
    };
    match target {
        Some(target) => save(target, |file| file.write_all(text.as_bytes())),
        None => context.output.print(text).map_err(printing_failed),
    }
}

/// Writes a file that only its owner can read, complete or not at all.
fn save(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), RunError> {
    let written = || {
        let mut file = Replacement::private(path)?;
        write(&mut file)?;
        file.commit()
    };
    written().map_err(|error| RunError::Refused(format!("--output {}: {error}", path.display())))
}

/// Says which later runs belong to a run that is about to be undone.
pub(super) fn note_reruns(context: &Context, dir: &RunDir, history: &RunHistory) {
    let reference = history.head().reference();
    let Ok(runs) = catalog::beside(dir) else {
        return;
    };
    let is_undone = |run: &Head| {
        let reference = run.reference();
        runs.iter()
            .any(|(_, head)| !head.dry_run && head.origin.undoes.as_ref() == Some(&reference))
    };
    for (rerun, head) in &runs {
        let belongs = head.origin.reruns.as_ref() == Some(&reference);
        if belongs && !head.dry_run && !is_undone(head) {
            let rerun = crate::shell::quoted(&rerun.path().display().to_string());
            context.output.note(Plain(format!(
                "The failed rows of this run were run again in {rerun}. Undo that run as well, best before this one:"
            )));
            context
                .output
                .note(Plain(format!("  sigma-bulk undo {rerun}")));
        }
    }
}
