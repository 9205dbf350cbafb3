//! What a run is to do, for each command that makes one: its rows in a run directory, checked, and what binds it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use super::{Context, EMBEDDED, RunError};
use crate::event::Before;
use crate::input::plan::{self, PlanHead, PlanReader};
use crate::input::{InputError, Preflight, Rows, Table, preflight, text};
use crate::output::count;
use crate::report::RunDir;
use crate::report::journal::{self, Head, InputKind};
use crate::report::ledger::{FirstEmails, Ledger, open_rows};
use crate::report::summary::now;
use crate::settings::{Settings, SettingsError};
use crate::sigma::hosts::{self, Environment};

/// A run that is about to begin, or to go on.
pub(super) struct Job {
    pub(super) head: Head,
    pub(super) dir: RunDir,
    pub(super) preflight: Preflight,
    /// What a resume knows.
    pub(super) resumed: Option<Resumed>,
}

/// What a resume knows of the pieces before.
pub(super) struct Resumed {
    pub(super) before: Before,
    pub(super) started_as: FirstEmails,
    /// How far the journal was read, and what it holds.
    pub(super) journal: (journal::Extent, journal::Index),
}

/// The rows of a CSV.
pub(super) fn update(settings: &Settings) -> Result<Job, RunError> {
    let csv = settings.csv.clone().ok_or_else(|| {
        RunError::Refused(
            "which CSV? Give its path, or - for standard input: sigma-bulk update members.csv"
                .to_owned(),
        )
    })?;
    let source = text::Source::from_arg(&csv);
    settings.credentials()?;
    let base_url = base_url(settings)?;
    let file = match &source {
        text::Source::File(path) => Some(path.as_path()),
        text::Source::Stdin => None,
    };
    let dir = new_dir(settings, &source.stem(), file)?;
    new_job(dir, |dir| {
        let mut copy = dir.create_file(&dir.input())?;
        let hash = text::spool(&source, &mut copy)?;
        drop(copy);
        let name = source.name();
        let open = || Table::open(&name, &dir.input(), settings.delimiter, settings.limit);
        let preflight = preflight(&name, || open().map(|table| Rows::Csv(Box::new(table))))?;
        let layout = open()?.layout().clone();
        let head = Head {
            kind: InputKind::Csv,
            header: layout.header,
            delimiter: char::from(layout.delimiter),
            ..new_head(
                "update",
                &name,
                &text::hex(&hash),
                &preflight,
                &base_url,
                settings,
            )
        };
        strict(settings, &preflight)?;
        Ok((head, preflight))
    })
}

/// What is left of a run.
pub(super) fn resume(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
    only_failed: bool,
) -> Result<Job, RunError> {
    let fixed = [
        "csv",
        "delimiter",
        "limit",
        "dry-run",
        "strict",
        "send-unchanged",
        "run-dir",
        "max-changes",
    ];
    if let Some(flag) = first_given(context, &fixed) {
        return Err(RunError::Refused(format!(
            "--{flag} can't be changed on a resume: it is the run's"
        )));
    }
    let dir = RunDir::open(path)?;
    let mut ledger = read_ledger(&dir)?;
    let head = ledger.head().clone();
    check_host(context, settings, &head.base_url)?;
    settings.credentials()?;
    if settings.dry_run && !head.dry_run {
        return Err(RunError::Refused(
            "dry-run is set by the environment or the configuration, and this run changes members: a resume would go on with that; take the setting away, or leave the run alone".to_owned(),
        ));
    }
    if let Some(path) = &settings.save_plan {
        check_plan_path(path, head.dry_run)?;
    }
    settings.dry_run = head.dry_run;
    settings.send_unchanged = head.send_unchanged;
    let copy = match head.kind {
        InputKind::Csv => dir.input(),
        InputKind::Plan => dir.plan(),
    };
    let hash = text::hash_of(&copy).map_err(|source| InputError::Open {
        input: copy.display().to_string(),
        source,
    })?;
    if text::hex(&hash) != head.input_sha256 {
        return Err(RunError::Refused(format!(
            "{} was changed since the run began (its SHA-256 is another): put the original back, or start a new run",
            copy.display()
        )));
    }
    let preflight = preflight(&head.input, || open_rows(&head, &dir))?;
    let (before, started_as) = ledger.before(&dir, only_failed).map_err(refused)?;
    let resumed = Some(Resumed {
        before,
        started_as,
        journal: ledger.into_parts(),
    });
    Ok(Job {
        head,
        dir,
        preflight,
        resumed,
    })
}

/// What a run changed, put back.
pub(super) fn undo(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
) -> Result<Job, RunError> {
    own_input(context, settings)?;
    let from = RunDir::open(path)?;
    let mut ledger = read_ledger(&from)?;
    let old = ledger.head().clone();
    if old.dry_run {
        return Err(RunError::Refused(format!(
            "{} was a dry run: it changed nothing",
            path.display()
        )));
    }
    check_host(context, settings, &old.base_url)?;
    settings.credentials()?;
    let stem = from
        .path()
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let dir = new_dir(settings, &format!("undo-{stem}"), None)?;
    let name = format!("the undo of {}", path.display());
    new_job(dir, |dir| {
        let mut file = io::BufWriter::new(dir.create_file(&dir.plan())?);
        let head = plan_head(&old, &name, None);
        json_line(&mut file, &head).map_err(|source| dir.error(source))?;
        ledger
            .undo(&from, |row| json_line(&mut file, &row))
            .map_err(refused)?;
        file.flush().map_err(|source| dir.error(source))?;
        planned(
            "undo",
            &name,
            dir,
            &old.base_url,
            old.organization.clone(),
            settings,
        )
    })
}

/// The rows of a plan.
pub(super) fn apply(
    context: &Context,
    settings: &mut Settings,
    path: &Path,
) -> Result<Job, RunError> {
    own_input(context, settings)?;
    let name = path.display().to_string();
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
    let dir = new_dir(settings, &stem, Some(path))?;
    new_job(dir, |dir| {
        let mut copy = dir.create_file(&dir.plan())?;
        text::spool(&text::Source::File(path.to_owned()), &mut copy)?;
        drop(copy);
        let organization = Some(organization).filter(|id| !id.is_empty());
        let made = planned("apply", &name, dir, &base_url, organization, settings)?;
        strict(settings, &made.1)?;
        Ok(made)
    })
}

/// A run whose input is not the settings': those that the environment and the configuration name for CSVs are not meant,
/// and a flag is an error.
fn own_input(context: &Context, settings: &mut Settings) -> Result<(), RunError> {
    if let Some(flag) = first_given(context, &["csv", "delimiter"]) {
        return Err(RunError::Refused(format!(
            "--{flag} is for update: this command has its input already"
        )));
    }
    settings.limit = context.flags.limit;
    Ok(())
}

/// The first flag of the command line that is one of these.
fn first_given(context: &Context, names: &[&str]) -> Option<String> {
    let mut given = context.flags.set_names().into_iter();
    given.find(|name| names.contains(&name.as_str()))
}

/// A run of what is made in its new directory; if that can't be made, the directory goes again.
fn new_job(
    dir: RunDir,
    make: impl FnOnce(&RunDir) -> Result<(Head, Preflight), RunError>,
) -> Result<Job, RunError> {
    let (head, preflight) = make(&dir).inspect_err(|_| dir.discard())?;
    Ok(Job {
        head,
        dir,
        preflight,
        resumed: None,
    })
}

/// A plan is what a dry run shows. It may be written over another one, but over nothing else.
pub(super) fn check_plan_path(path: &Path, is_dry: bool) -> Result<(), RunError> {
    let name = path.display().to_string();
    if !is_dry {
        return Err(RunError::Settings(SettingsError::Value {
            setting: "--save-plan",
            message: "it saves what a dry run shows: give --dry-run as well".to_owned(),
        }));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(RunError::Refused(format!(
            "--save-plan {name}: there is no directory {}; make it, or give another name",
            parent.display()
        )));
    }
    if path.exists() && PlanReader::open(&name, path, None).is_err() {
        return Err(RunError::Refused(format!(
            "--save-plan {name} is there already and is no plan: it would be overwritten; give another name"
        )));
    }
    Ok(())
}

fn refused(error: impl std::fmt::Display) -> RunError {
    RunError::Refused(error.to_string())
}

pub(super) fn read_ledger(dir: &RunDir) -> Result<Ledger, RunError> {
    // Nothing was sent by this process yet: what is wrong is the input.
    Ledger::read(dir).map_err(refused)
}

fn base_url(settings: &Settings) -> Result<String, RunError> {
    let url = match &settings.base_url {
        Some(url) => url.as_str(),
        None if settings.env == Environment::Sandbox => return Ok(EMBEDDED.to_owned()),
        None => hosts::base_url(settings.env, settings.cloud.as_deref())?,
    };
    Ok(hosts::check_url(url, settings.allow_http)?)
}

/// A run's host is its own: a flag that says another is refused.
fn check_host(context: &Context, settings: &Settings, own: &str) -> Result<(), RunError> {
    if own == EMBEDDED {
        return Err(RunError::Refused(
            "that run was on the embedded sandbox, which ended with it; use sigma-bulk sandbox and --env dev".to_owned(),
        ));
    }
    let flags = &context.flags;
    if flags.base_url.is_some() || flags.env.is_some() || flags.cloud.is_some() {
        let given = base_url(settings)?;
        if given != own {
            return Err(RunError::Refused(format!(
                "the run is one of {own}, and the flags say {given}: leave them out"
            )));
        }
    }
    hosts::check_url(own, settings.allow_http)?;
    Ok(())
}

fn new_dir(settings: &Settings, stem: &str, source: Option<&Path>) -> Result<RunDir, RunError> {
    Ok(match &settings.run_dir {
        Some(path) => RunDir::create(path, source)?,
        None => RunDir::create_named(Path::new("runs"), stem, source)?,
    })
}

fn new_head(
    command: &str,
    input: &str,
    sha256: &str,
    preflight: &Preflight,
    base_url: &str,
    settings: &Settings,
) -> Head {
    Head {
        version: journal::VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now(),
        command: command.to_owned(),
        input: input.to_owned(),
        kind: InputKind::Plan,
        input_sha256: sha256.to_owned(),
        rows: preflight.rows,
        header: Vec::new(),
        delimiter: ',',
        base_url: base_url.to_owned(),
        organization: None,
        dry_run: settings.dry_run,
        send_unchanged: settings.send_unchanged,
        limit: settings.limit,
    }
}

/// The head and the preflight of a run whose plan stands in its directory.
fn planned(
    command: &str,
    name: &str,
    dir: &RunDir,
    base_url: &str,
    organization: Option<String>,
    settings: &Settings,
) -> Result<(Head, Preflight), RunError> {
    let hash = text::hash_of(&dir.plan()).map_err(|source| dir.error(source))?;
    let open = || {
        PlanReader::open(name, &dir.plan(), settings.limit).map(|plan| Rows::Plan(Box::new(plan)))
    };
    let preflight = preflight(name, open)?;
    let head = Head {
        organization,
        ..new_head(
            command,
            name,
            &text::hex(&hash),
            &preflight,
            base_url,
            settings,
        )
    };
    Ok((head, preflight))
}

pub(super) fn plan_head(head: &Head, made_from: &str, rows: Option<u64>) -> PlanHead {
    PlanHead {
        sigma_bulk_plan: plan::VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now(),
        base_url: head.base_url.clone(),
        organization: head.organization.clone().unwrap_or_default(),
        made_from: made_from.to_owned(),
        input_sha256: head.input_sha256.clone(),
        rows,
    }
}

pub(super) fn json_line(
    file: &mut impl io::Write,
    value: &impl serde::Serialize,
) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

fn strict(settings: &Settings, preflight: &Preflight) -> Result<(), RunError> {
    if !settings.strict || preflight.bad_rows == 0 {
        return Ok(());
    }
    let mut message = format!(
        "{} wrong, and --strict is given: nothing was sent",
        are(preflight.bad_rows, "row")
    );
    for bad in &preflight.bad_examples {
        let _ = write!(message, "\n  line {}: {}", bad.line, bad.problem);
    }
    let more = preflight.bad_rows as usize
        - preflight
            .bad_examples
            .len()
            .min(preflight.bad_rows as usize);
    if more > 0 {
        let _ = write!(message, "\n  … and {more} more");
    }
    Err(RunError::Refused(message))
}

fn are(number: u32, noun: &str) -> String {
    format!(
        "{} {}",
        count(number.into(), noun),
        if number == 1 { "is" } else { "are" }
    )
}
