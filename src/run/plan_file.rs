//! The file of a plan: where a dry run may save it, and how it is written.

use std::io;
use std::path::Path;

use super::RunError;
use crate::clock::now;
use crate::input::plan::{self, PlanHead, PlanReader, PlanWriter};
use crate::settings::{Settings, SettingsError};
use crate::store::journal::Head;
use crate::store::run_dir::Replacement;
use crate::store::{RunDir, RunHistory};

/// Checks where a plan is to be saved. Only a dry run saves one, and only over another plan with `--force`.
pub(super) fn check_path(
    path: &Path,
    settings: &Settings,
    is_dry_run: bool,
) -> Result<(), RunError> {
    let name = path.display().to_string();
    if !is_dry_run {
        return Err(RunError::Settings(SettingsError::Value {
            setting: "--save-plan",
            message: "it saves what a dry run shows: add --dry-run".to_owned(),
        }));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(RunError::Refused(format!(
            "--save-plan {name}: the directory {} does not exist; create it, or use another name",
            parent.display()
        )));
    }
    if path.is_symlink() {
        return Err(RunError::Refused(format!(
            "--save-plan {name} is a symbolic link, which is not followed; remove it, or use another name"
        )));
    }
    if !path.exists() {
        return Ok(());
    }
    if PlanReader::open(&name, path, None).is_err() {
        return Err(RunError::Refused(format!(
            "--save-plan {name}: the file exists and is not a plan, so that it is not overwritten; use another name"
        )));
    }
    if !settings.force {
        return Err(RunError::Refused(format!(
            "--save-plan {name}: this plan exists already; use another name, or --force to overwrite it"
        )));
    }
    Ok(())
}

/// Returns the head of a plan that is made from a run.
pub(super) fn head(run: &Head, made_from: &str) -> PlanHead {
    PlanHead {
        sigma_bulk_plan: plan::VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now(),
        base_url: run.base_url.clone(),
        organization: run.organization.clone().unwrap_or_default(),
        made_from: made_from.to_owned(),
        input_sha256: run.input_sha256.clone(),
        encoding: run.encoding.clone(),
    }
}

/// Saves what a dry run would change. The file appears complete or not at all.
pub(super) fn save(history: &mut RunHistory, dir: &RunDir, path: &Path) -> Result<(), RunError> {
    let failing = |source: io::Error| {
        RunError::Recording(format!(
            "the plan {} can't be written: {source}",
            path.display()
        ))
    };
    let head = head(history.head(), &history.head().input);
    let file = Replacement::private(path).map_err(failing)?;
    let mut plan = PlanWriter::new(file, &head).map_err(failing)?;
    history.previewed(dir, |row| plan.row(&row))?;
    plan.end().and_then(Replacement::commit).map_err(failing)
}
