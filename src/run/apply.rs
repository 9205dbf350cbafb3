//! `apply`: the rows of a plan that a dry run saved.

use std::fs::File;
use std::io;
use std::path::Path;

use encoding_rs::Encoding;

use super::prepared::{PreparedRun, check_host, create_dir, of_plan};
use super::{Context, RunError};
use crate::input::plan::{PlanHead, PlanReader};
use crate::input::{InputError, text};
use crate::output::Plain;
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
    if !settings.force {
        check_input(plan.head())?;
    }
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

/// Checks that the file from which a plan was made is still what it was. Whoever has only the plan has nothing to compare.
///
/// # Errors
/// If the file has changed.
fn check_input(plan: &PlanHead) -> Result<(), RunError> {
    let path = Path::new(&plan.made_from);
    if !path.is_file() || File::open(path).is_err() {
        return Ok(());
    }
    // A plan that was made from a plan has the hash of its bytes, and one from a CSV that of its text.
    let of_bytes = || text::hash_of(path).ok();
    let of_text = || {
        let label = plan.encoding.as_deref().unwrap_or_default();
        let encoding = Encoding::for_label(label.as_bytes());
        let source = text::Source::File(path.to_owned());
        text::input_hash(&source, encoding, None).ok()
    };
    let is_own = |hash: text::InputHash| text::hex(&hash) == plan.input_sha256;
    if of_bytes().is_some_and(is_own) || of_text().is_some_and(is_own) {
        return Ok(());
    }
    Err(RunError::Refused(format!(
        "{} is no longer the file from which the plan was made: make the plan again with --dry-run --save-plan, or add --force to apply it as it is",
        Plain(path.display())
    )))
}
