//! `report`: the files and the summary of a run, made again from its journal. It sends nothing.

use std::path::Path;

use super::next_commands::next_commands;
use super::prepared::read_history;
use super::session::place;
use super::{Context, EMBEDDED, RunError, finish};
use crate::exit_code;
use crate::output::Plain;
use crate::report::preview::Preview;
use crate::report::results;
use crate::report::summary::{Ending, InputNotes, Summary};
use crate::settings::Settings;
use crate::store::{HistoryError, RunDir};

pub(super) fn report(context: &Context, settings: &Settings, path: &Path) -> Result<u8, RunError> {
    let dir = RunDir::open(path)?;
    let mut history = read_history(&dir)?;
    let head = history.head().clone();
    let is_under_way = dir.is_busy();
    let made = if is_under_way {
        context.output.note(format_args!(
            "The run in {} is still under way. These are the counts so far; it writes its files when it ends.",
            Plain(dir.path().display())
        ));
        results::count(&mut history, &dir)
    } else {
        results::write(&mut history, &dir)
    };
    let totals = made.map_err(|error| match error {
        HistoryError::Input(error) => RunError::Input(error),
        error => error.into(),
    })?;
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
    let mut summary = Summary::new(&totals, &ending, dir.path());
    match &totals.ended {
        Some(ended) => summary.set_end(&ended.stop, ended.exit_code),
        None if is_under_way => summary.set_end("running", exit_code::LOCKED),
        // It was killed.
        None => summary.set_end("error", exit_code::STOPPED),
    }
    if !is_under_way {
        summary.write(&dir)?;
    }
    let preview = Preview::default();
    finish::show(context, settings, &summary, &totals, &ending, preview)?;
    Ok(summary.exit_code)
}
