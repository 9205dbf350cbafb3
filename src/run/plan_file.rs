//! The file of a plan: where a dry run may save it, and how it is written.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::RunError;
use crate::input::plan::{self, PlanHead, PlanReader, PlanRow};
use crate::model::Outcome;
use crate::report::summary::now;
use crate::report::totals::Totals;
use crate::settings::SettingsError;
use crate::store::journal::Head;
use crate::store::run_dir::private_file;
use crate::store::{RunDir, RunHistory};

/// Checks where a plan is to be saved. Only a dry run saves one, and only over another plan.
pub(super) fn check_path(path: &Path, is_dry_run: bool) -> Result<(), RunError> {
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
    if path.exists() && PlanReader::open(&name, path, None).is_err() {
        return Err(RunError::Refused(format!(
            "--save-plan {name}: the file exists and is not a plan, so that it is not overwritten; use another name"
        )));
    }
    Ok(())
}

/// Returns the head of a plan that is made from a run.
pub(super) fn head(run: &Head, made_from: &str, rows: Option<u64>) -> PlanHead {
    PlanHead {
        sigma_bulk_plan: plan::VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now(),
        base_url: run.base_url.clone(),
        organization: run.organization.clone().unwrap_or_default(),
        made_from: made_from.to_owned(),
        input_sha256: run.input_sha256.clone(),
        rows,
    }
}

/// Writes a line of a plan.
pub(super) fn write_line(file: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

/// Saves what a dry run would change.
pub(super) fn save(
    history: &mut RunHistory,
    totals: &Totals,
    dir: &RunDir,
    path: &Path,
) -> Result<(), RunError> {
    let failing = |source: io::Error| {
        RunError::Recording(format!(
            "the plan {} can't be written: {source}",
            path.display()
        ))
    };
    let mut file = io::BufWriter::new(private_file(path).map_err(failing)?);
    let rows = Some(totals.of(Outcome::WouldUpdate));
    let head = head(history.head(), &history.head().input, rows);
    write_line(&mut file, &head).map_err(failing)?;
    history.previewed(dir, |row: PlanRow| write_line(&mut file, &row))?;
    file.flush()
        .and_then(|()| file.get_ref().sync_data())
        .map_err(failing)
}
