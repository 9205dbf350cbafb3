//! The end of a session: the files of the run, its summary, and what is shown.

use std::path::PathBuf;

use super::next_commands::next_commands;
use super::session::place;
use super::{Context, EMBEDDED, RunError, plan_file};
use crate::exit_code;
use crate::model::Outcome;
use crate::output::{Plain, count};
use crate::report::closing::{Ending, InputNotes};
use crate::report::reporter::ReporterOutput;
use crate::report::results;
use crate::report::story::Story;
use crate::report::summary::{RunEnd, Summary};
use crate::report::totals::Totals;
use crate::settings::Settings;
use crate::shell;
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
            shell::quoted(&dir.path().display().to_string())
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
    let mut kept = Vec::new();
    let totals =
        results::write(&mut history, dir, &mut kept).map_err(|error| unwritable(&error))?;
    // A part of the rows is not a plan.
    if let Some(path) = settings.save_plan.as_ref().filter(|_| totals.is_complete()) {
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
    let mut end = RunEnd::now(&totals, &ending);
    let has_changes = settings.dry_run && totals.of(Outcome::WouldUpdate) > 0;
    if settings.detailed_exitcode && has_changes && end.exit_code == exit_code::SUCCESS {
        end.exit_code = exit_code::CHANGES;
    }
    let summary = Summary::new(history.head(), &totals, &end, dir.path());
    summary
        .write(dir, &mut kept)
        .map_err(|error| unwritable(&error))?;
    say_kept(context, dir, &kept);
    if reported.error.is_none() {
        let ended = Record::Ended(SessionEnd {
            stop: end.stop,
            exit_code: end.exit_code,
            at: end.at,
            error: end.error,
        });
        reported
            .journal
            .add_now(&ended)
            .map_err(|error| unwritable(&error))?;
    }
    Story::new(context.events()).ended(&summary, &totals);
    show(context, settings, &summary, &totals, &ending)?;
    Ok(end.exit_code)
}

/// Says which files of a run could not take their places.
pub(super) fn say_kept(context: &Context, dir: &RunDir, kept: &[PathBuf]) {
    if kept.is_empty() {
        return;
    }
    let names: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    context.output.note(format_args!(
        "warning: another program, such as Excel, has files of the run open, so that the new ones are beside them: {}. Close them there, and put the new ones in place by: sigma-bulk report {}",
        Plain(names.join(", ")),
        shell::quoted(&dir.path().display().to_string())
    ));
}

/// Shows how a run ended.
pub(super) fn show(
    context: &Context,
    settings: &Settings,
    summary: &Summary,
    totals: &Totals,
    ending: &Ending<'_>,
) -> Result<(), RunError> {
    let output = &context.output;
    let shown = if context.events().is_stdout() {
        // The last event has the summary.
        Ok(())
    } else if settings.json {
        output.print(summary.json())
    } else if settings.quiet {
        // A scheduler mails what is written, so that a run without trouble writes nothing.
        if summary.exit_code != Some(exit_code::SUCCESS) {
            output.note(summary.message(totals, ending, output.stderr_style()));
        }
        Ok(())
    } else {
        let shows_members = !settings.verbose;
        output.print_lines(&summary.render(totals, ending, shows_members, output.stdout_style()))
    };
    shown.map_err(|error| {
        RunError::Recording(format!(
            "the summary can't be written to standard output: {error}; {}/summary.json has it",
            summary.run_dir
        ))
    })
}

/// Returns the error of a command whose result can't be printed.
pub(super) fn printing_failed(source: std::io::Error) -> RunError {
    RunError::Printing(source)
}
