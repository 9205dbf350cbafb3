//! `report`: the files and the summary of a run, made again from its journal. It sends nothing.

use std::path::Path;

use super::next_commands::next_commands;
use super::prepared::read_history;
use super::session::place;
use super::{Context, EMBEDDED, RunError, finish};
use crate::exit_code;
use crate::report::preview::Preview;
use crate::report::results;
use crate::report::summary::{Ending, InputNotes, Summary};
use crate::settings::Settings;
use crate::store::{HistoryError, RunDir};

pub(super) fn report(context: &Context, settings: &Settings, path: &Path) -> Result<u8, RunError> {
    let dir = RunDir::open(path)?;
    let mut history = read_history(&dir)?;
    let head = history.head().clone();
    let totals = results::write(&mut history, &dir).map_err(|error| match error {
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
        // It was killed, or is still running.
        None => summary.set_end("error", exit_code::STOPPED),
    }
    summary.write(&dir)?;
    let preview = Preview::default();
    finish::show(context, settings, &summary, &totals, &ending, preview)?;
    Ok(summary.exit_code)
}
