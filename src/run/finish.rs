//! The end of a session: the files of the run, its summary, and what is shown.

use super::next_commands::next_commands;
use super::session::place;
use super::{Context, EMBEDDED, RunError, plan_file};
use crate::output::{count, shell_quoted, stdout_has_colour};
use crate::report::preview::Preview;
use crate::report::reporter::ReporterOutput;
use crate::report::results;
use crate::report::summary::{Ending, InputNotes, Summary};
use crate::report::totals::Totals;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::store::journal::{JournalLost, Record, SessionEnd};
use crate::store::{RunDir, RunHistory};

/// Makes the files from what the journal says, shows how the run ended, and returns the exit code.
pub(super) fn finish(
    context: &Context,
    settings: &Settings,
    dir: &RunDir,
    mut reported: ReporterOutput,
    stop: &Stop,
    input: &InputNotes,
) -> Result<u8, RunError> {
    let unwritable = |error: &dyn std::fmt::Display| {
        RunError::Recording(format!(
            "{error}\nThe journal has everything that was sent. When the disk has room again: sigma-bulk resume {}",
            shell_quoted(&dir.path().display().to_string())
        ))
    };
    if let Some(error) = &reported.error
        && let Some(inner) = error.get_ref()
        && inner.is::<JournalLost>()
    {
        return Err(RunError::Recording(format!(
            "{error}: the run was stopped. {} were sent, and what became of them is not recorded: no files of the run are written, and it can't be resumed or undone. Look at the members, then start a new run in another directory",
            count(reported.totals.requests, "request")
        )));
    }
    let history = match reported.error {
        None => RunHistory::written(dir, reported.journal.take_index()),
        // The index has lines that could not be written.
        Some(_) => RunHistory::read(dir),
    };
    let mut history = history.map_err(|error| unwritable(&error))?;
    history.set_totals(reported.totals);
    let totals = results::write(&mut history, dir).map_err(|error| unwritable(&error))?;
    // A part of the rows is not a plan.
    if let Some(path) = settings
        .save_plan
        .as_ref()
        .filter(|_| stop.reason().is_none())
    {
        plan_file::save(&mut history, dir, path)?;
    }
    let next = next_commands(context, settings, history.head(), dir);
    let error = reported.error.as_ref().map(ToString::to_string);
    let (detail, place) = (stop.detail(), place(history.head()));
    let ending = Ending {
        stop: stop.reason(),
        detail: detail.as_deref(),
        dry_run: settings.dry_run,
        is_embedded: history.head().base_url == EMBEDDED,
        error: error.as_deref(),
        place: &place,
        next: &next,
        input,
    };
    let summary = Summary::new(&totals, &ending, dir.path());
    summary.write(dir).map_err(|error| unwritable(&error))?;
    if reported.error.is_none() {
        let ended = Record::Ended(SessionEnd {
            stop: summary.stop.clone(),
            exit_code: summary.exit_code,
            at: summary.finished_at.clone(),
        });
        reported
            .journal
            .add_now(&ended)
            .map_err(|error| unwritable(&error))?;
    }
    show(
        context,
        settings,
        &summary,
        &totals,
        &ending,
        reported.preview,
    )?;
    Ok(summary.exit_code)
}

/// Shows how a run ended.
pub(super) fn show(
    context: &Context,
    settings: &Settings,
    summary: &Summary,
    totals: &Totals,
    ending: &Ending<'_>,
    preview: Preview,
) -> Result<(), RunError> {
    let output = &context.output;
    let colour = stdout_has_colour();
    let shown = if settings.json {
        output.print(summary.json())
    } else {
        let preview = if ending.dry_run {
            output.print(preview.render(colour))
        } else {
            Ok(())
        };
        preview.and_then(|()| output.print(summary.render(totals, ending, colour)))
    };
    shown.map_err(|error| {
        RunError::Recording(format!(
            "the summary can't be written to standard output: {error}; {}/summary.json has it",
            summary.run_dir
        ))
    })
}
