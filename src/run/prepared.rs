//! A run that is about to start or to continue: its rows in a run directory, checked, and what binds it. The files of the
//! commands make one each.

use std::path::Path;

use super::{Context, EMBEDDED, RunError, strict};
use crate::clock::now;
use crate::event::ResumeState;
use crate::input::header::ColumnRules;
use crate::input::plan::PlanReader;
use crate::input::{Preflight, Rows, preflight, text};
use crate::output::Plain;
use crate::paths;
use crate::report::summary::Summary;
use crate::settings::{CommandName, Settings};
use crate::sigma::hosts::{self, Environment};
use crate::store::history::FirstEmails;
use crate::store::journal::{
    self, Head, InputKind, JournalExtent, JournalIndex, JournalReader, Origin,
};
use crate::store::{RunDir, RunDirError, RunHistory, catalog};

/// A run that is about to start or to continue.
pub(super) struct PreparedRun {
    pub(super) head: Head,
    pub(super) dir: RunDir,
    pub(super) preflight: Preflight,
    /// What a resume knows; `None` for a new run.
    pub(super) resumed: Option<Resumed>,
    /// The run that an undo was made from.
    pub(super) undone: Option<Undone>,
}

/// The run that an undo was made from, claimed by this process.
pub(super) struct Undone {
    pub(super) dir: RunDir,
    /// The length of the journal that was read.
    pub(super) length: u64,
}

impl Undone {
    /// Checks that nobody went on with the run since its journal was read. Where directories can't be locked, only the lock
    /// on the organization keeps others away, which this process must hold by now.
    ///
    /// # Errors
    /// If somebody did.
    pub(super) fn check(&self) -> Result<(), RunError> {
        let journal = self.dir.journal();
        let length = std::fs::metadata(&journal).map_err(|source| self.dir.error(source))?;
        if length.len() != self.length {
            return Err(RunError::Refused(format!(
                "the run in {} went on while its undo was prepared: undo it again",
                self.dir.path().display()
            )));
        }
        Ok(())
    }
}

/// What a resume knows about the sessions before it.
pub(super) struct Resumed {
    pub(super) state: ResumeState,
    pub(super) first_emails: FirstEmails,
    /// How far the journal was read, and its index.
    pub(super) journal: (JournalExtent, JournalIndex),
}

impl PreparedRun {
    /// Returns a new run with what `make` puts into its directory. If that fails, the directory is removed.
    pub(super) fn new(
        context: &Context,
        settings: &Settings,
        dir: RunDir,
        make: impl FnOnce(&RunDir) -> Result<(Head, Preflight), RunError>,
    ) -> Result<Self, RunError> {
        let starting = || {
            let summary = Summary::starting(&context.origin, settings.dry_run, dir.path());
            summary.write(&dir, &mut Vec::new())?;
            let (mut head, preflight) = make(&dir)?;
            head.origin = Origin {
                undoes: head.origin.undoes.take(),
                reruns: head.origin.reruns.take(),
                ..context.origin.clone()
            };
            Ok((head, preflight))
        };
        let (head, preflight) = starting().inspect_err(|_: &RunError| dir.discard())?;
        Ok(Self {
            head,
            dir,
            preflight,
            resumed: None,
            undone: None,
        })
    }
}

/// Creates the directory of a new run. Unless the settings name it, its name says when the run started, from what it is
/// made (`stem`), and what it does, if that is no usual update.
pub(super) fn create_dir(
    context: &Context,
    settings: &Settings,
    stem: &str,
    source: Option<&Path>,
) -> Result<RunDir, RunError> {
    let place = settings.run_dir.as_deref();
    let place = place.unwrap_or(Path::new(catalog::RUNS));
    if !settings.quiet && paths::is_shared(place) {
        let warning = format!("warning: {}: {}", place.display(), paths::SHARED);
        context.output.note(Plain(warning));
    }
    if let Some(path) = &settings.run_dir {
        return Ok(RunDir::create(path, source)?);
    }
    let mut name = without_time(stem).to_owned();
    if context.command != CommandName::Update {
        name = format!("{name}-{}", context.command.name());
    }
    if settings.dry_run {
        name.push_str("-dry-run");
    }
    Ok(RunDir::create_named(
        Path::new(catalog::RUNS),
        &name,
        source,
    )?)
}

/// Returns the name of a run directory without the time with which it begins.
fn without_time(name: &str) -> &str {
    let is_time = |time: &str| {
        time.len() == "20260331T101500Z".len()
            && time
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z'))
    };
    match name.split_once('-') {
        Some((time, rest)) if is_time(time) && !rest.is_empty() => rest,
        _ => name,
    }
}

/// What binds a run, as far as it is the same for CSVs and plans.
pub(super) struct Binding<'a> {
    pub(super) command: &'a str,
    pub(super) input: &'a str,
    pub(super) sha256: text::InputHash,
    pub(super) base_url: &'a str,
    pub(super) organization: Option<String>,
}

impl Binding<'_> {
    /// Returns the head of the run's journal, for a plan.
    pub(super) fn head(self, preflight: &Preflight, settings: &Settings) -> Head {
        Head {
            version: journal::VERSION,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now(),
            command: self.command.to_owned(),
            input: self.input.to_owned(),
            kind: InputKind::Plan,
            input_sha256: text::hex(&self.sha256),
            rows: preflight.rows,
            header: Vec::new(),
            delimiter: ',',
            base_url: self.base_url.to_owned(),
            organization: self.organization,
            dry_run: settings.dry_run,
            send_unchanged: settings.send_unchanged,
            columns: ColumnRules::default(),
            byte_order_mark: false,
            encoding: None,
            limit: settings.limit,
            origin: Origin::default(),
        }
    }
}

/// Returns the head and the preflight of a run whose plan is in its directory.
pub(super) fn of_plan(
    command: &str,
    name: &str,
    dir: &RunDir,
    base_url: &str,
    organization: Option<String>,
    settings: &Settings,
) -> Result<(Head, Preflight), RunError> {
    let sha256 = text::hash_of(&dir.plan()).map_err(|source| dir.error(source))?;
    let open = || {
        PlanReader::open(name, &dir.plan(), settings.limit).map(|plan| Rows::Plan(Box::new(plan)))
    };
    let preflight = preflight(name, open)?;
    strict::check_file(settings, &preflight)?;
    let binding = Binding {
        command,
        input: name,
        sha256,
        base_url,
        organization,
    };
    Ok((binding.head(&preflight, settings), preflight))
}

/// Claims the directory of a run before it is read, so that no other process goes on with the run meanwhile.
///
/// # Errors
/// If a process is running in it.
pub(super) fn claim(dir: &mut RunDir) -> Result<(), RunError> {
    let Err(error) = dir.claim() else {
        return Ok(());
    };
    // A dry run holds no lock on the organization.
    let is_dry_run = JournalReader::open(&dir.journal()).is_ok_and(|(_, head)| head.dry_run);
    Err(RunError::Dir(match error {
        RunDirError::Busy { path } if !is_dry_run => RunDirError::UnderWay { path },
        error => error,
    }))
}

/// Reads the history of a run. Nothing was sent by this process yet, so that an error is one of the input.
pub(super) fn read_history(dir: &RunDir) -> Result<RunHistory, RunError> {
    RunHistory::read(dir).map_err(RunError::Unreadable)
}

/// Returns the base URL that the settings name.
pub(super) fn base_url(settings: &Settings) -> Result<String, RunError> {
    let url = match &settings.base_url {
        Some(url) => url.as_str(),
        None if settings.env == Environment::Sandbox => return Ok(EMBEDDED.to_owned()),
        None => hosts::base_url(settings.env, settings.cloud.as_deref())?,
    };
    Ok(hosts::check_url(url, settings.allow_http)?)
}

/// Checks that flags do not name another host than that of the run or the plan.
pub(super) fn check_host(
    context: &Context,
    settings: &Settings,
    own: &str,
) -> Result<(), RunError> {
    if own == EMBEDDED {
        return Err(RunError::Refused(
            "that run used the embedded sandbox, which ended with it; use sigma-bulk sandbox and --env dev".to_owned(),
        ));
    }
    let flags = &context.flags;
    if flags.base_url.is_some() || flags.env.is_some() || flags.cloud.is_some() {
        let given = base_url(settings)?;
        if given != own {
            return Err(RunError::Refused(format!(
                "the run belongs to {own}, but the flags name {given}: leave them out"
            )));
        }
    }
    hosts::check_url(own, settings.allow_http)?;
    Ok(())
}
