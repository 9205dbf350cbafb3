//! `resume`: the rows of a run that have no final outcome yet.

use std::path::Path;

use super::prepared::{PreparedRun, Resumed, check_host, claim, read_history};
use super::{Context, RunError, plan_file};
use crate::input::{InputError, preflight, text};
use crate::settings::Settings;
use crate::store::catalog;
use crate::store::history::open_rows;
use crate::store::journal::InputKind;

pub(super) fn prepare(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
    only_failed: bool,
) -> Result<PreparedRun, RunError> {
    let mut dir = catalog::open(path)?;
    claim(&mut dir)?;
    context
        .stages(settings)
        .begin_on_screen("reading the journal");
    let mut history = read_history(&dir)?;
    let head = history.head().clone();
    check_host(context, settings, &head.base_url)?;
    settings.credentials()?;
    if settings.dry_run && !head.dry_run {
        return Err(RunError::Refused(
            "the environment or the configuration sets dry-run, but this run changes members, and so would a resume: remove the setting to continue the run".to_owned(),
        ));
    }
    if let Some(path) = &settings.save_plan {
        plan_file::check_path(path, settings, head.dry_run)?;
    }
    settings.dry_run = head.dry_run;
    settings.send_unchanged = head.send_unchanged;
    let copy = match head.kind {
        InputKind::Csv => dir.input(),
        InputKind::Plan => dir.plan(),
    };
    let hash = text::hash_of(&copy).map_err(|source| InputError::open(&copy, source))?;
    if text::hex(&hash) != head.input_sha256 {
        return Err(RunError::Refused(format!(
            "{} was changed since the run started (its SHA-256 differs): restore it, or start a new run",
            copy.display()
        )));
    }
    let preflight = preflight(&head.input, || open_rows(&head, &dir))?;
    let (state, first_emails) = history
        .resume_state(&dir, only_failed)
        .map_err(RunError::Unreadable)?;
    let resumed = Some(Resumed {
        state,
        first_emails,
        journal: history.into_parts(),
    });
    Ok(PreparedRun {
        head,
        dir,
        preflight,
        resumed,
        undone: None,
    })
}
