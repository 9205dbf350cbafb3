//! `apply`: the rows of a plan that a dry run saved.

use std::fs::File;
use std::io;
use std::path::Path;

use super::prepared::{PreparedRun, check_host, create_dir, of_plan};
use super::{Context, RunError};
use crate::input::InputError;
use crate::input::plan::PlanReader;
use crate::settings::Settings;

pub(super) fn prepare(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
) -> Result<PreparedRun, RunError> {
    // A limit in the environment or the configuration is for CSVs.
    settings.limit = context.flags.limit;
    let name = path.display().to_string();
    context.stages(settings).begin_on_screen("reading the plan");
    let plan = PlanReader::open(&name, path, None)?;
    let (base_url, organization) = (
        plan.head().base_url.clone(),
        plan.head().organization.clone(),
    );
    check_host(context, settings, &base_url)?;
    settings.credentials()?;
    let stem = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let dir = create_dir(context, settings, &stem, Some(path))?;
    PreparedRun::new(context, settings, dir, |dir| {
        let mut copy = dir.create_file(&dir.plan())?;
        let mut plan = File::open(path).map_err(|source| InputError::open(path, source))?;
        io::copy(&mut plan, &mut copy).map_err(InputError::Copy)?;
        drop(copy);
        PlanReader::verify(&name, &dir.plan())?;
        let organization = Some(organization).filter(|id| !id.is_empty());
        of_plan("apply", &name, dir, &base_url, organization, settings)
    })
}
