//! One run, from signing in to its summary.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::embedded::Embedded;
use super::finish::finish;
use super::jobs::{Job, Resumed};
use super::prepare::Preparing;
use super::signals::listen;
use super::{Context, EMBEDDED, RunError};
use crate::directory::Key;
use crate::event::Before;
use crate::gateway::{Cause, Gateway, GatewayOptions};
use crate::input::Preflight;
use crate::lock::{Lock, default_dir};
use crate::lookup::Lookup;
use crate::output::has_terminal;
use crate::pace::Pacer;
use crate::pace::search::SearchOptions;
use crate::pipeline::canary::Canary;
use crate::pipeline::limits::Limits;
use crate::pipeline::producer::Producer;
use crate::pipeline::rules::Rules;
use crate::pipeline::scheduler;
use crate::pipeline::worker::{Worker, WorkerOptions};
use crate::report::journal::{Extent, Index, InputKind, Journal, Record, Sent};
use crate::report::ledger::open_rows;
use crate::report::preview::Preview;
use crate::report::progress::Progress;
use crate::report::reporter::{Reporter, ReporterOptions, Told};
use crate::report::summary::now;
use crate::settings::{Rate, Settings};
use crate::sigma::{AttemptError, Client, ClientOptions, Identity, Request};
use crate::stop::{Stop, StopReason};

/// Rows that wait to be taken: enough that reading never holds up the workers.
const ROWS_WAITING: usize = 256;
/// Events that wait to be told: full, they hold up the workers until the disk has kept up.
const EVENTS_WAITING: usize = 1024;

/// Brings a run to its end, and answers the exit code.
///
/// # Errors
/// If it can't begin, and then its directory is gone again; or if what it did can't be written.
pub(super) async fn execute(
    context: &Context,
    settings: Settings,
    mut job: Job,
) -> Result<u8, RunError> {
    let dir = job.dir.clone();
    let is_new = job.resumed.is_none();
    let resumed = job.resumed.take();
    let began = match begin(context, &settings, &mut job, resumed).await {
        Ok(began) => began,
        Err(error) => {
            if is_new {
                dir.discard();
            }
            return Err(error);
        }
    };
    began.go(context, &settings, &job).await
}

/// A run that is about to send its first change, or was stopped before it could.
struct Running {
    stop: Arc<Stop>,
    gateway: Arc<Gateway>,
    preflight: Arc<Preflight>,
    lookup: Arc<Lookup>,
    rules: Arc<Rules>,
    before: Before,
    journal: Journal,
    started: Instant,
    /// Everything is known that must be before the first change; else the run was stopped.
    ready: bool,
    _lock: Option<Lock>,
    _embedded: Option<Embedded>,
}

/// Signs in, locks, and finds out what must be known before the first change.
async fn begin(
    context: &Context,
    settings: &Settings,
    job: &mut Job,
    resumed: Option<Resumed>,
) -> Result<Running, RunError> {
    let mut started = Instant::now();
    let stop = Arc::new(Stop::default());
    listen(&stop, settings, &context.output)?;
    let embedded = if job.head.base_url == EMBEDDED {
        Some(Embedded::start()?)
    } else {
        None
    };
    let base_url = embedded
        .as_ref()
        .map_or_else(|| job.head.base_url.clone(), |sandbox| sandbox.url.clone());
    let gateway = Arc::new(gateway(settings, base_url, &stop)?);
    let identity = sign_in(&gateway, &job.head.base_url).await?;
    let newly_bound = job.bind(&identity, resumed.is_some())?;
    let lock = if settings.dry_run {
        None
    } else {
        let locks = settings.lock_dir.clone().unwrap_or_else(default_dir);
        Some(Lock::take(
            &locks,
            &job.head.base_url,
            job.head.organization.as_deref(),
            job.dir.path(),
        )?)
    };
    let is_resumed = resumed.is_some();
    let (before, started_as, journal) = match resumed {
        Some(resumed) => (resumed.before, resumed.started_as, Some(resumed.journal)),
        None => Default::default(),
    };
    if is_resumed {
        job.dir.take()?;
    }
    let mut journal = open_journal(job, journal).map_err(|source| job.dir.error(source))?;
    if let Some(id) = newly_bound.filter(|_| is_resumed) {
        journal
            .add_now(&Record::Organization(id))
            .map_err(|source| job.dir.error(source))?;
    }
    let own_id = identity.user_id.filter(|_| !settings.allow_self);
    let mut rules = Rules::new(&settings.protected, own_id);
    let preflight = Arc::new(std::mem::take(&mut job.preflight));
    let key = match job.head.kind {
        InputKind::Csv => Key::Email,
        InputKind::Plan => Key::Id,
    };
    let fields = open_rows(&job.head, &job.dir)?.fields();
    let lookup = Arc::new(Lookup::new(
        Arc::clone(&gateway),
        Arc::clone(&preflight),
        key,
        &fields,
        started_as,
    ));
    let preparing = Preparing {
        context,
        settings,
        job,
        gateway: &gateway,
        lookup: &lookup,
        preflight: &preflight,
        stop: &stop,
        nothing_left: before.done.iter().skip(1).filter(|done| **done).count()
            == job.head.rows as usize,
    };
    let ready = match preparing.prepare(&mut rules, is_resumed).await {
        Ok(thought) => {
            started += thought;
            true
        }
        // What is not begun is not attempted; all the rest is as with any other stop.
        Err(_) if stop.is_raised() => false,
        Err(error) => return Err(error),
    };
    Ok(Running {
        stop,
        gateway,
        preflight,
        lookup,
        rules: Arc::new(rules),
        before,
        journal,
        started,
        ready,
        _lock: lock,
        _embedded: embedded,
    })
}

impl Job {
    /// Binds the run to the organization of the credentials, which is answered if it was not bound before; one that is
    /// bound to another is refused.
    fn bind(&mut self, identity: &Identity, resumed: bool) -> Result<Option<String>, RunError> {
        match (&self.head.organization, &identity.organization_id) {
            (Some(own), Some(found)) if own != found => Err(RunError::Refused(format!(
                "the credentials are of organization {found}, and this {} is of {own}: use that one's credentials",
                if resumed { "run" } else { "plan" },
            ))),
            (None, found) => {
                self.head.organization.clone_from(found);
                Ok(found.clone())
            }
            _ => Ok(None),
        }
    }
}

fn gateway(settings: &Settings, base_url: String, stop: &Arc<Stop>) -> Result<Gateway, RunError> {
    let client = Client::new(&ClientOptions {
        base_url,
        timeout: settings.timeout,
        connections: settings.concurrency,
        ca_cert: settings.ca_cert.clone(),
    })?;
    let options = GatewayOptions {
        retries: settings.retries,
    };
    let pacer = Pacer::new(&SearchOptions {
        ceiling: match settings.rate {
            Rate::Ceiling(rate) if rate > 0.0 => Some(rate),
            _ => None,
        },
        // Who names a rate, or none, knows the API.
        gentle_start: settings.rate == Rate::Auto,
        max_capacity: settings.max_capacity,
        most_at_once: settings.concurrency,
    });
    Ok(Gateway::new(
        client,
        settings.credentials()?,
        pacer,
        options,
        Arc::clone(stop),
    ))
}

/// Who the credentials belong to; nobody is known if the run was stopped meanwhile.
async fn sign_in(gateway: &Gateway, host: &str) -> Result<Identity, RunError> {
    let failure = match gateway.call(Request::Whoami).await {
        Ok(reply) => {
            let identity = Identity::parse(&reply.answer.body).unwrap_or_default();
            if identity.user_id.is_none() {
                tracing::warn!(
                    why = "the answer names no user",
                    "the API does not tell who the credentials belong to, so that their own user is not protected"
                );
            }
            return Ok(identity);
        }
        Err(failure) => failure,
    };
    let why = failure.cause.to_string();
    let remedy = remedy(&failure.cause);
    match failure.cause {
        Cause::Stopped => Ok(Identity::default()),
        // Signed in all the same: not every organization need have it.
        Cause::Attempt(AttemptError::Status(error))
            if matches!(error.status, 403 | 404 | 405 | 410 | 501) =>
        {
            tracing::warn!(%why, "the API does not tell who the credentials belong to, so that their own user is not protected");
            Ok(Identity::default())
        }
        Cause::SignIn(_) | Cause::Attempt(_) => Err(RunError::SignIn {
            host: host.to_owned(),
            why: format!(
                "{}{remedy}",
                why.strip_prefix("signing in failed: ").unwrap_or(&why)
            ),
        }),
    }
}

/// What to do when the API lets nobody in.
const fn remedy(cause: &Cause) -> &'static str {
    match cause {
        Cause::SignIn(AttemptError::Status(error)) if matches!(error.status, 400 | 401 | 403) => {
            "; check SIGMA_CLIENT_ID and SIGMA_CLIENT_SECRET, and that --cloud is that of their organization"
        }
        Cause::SignIn(AttemptError::Status(_) | AttemptError::Unreadable { .. }) => {
            "; check that --cloud, --env or --base-url is the API's address"
        }
        Cause::SignIn(
            AttemptError::Connect(_) | AttemptError::Timeout(_) | AttemptError::Lost(_),
        ) => "; check the address (--cloud, --base-url), the network, and the proxy (HTTPS_PROXY)",
        _ => "",
    }
}

fn open_journal(job: &Job, resumed: Option<(Extent, Index)>) -> io::Result<Journal> {
    let Some((extent, index)) = resumed else {
        return Journal::create(&job.dir.journal(), job.head.clone());
    };
    let mut journal = Journal::reopen(&job.dir.journal(), extent, index)?;
    journal.add_now(&Record::Resumed(now()))?;
    Ok(journal)
}

impl Running {
    async fn go(
        mut self,
        context: &Context,
        settings: &Settings,
        job: &Job,
    ) -> Result<u8, RunError> {
        let trimmed = self.preflight.trimmed;
        let stop = Arc::clone(&self.stop);
        if !self.ready {
            return finish(
                context,
                settings,
                &job.dir,
                Told::nothing(self.journal, Sent::of(self.gateway.stats(), self.started)),
                &stop,
                trimmed,
            );
        }
        let shown = !settings.quiet && !settings.no_progress;
        let mut progress = Progress::new(
            context.output.clone(),
            job.head.rows.into(),
            shown && has_terminal(),
            shown && !has_terminal(),
        );
        progress.skip(self.before.done.iter().filter(|done| **done).count() as u64);
        let (events, told) = mpsc::channel(EVENTS_WAITING);
        let (jobs, taken) = mpsc::channel(ROWS_WAITING);
        let reporter = Reporter {
            journal: self.journal,
            progress,
            preview: Preview::default(),
            output: context.output.clone(),
            options: ReporterOptions {
                verbose: settings.verbose,
                quiet: settings.quiet,
            },
            gateway: Arc::clone(&self.gateway),
            stop: Arc::clone(&stop),
            began: self.started,
        };
        let worker = Arc::new(Worker {
            gateway: self.gateway,
            lookup: self.lookup,
            rules: Arc::clone(&self.rules),
            limits: Limits::new(
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
            },
        });
        let producer = Producer {
            preflight: self.preflight,
            rules: self.rules,
            before: std::mem::take(&mut self.before),
            events,
            stop: Arc::clone(&stop),
        };
        let rows = open_rows(&job.head, &job.dir)?;
        let reporting = tokio::spawn(reporter.run(told));
        let (read, ()) = tokio::join!(
            producer.run(rows, jobs),
            scheduler::run(taken, worker, settings.concurrency)
        );
        let mut told = reporting
            .await
            .map_err(|error| RunError::Recording(format!("the reporter ended: {error}")))?;
        if let Err(error) = read {
            // The copy was read before; now it is gone or changed. What was done is recorded.
            stop.raise(StopReason::Recording);
            told.trouble.get_or_insert(io::Error::other(error));
        }
        finish(context, settings, &job.dir, told, &stop, trimmed)
    }
}
