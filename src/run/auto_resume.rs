//! `--auto-resume`: one command line that a scheduler can start again and again.
//!
//! ```text
//!  runs of the same input at the same host ── none ─────────────────────────► a new run
//!      │ the newest of the same organization
//!      ├─ another version of the file was run since ─────────────────────────► a new run
//!      ├─ it has rows left ──────────────────────────────────────────────────► resume it
//!      └─ it is complete ────────────────────────────► nothing is sent; its exit code
//! ```
//!
//! A feed may return to what it was two nights ago. Then that run is complete, but what it wrote is not there any more.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::finish::printing_failed;
use super::prepared::{base_url, read_history};
use super::sign_in::Connection;
use super::{Context, RunError};
use crate::exit_code;
use crate::input::text;
use crate::output::Plain;
use crate::report::results;
use crate::report::summary::{RunEnd, Summary};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::store::journal::{Head, InputKind};
use crate::store::lock::{Lock, default_dir};
use crate::store::{RunDir, catalog};

/// What to do with an input.
pub(super) enum Decision {
    /// Nobody has run it.
    New,
    /// A run of it has rows left.
    Resume(RunDir),
    /// A run of it is complete, and ended with this exit code.
    Complete(u8),
}

/// Decides what to do with the input of an update. The lock, held until the process ends, keeps another start of the same
/// command line away.
///
/// # Errors
/// If the input can't be read, another start holds the lock, or the API does not say which organization it is.
pub(super) fn decide(
    context: &Context,
    settings: &Settings,
    runtime: &Runtime,
) -> Result<(Decision, Option<Lock>), RunError> {
    let Some(csv) = settings.csv.as_deref() else {
        return Ok((Decision::New, None));
    };
    let source = text::Source::from_arg(csv);
    if matches!(source, text::Source::Stdin) {
        return Err(RunError::Refused(
            "--auto-resume needs a file, because standard input can't be compared with earlier runs before it is read; write it into a file first".to_owned(),
        ));
    }
    let credentials = settings.credentials()?;
    let host = base_url(settings)?;
    let sha256 = hash(settings, &source)?;
    let locks = settings.lock_dir.clone().unwrap_or_else(default_dir);
    let key = format!("{} {sha256}", credentials.id);
    let parent = Path::new(catalog::RUNS);
    let lock = Lock::take(&locks, &host, Some(&key), parent)?;
    let mut candidates = candidates(settings)?;
    let is_same = |head: &Head| is_of_input(head, settings, &host, &sha256);
    candidates.retain(|(_, head)| {
        is_same(head) || (head.input_sha256 != sha256 && is_of_name(head, &source, &host))
    });
    if !candidates.iter().any(|(_, head)| is_same(head)) {
        return Ok((Decision::New, Some(lock)));
    }
    let organization = runtime.block_on(async {
        let stop = Arc::new(Stop::default());
        let connection = Connection::open(context, settings, &host, &stop).await?;
        Ok::<_, RunError>(connection.identity.organization_id.clone())
    })?;
    for (dir, head) in candidates {
        // The organization of a run that was stopped early may stand further down in its journal.
        let mut history = match read_history(&dir) {
            // Whatever that version of the file has changed, a new run is right.
            Err(_) if !is_same(&head) => return Ok((Decision::New, Some(lock))),
            history => history?,
        };
        let own = history.head().organization.as_ref();
        let own = own.or(head.organization.as_ref());
        // A run that was stopped before it knew its organization has sent nothing; a resume binds it.
        if own.is_some() && own != organization.as_ref() {
            continue;
        }
        if !is_same(&head) {
            return Ok((Decision::New, Some(lock)));
        }
        let totals = results::count(&mut history, &dir).map_err(RunError::Unreadable)?;
        if dir.is_busy() || !totals.is_complete() {
            return Ok((Decision::Resume(dir), Some(lock)));
        }
        let end = RunEnd::recorded(&totals, false);
        let summary = Summary::new(history.head(), &totals, &end, dir.path());
        say(context, settings, &dir, &summary)?;
        return Ok((Decision::Complete(end.exit_code), Some(lock)));
    }
    Ok((Decision::New, Some(lock)))
}

/// Returns the runs that may be of the input, the newest first: the one in `--run-dir`, or those below `runs`.
fn candidates(settings: &Settings) -> Result<Vec<(RunDir, Head)>, RunError> {
    if let Some(path) = &settings.run_dir {
        let Ok(dir) = RunDir::open(path) else {
            return Ok(Vec::new());
        };
        let head = read_history(&dir)?.head().clone();
        return Ok(vec![(dir, head)]);
    }
    catalog::runs(Path::new(catalog::RUNS))
        .map_err(|error| RunError::Refused(format!("{} can't be read: {error}", catalog::RUNS)))
}

/// Returns whether a run was an update of this input, read in the same way, at this host.
fn is_of_input(head: &Head, settings: &Settings, host: &str, sha256: &str) -> bool {
    head.kind == InputKind::Csv
        && head.input_sha256 == sha256
        && head.base_url == host
        && head.dry_run == settings.dry_run
        && head.send_unchanged == settings.send_unchanged
        && head.limit == settings.limit
        && head.columns == super::update::column_rules(settings)
}

/// Returns whether a run, which was no dry run, was an update from a file of the input's name at this host.
fn is_of_name(head: &Head, source: &text::Source, host: &str) -> bool {
    let text::Source::File(path) = source else {
        return false;
    };
    head.kind == InputKind::Csv
        && head.base_url == host
        && !head.dry_run
        && Path::new(&head.input).file_name() == path.file_name()
}

/// Returns the SHA-256 of the input's text, as a run keeps it.
fn hash(settings: &Settings, source: &text::Source) -> Result<String, RunError> {
    let encoding = settings.encoding.map(|encoding| encoding.0);
    let delimiter = settings.delimiter.map(|delimiter| delimiter.0);
    Ok(text::hex(&text::input_hash(source, encoding, delimiter)?))
}

/// Says that there is nothing to do.
fn say(
    context: &Context,
    settings: &Settings,
    dir: &RunDir,
    summary: &Summary,
) -> Result<(), RunError> {
    if settings.json {
        return context
            .output
            .print(summary.json())
            .map_err(printing_failed);
    }
    let code = summary.exit_code.unwrap_or_default();
    let finished = summary.finished_at.as_deref().unwrap_or_default();
    let text = format!(
        "This input was run already, in {}, and is complete since {}, with exit code {code}. Nothing was sent.",
        Plain(dir.path().display()),
        crate::clock::local(finished)
    );
    if !settings.quiet {
        let printed = context.output.print_lines(&format!("{text}\n"));
        printed.map_err(printing_failed)?;
    } else if code != exit_code::SUCCESS {
        context.output.note(text);
    }
    Ok(())
}
