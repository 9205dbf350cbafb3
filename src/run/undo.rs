//! `undo`: a plan that restores what a run changed.

use std::io;
use std::path::Path;

use super::prepared::{PreparedRun, Undone, check_host, claim, create_dir, of_plan, read_history};
use super::report::note_reruns;
use super::{Context, RunError, plan_file};
use crate::input::plan::PlanWriter;
use crate::settings::Settings;
use crate::store::catalog;

pub(super) fn prepare(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
) -> Result<PreparedRun, RunError> {
    // A limit in the environment or the configuration is for CSVs.
    settings.limit = context.flags.limit;
    let mut from = catalog::open_changing(path)?;
    let path = from.path().to_owned();
    let path = path.as_path();
    claim(&mut from)?;
    context
        .stages(settings)
        .begin_on_screen("reading the journal");
    let mut history = read_history(&from)?;
    let undone = history.head().clone();
    if undone.dry_run {
        return Err(RunError::Refused(format!(
            "{} was a dry run: it changed nothing",
            path.display()
        )));
    }
    note_reruns(context, &from, &history);
    check_host(context, settings, &undone.base_url)?;
    settings.credentials()?;
    let stem = from
        .path()
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let dir = create_dir(context, settings, &stem, None)?;
    let name = format!("the undo of {}", path.display());
    let mut prepared = PreparedRun::new(context, settings, dir, |dir| {
        let file = io::BufWriter::new(dir.create_file(&dir.plan())?);
        let head = plan_file::head(&undone, &name);
        let written = |source| dir.error(source);
        let mut plan = PlanWriter::new(file, &head).map_err(written)?;
        history
            .undo(&from, |row| plan.row(&row))
            .map_err(RunError::Unreadable)?;
        plan.end().map_err(written)?;
        let organization = undone.organization.clone();
        let (mut head, preflight) =
            of_plan("undo", &name, dir, &undone.base_url, organization, settings)?;
        head.origin.undoes = Some(undone.reference());
        Ok((head, preflight))
    })?;
    let length = history.into_parts().0.length;
    prepared.undone = Some(Undone { dir: from, length });
    Ok(prepared)
}
