//! One session of a run, from its first request to its summary: signs in, locks, prepares, and joins the tasks.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::finish::finish;
use super::preparation::{Preparation, lookup};
use super::prepared::{PreparedRun, Resumed};
use super::sign_in::Connection;
use super::signals::listen;
use super::{Context, RunError};
use crate::clock::now;
use crate::decide::Rules;
use crate::event::ResumeState;
use crate::gateway::Gateway;
use crate::input::Preflight;
use crate::members::Lookup;
use crate::pipeline::canary::Canary;
use crate::pipeline::limits::FailureLimits;
use crate::pipeline::producer::Producer;
use crate::pipeline::scheduler;
use crate::pipeline::worker::{Worker, WorkerOptions};
use crate::report::closing::InputNotes;
use crate::report::progress::{ProgressDisplay, RateStatus, Visibility};
use crate::report::reporter::{Latency, Reporter, ReporterOptions, ReporterOutput, RequestMonitor};
use crate::report::story::Story;
use crate::report::summary::Summary;
use crate::settings::Settings;
use crate::sigma::Identity;
use crate::stop::{Stop, StopReason};
use crate::store::RunDirError;
use crate::store::history::open_rows;
use crate::store::journal::{Head, Journal, JournalExtent, JournalIndex, Record, RequestTotals};
use crate::store::lock::{Lock, default_dir};

/// The capacity of the channel of rows: enough that reading never delays the workers.
const ROWS_WAITING: usize = 256;
/// The capacity of the channel of events. When it is full, the workers wait until the disk has kept up.
const EVENTS_WAITING: usize = 1024;

/// Runs a session to its end, and returns the exit code.
///
/// # Errors
/// If it can't start, and then the directory of a new run is removed; or if its results can't be written.
pub(super) async fn run(
    context: &Context,
    settings: Settings,
    mut run: PreparedRun,
) -> Result<u8, RunError> {
    let dir = run.dir.clone();
    let is_new = run.resumed.is_none();
    let resumed = run.resumed.take();
    let started = match start(context, &settings, &mut run, resumed).await {
        Ok(started) => started,
        Err(error) => {
            if is_new {
                dir.discard();
            }
            return Err(error);
        }
    };
    started.run(context, &settings, &run).await
}

/// A session that is about to send its first change, or was stopped before it could.
struct Session {
    stop: Arc<Stop>,
    gateway: Arc<Gateway>,
    preflight: Arc<Preflight>,
    lookup: Arc<Lookup>,
    rules: Arc<Rules>,
    resume: ResumeState,
    journal: Journal,
    started: Instant,
    is_resumed: bool,
    /// Whether the preparation is complete. Otherwise the run was stopped during it.
    is_ready: bool,
    _lock: Option<Lock>,
    /// Its sandbox, if it has one, ends with the session.
    _connection: Connection,
}

/// Signs in, locks, and prepares.
async fn start(
    context: &Context,
    settings: &Settings,
    run: &mut PreparedRun,
    resumed: Option<Resumed>,
) -> Result<Session, RunError> {
    let mut started = Instant::now();
    let stop = Arc::new(Stop::default());
    listen(&stop, settings, Some(&run.dir), &context.output)?;
    let stages = context.stages(settings);
    stages.begin(format!("signing in at {}", run.head.base_url));
    let connection = Connection::open(context, settings, &run.head.base_url, &stop).await?;
    let (gateway, identity) = (Arc::clone(&connection.gateway), &connection.identity);
    let is_resumed = resumed.is_some();
    let newly_bound = run.bind(identity, is_resumed, gateway.is_stopped())?;
    if !is_resumed {
        run.head.origin.user = connection.user();
    }
    let lock = lock(settings, run)?;
    if let Some(undone) = &run.undone {
        undone.check()?;
    }
    let (resume, first_emails, journal) = match resumed {
        Some(resumed) => (resumed.state, resumed.first_emails, Some(resumed.journal)),
        None => Default::default(),
    };
    let journal = open_journal(run, journal, newly_bound)?;
    let summary = Summary::running(&run.head, journal.index().sessions(), run.dir.path());
    // If a program has the last one open, this is said at the end.
    summary.write(&run.dir, &mut Vec::new())?;
    let shown = run.dir.path().display().to_string();
    Story::new(context.events()).started(&run.head, &shown, is_resumed);
    let guarded = identity.user_id.clone().filter(|_| !settings.allow_self);
    let mut rules = Rules::new(&settings.protected, guarded);
    let mut preflight = std::mem::take(&mut run.preflight);
    rules.add_row_problems(std::mem::take(&mut preflight.relations.problems));
    let preflight = Arc::new(preflight);
    let lookup = lookup(run, &connection, &preflight, first_emails, &stages)?;
    let has_rows_left = resume.done_count() < run.head.rows as usize;
    let preparation = Preparation {
        context,
        settings,
        run,
        connection: &connection,
        stages: &stages,
        lookup: &lookup,
        preflight: &preflight,
        stop: &stop,
        is_resumed,
    };
    let is_ready = if has_rows_left {
        match preparation.prepare(&mut rules).await {
            Ok(thought) => {
                started += thought;
                true
            }
            // Rows that were not started are reported as not attempted, as with any other stop.
            Err(_) if stop.is_raised() => false,
            Err(error) => return Err(error),
        }
    } else {
        true
    };
    stages.end();
    Ok(Session {
        stop,
        gateway,
        preflight,
        lookup,
        rules: Arc::new(rules),
        resume,
        journal,
        started,
        is_resumed,
        is_ready,
        _lock: lock,
        _connection: connection,
    })
}

/// Locks the organization, unless the run only reads.
fn lock(settings: &Settings, run: &PreparedRun) -> Result<Option<Lock>, RunError> {
    if settings.dry_run {
        return Ok(None);
    }
    let locks = settings.lock_dir.clone().unwrap_or_else(default_dir);
    let organization = run.head.organization.as_deref();
    let lock = Lock::take(&locks, &run.head.base_url, organization, run.dir.path())?;
    Ok(Some(lock))
}

/// Creates the journal of a new run, or reopens that of a resumed one. `newly_bound` is the organization of a run that
/// was not bound before.
fn open_journal(
    run: &PreparedRun,
    resumed: Option<(JournalExtent, JournalIndex)>,
    newly_bound: Option<String>,
) -> Result<Journal, RunDirError> {
    let path = run.dir.journal();
    let Some((extent, index)) = resumed else {
        return Journal::create(&path, run.head.clone()).map_err(|source| run.dir.error(source));
    };
    let reopen = || {
        let mut journal = Journal::reopen(&path, extent, index)?;
        journal.add_now(&Record::Resumed(now()))?;
        if let Some(id) = newly_bound {
            journal.add_now(&Record::Organization(id))?;
        }
        Ok(journal)
    };
    reopen().map_err(|source| run.dir.error(source))
}

impl PreparedRun {
    /// Binds the run to the organization of the credentials, and returns its id if the run was not bound before. A run
    /// that is bound to another organization, or whose organization can't be verified, is refused.
    fn bind(
        &mut self,
        identity: &Identity,
        is_resumed: bool,
        is_stopped: bool,
    ) -> Result<Option<String>, RunError> {
        let what = if is_resumed { "run" } else { "plan" };
        match (&self.head.organization, &identity.organization_id) {
            (Some(own), Some(found)) if own != found => Err(RunError::Refused(format!(
                "the credentials belong to organization {found}, but this {what} belongs to {own}: use the credentials of that organization"
            ))),
            // Nothing is sent after a stop.
            (Some(own), None) if !is_stopped => Err(RunError::Refused(format!(
                "this {what} belongs to organization {own}, and the API does not say to which one the credentials belong: use credentials that may read members or whoami"
            ))),
            (None, found) => {
                self.head.organization.clone_from(found);
                Ok(found.clone())
            }
            _ => Ok(None),
        }
    }
}

/// Returns where the members of a run are, for people.
pub(super) fn place(head: &Head) -> String {
    let organization = head.organization.as_deref().unwrap_or("unknown");
    format!("organization {organization} at {}", head.base_url)
}

/// The gateway as the reporter sees it.
#[derive(Debug)]
struct GatewayMonitor {
    gateway: Arc<Gateway>,
    started: Instant,
}

impl RequestMonitor for GatewayMonitor {
    fn rate_status(&self) -> RateStatus {
        let pacer = self.gateway.pacer();
        RateStatus {
            outage: (self.gateway.outage()).map(|outage| (outage.trouble.name(), outage.lasts)),
            retries: self.gateway.stats().retries(),
            rate: pacer.rate(),
            inflight_limit: pacer.lowered_inflight_limit(),
            paused: pacer.paused_for(),
        }
    }

    fn latency(&self) -> Option<Latency> {
        let mut all = self.gateway.stats().take_latencies();
        all.sort_by(f32::total_cmp);
        let at = |percent: usize| {
            let index = (all.len() * percent / 100).min(all.len().saturating_sub(1));
            all.get(index).map(|ms| f64::from(*ms).round())
        };
        Some(Latency {
            median_ms: at(50)?,
            p95_ms: at(95)?,
        })
    }

    fn totals(&self) -> RequestTotals {
        let stats = self.gateway.stats();
        RequestTotals {
            requests: stats.requests(),
            retries: stats.retries(),
            by_status: stats.by_status().into_iter().collect(),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}

impl Session {
    async fn run(
        self,
        context: &Context,
        settings: &Settings,
        run: &PreparedRun,
    ) -> Result<u8, RunError> {
        let input = InputNotes {
            trimmed: self.preflight.trimmed,
            blank_rows: self.preflight.blank_rows,
            warnings: self.preflight.warning_lines(),
        };
        let stop = Arc::clone(&self.stop);
        let monitor = GatewayMonitor {
            gateway: Arc::clone(&self.gateway),
            started: self.started,
        };
        if !self.is_ready {
            let reported = ReporterOutput::without_rows(self.journal, monitor.totals());
            return finish(context, settings, &run.dir, reported, &stop, &input);
        }
        let mut progress = ProgressDisplay::new(
            context.output.clone(),
            run.head.rows.into(),
            Visibility::of(settings),
        );
        progress.skip(self.resume.done_count() as u64);
        let (events, incoming) = mpsc::channel(EVENTS_WAITING);
        let (tasks, taken) = mpsc::channel(ROWS_WAITING);
        let reporter = Reporter {
            journal: self.journal,
            progress,
            story: Story::new(context.events()),
            output: context.output.clone(),
            options: ReporterOptions {
                verbose: settings.verbose,
                quiet: settings.quiet,
                place: place(&run.head),
            },
            monitor: Box::new(monitor),
            stop: Arc::clone(&stop),
        };
        let worker = Arc::new(Worker {
            gateway: self.gateway,
            lookup: self.lookup,
            rules: self.rules,
            limits: FailureLimits::new(
                settings.abort_on_update_fail,
                settings.max_failures,
                Arc::clone(&stop),
            ),
            canary: Canary::new(if settings.dry_run { 0 } else { settings.canary }),
            events: events.clone(),
            stop: Arc::clone(&stop),
            options: WorkerOptions {
                dry_run: settings.dry_run,
                send_unchanged: settings.send_unchanged,
                is_resumed: self.is_resumed,
            },
        });
        let producer = Producer {
            preflight: self.preflight,
            resume: self.resume,
            events,
            stop: Arc::clone(&stop),
        };
        let rows = open_rows(&run.head, &run.dir)?;
        let reporter_task = tokio::spawn(reporter.run(incoming));
        let (read, ()) = tokio::join!(
            producer.run(rows, tasks),
            scheduler::run(taken, worker, settings.concurrency)
        );
        let mut output = reporter_task
            .await
            .map_err(|error| RunError::Recording(format!("the reporter failed: {error}")))?;
        if let Err(error) = read {
            // The copy was read before, and is gone or changed now. What was done is recorded.
            stop.raise(StopReason::Recording);
            output.error.get_or_insert(io::Error::other(error));
        }
        finish(context, settings, &run.dir, output, &stop, &input)
    }
}
