//! One run, from signing in to its summary.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Context, EMBEDDED, Job, Resumed, RunError, json_line, plan_head};
use crate::change::diff;
use crate::cli::{for_real, with_csv};
use crate::directory::{Found, Key};
use crate::event::Before;
use crate::gateway::{Cause, Gateway, GatewayOptions};
use crate::input::plan::PlanRow;
use crate::input::relations::contradictions;
use crate::input::{Ask, Entry, Preflight};
use crate::lock::{Lock, default_dir};
use crate::lookup::{Lookup, LookupError};
use crate::output::{
    Lines, Plain, count, grouped, has_terminal, is_interactive, stdout_has_colour,
};
use crate::pace::Pacer;
use crate::pace::search::SearchOptions;
use crate::pipeline::canary::Canary;
use crate::pipeline::limits::Limits;
use crate::pipeline::producer::Producer;
use crate::pipeline::rules::Rules;
use crate::pipeline::scheduler;
use crate::pipeline::worker::{Worker, WorkerOptions};
use crate::report::RunDir;
use crate::report::files::{Ledger, Totals, open_rows};
use crate::report::journal::{Head, InputKind, Journal, Record};
use crate::report::preview::Preview;
use crate::report::progress::Progress;
use crate::report::reporter::{Reporter, ReporterOptions, Told};
use crate::report::rundir::private_file;
use crate::report::summary::{Ending, Next, Summary, now, quoted};
use crate::sandbox::{self, Sandbox};
use crate::settings::{Rate, Settings};
use crate::sigma::{AttemptError, Client, ClientOptions, Identity, Request, TypesPage};
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
    listen(&stop, settings)?;
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
    job.bind(&identity, resumed.is_some())?;
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
    let journal = open_journal(job, resumed.as_ref()).map_err(|source| job.dir.error(source))?;
    let is_resumed = resumed.is_some();
    let (before, started_as) = resumed
        .map(|resumed| (resumed.before, resumed.started_as))
        .unwrap_or_default();
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
    /// Binds the run to the organization of the credentials; one that is bound to another is refused.
    fn bind(&mut self, identity: &Identity, resumed: bool) -> Result<(), RunError> {
        match (&self.head.organization, &identity.organization_id) {
            (Some(own), Some(found)) if own != found => Err(RunError::Refused(format!(
                "the credentials are of organization {found}, and this {} is of {own}: use that one's credentials",
                if resumed { "run" } else { "plan" },
            ))),
            (None, found) => {
                self.head.organization.clone_from(found);
                Ok(())
            }
            _ => Ok(()),
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
        Ok(reply) => return Ok(Identity::parse(&reply.answer.body).unwrap_or_default()),
        Err(failure) => failure,
    };
    let why = gateway.without_secrets(&failure.cause.to_string());
    let remedy = remedy(&failure.cause);
    match failure.cause {
        Cause::Stopped => Ok(Identity::default()),
        // Signed in all the same: not every organization need have it.
        Cause::Attempt(AttemptError::Status(error))
            if matches!(error.status, 403 | 404 | 405 | 410 | 501) =>
        {
            tracing::warn!(%why, "the API does not tell who the credentials belong to");
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

fn open_journal(job: &Job, resumed: Option<&Resumed>) -> io::Result<Journal> {
    let mut journal = match resumed {
        None => {
            let mut journal = Journal::create(&job.dir.journal())?;
            journal.add(&Record::Head(job.head.clone()))?;
            journal
        }
        Some(resumed) => {
            let mut journal = Journal::reopen(&job.dir.journal(), resumed.journal)?;
            journal.add(&Record::Resumed(now()))?;
            journal
        }
    };
    journal.finish()?;
    Ok(journal)
}

/// What would become of the rows.
#[derive(Debug, Default)]
struct Forecast {
    changed: u64,
    as_wanted: u64,
    /// Rows that are wrong, and those whose member is not there.
    impossible: u64,
}

/// What is needed to find out what must be known before the first change.
struct Preparing<'a> {
    context: &'a Context,
    settings: &'a Settings,
    job: &'a Job,
    gateway: &'a Gateway,
    lookup: &'a Lookup,
    preflight: &'a Preflight,
    stop: &'a Stop,
    /// Every row has its outcome already.
    nothing_left: bool,
}

impl Preparing<'_> {
    /// Answers how long a person thought about it, which is not the run's time.
    async fn prepare(&self, rules: &mut Rules, is_resumed: bool) -> Result<Duration, RunError> {
        if self.nothing_left {
            return Ok(Duration::ZERO);
        }
        if self.preflight.stray_companions > 0 {
            tracing::warn!(
                rows = self.preflight.stray_companions,
                "some rows set newOwner, archiveDocuments or archiveScheduledExports without isArchived or isInactive true; the API documents them only together"
            );
        }
        if !self.preflight.member_types.is_empty()
            && let Some(types) = self.account_types().await
        {
            rules.set_types(types);
        }
        let counting = self.settings.max_changes.is_some();
        self.lookup
            .prepare(self.settings.lookup, counting, self.settings.concurrency)
            .await
            .map_err(|error| self.not_listed(&error))?;
        self.settle_spellings(rules).await?;
        if self.settings.strict && !is_resumed {
            self.refuse_wrong_rows(rules)?;
        }
        let asks = !self.settings.yes && is_interactive();
        if is_resumed || self.settings.dry_run || !(counting || asks) {
            return Ok(Duration::ZERO);
        }
        let forecast = if self.lookup.is_listed() || counting {
            Some(self.forecast(rules)?)
        } else {
            None
        };
        if let (Some(most), Some(forecast)) = (self.settings.max_changes, &forecast)
            && most.is_exceeded(forecast.changed, self.preflight.rows.into())
        {
            return Err(RunError::Refused(format!(
                "{} would be changed, which is more than --max-changes allows: nothing was sent; look with --dry-run",
                count(forecast.changed, "member")
            )));
        }
        let asked_at = Instant::now();
        if asks && !self.is_agreed(forecast.as_ref()).await {
            return Err(RunError::Refused("nothing was sent".to_owned()));
        }
        Ok(asked_at.elapsed())
    }

    fn not_listed(&self, error: &LookupError) -> RunError {
        let message = self.gateway.without_secrets(&error.to_string());
        match error {
            LookupError::List(Cause::SignIn(_)) | LookupError::Each(Cause::SignIn(_)) => {
                RunError::SignIn {
                    host: self.job.head.base_url.clone(),
                    why: message,
                }
            }
            _ => RunError::Api(message),
        }
    }

    /// The organization's account types, where the credentials may read them.
    async fn account_types(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let reply = match self
                .gateway
                .call(Request::AccountTypes {
                    page: page.as_deref(),
                })
                .await
            {
                Ok(reply) => reply,
                Err(failure) => {
                    let cause = self.gateway.without_secrets(&failure.cause.to_string());
                    tracing::info!(%cause, "account types are not checked beforehand");
                    return None;
                }
            };
            let (more, next) = TypesPage::parse(&reply.answer.body).ok()?.into_parts();
            let ended = more.is_empty();
            names.extend(more);
            if ended || next.is_none() || next == page {
                return Some(names).filter(|names| !names.is_empty());
            }
            page = next;
        }
    }

    /// Rows whose emails differ in case alone may mean one member: then they must not contradict one another.
    async fn settle_spellings(&self, rules: &mut Rules) -> Result<(), RunError> {
        for claims in &self.preflight.relations.mixed {
            let mut of_member: BTreeMap<Box<str>, Vec<_>> = BTreeMap::new();
            for claim in claims {
                let found = self.lookup.email(&claim.email).await;
                let found = found.map_err(|failure| {
                    let cause = failure.cause.to_string();
                    RunError::Api(self.gateway.without_secrets(&cause))
                })?;
                if let Found::One(member) = found {
                    of_member.entry(member.id).or_default().push(claim);
                }
            }
            for claims in of_member.values() {
                rules.add_problems(contradictions(claims));
            }
        }
        Ok(())
    }

    /// With `--strict`, rows that are wrong by what the API told are as bad as those that are wrong by themselves.
    fn refuse_wrong_rows(&self, rules: &Rules) -> Result<(), RunError> {
        let mut rows = open_rows(&self.job.head, &self.job.dir)?;
        while let Some((_, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && let Some(problem) = rules.problem(&row)
            {
                return Err(RunError::Refused(format!(
                    "line {} is wrong, and --strict is given: nothing was sent\n  line {0}: {problem}",
                    row.line
                )));
            }
        }
        Ok(())
    }

    /// What would become of the rows, as far as it is known without a further request.
    fn forecast(&self, rules: &Rules) -> Result<Forecast, RunError> {
        let mut forecast = Forecast::default();
        let mut rows = open_rows(&self.job.head, &self.job.dir)?;
        while let Some((_, entry)) = rows.next_entry()? {
            let row = match entry {
                Entry::Row(row)
                    if !self.preflight.relations.problems.contains_key(&row.number)
                        && rules.problem(&row).is_none() =>
                {
                    row
                }
                _ => {
                    forecast.impossible += 1;
                    continue;
                }
            };
            let is_change = match (&row.ask, self.lookup.known(&row)) {
                (Ask::Wanted(wanted), _) if wanted.is_empty() => false,
                (Ask::Wanted(wanted), Some(Found::One(member))) => {
                    !diff(&member, wanted, self.settings.send_unchanged).is_empty()
                }
                (Ask::Planned { changes, .. }, Some(Found::One(member))) => !member.bears(changes),
                _ => {
                    forecast.impossible += 1;
                    continue;
                }
            };
            if is_change {
                forecast.changed += 1;
            } else {
                forecast.as_wanted += 1;
            }
        }
        Ok(forecast)
    }

    async fn is_agreed(&self, forecast: Option<&Forecast>) -> bool {
        let rows = self.preflight.rows;
        let what = match forecast {
            Some(forecast) => format!(
                "{} to change, {} as wanted already, {} not possible",
                grouped(forecast.changed),
                grouped(forecast.as_wanted),
                grouped(forecast.impossible)
            ),
            None => {
                let bad = self.preflight.bad_rows.min(rows);
                format!(
                    "at most {} to change, {} not possible",
                    grouped((rows - bad).into()),
                    grouped(bad.into())
                )
            }
        };
        let question = format!(
            "{} in {}: {what}; at {} (organization {}).\nGo on? [y/N]",
            count(rows.into(), "row"),
            Plain(&self.job.head.input),
            self.job.head.base_url,
            self.job.head.organization.as_deref().unwrap_or("unknown"),
        );
        let output = self.context.output.clone();
        let answer = tokio::task::spawn_blocking(move || output.ask(Lines(question)));
        tokio::select! {
            answer = answer => match answer {
                Ok(Ok(answer)) => matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"),
                _ => false,
            },
            () = self.stop.raised() => false,
        }
    }
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
                Told::nothing(self.journal),
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

/// Makes the files of what the journal says, and tells how it ended.
fn finish(
    context: &Context,
    settings: &Settings,
    dir: &RunDir,
    mut told: Told,
    stop: &Stop,
    trimmed: u64,
) -> Result<u8, RunError> {
    let unwritable = |error: &dyn std::fmt::Display| {
        RunError::Recording(format!(
            "{error}\nWhat was sent stands in the journal. When the disk has room again: sigma-bulk resume {}",
            quoted(&dir.path().display().to_string())
        ))
    };
    let mut ledger = Ledger::read(dir).map_err(|error| unwritable(&error))?;
    let totals = ledger
        .write_files(dir)
        .map_err(|error| unwritable(&error))?;
    if let Some(path) = &settings.save_plan {
        save_plan(&mut ledger, dir, path)?;
    }
    let next = next_commands(context, settings, ledger.head(), dir);
    let trouble = told.trouble.as_ref().map(ToString::to_string);
    let ending = Ending {
        stop: stop.reason(),
        dry_run: settings.dry_run,
        embedded: ledger.head().base_url == EMBEDDED,
        trouble: trouble.as_deref(),
        next: &next,
        trimmed,
    };
    let summary = Summary::new(&totals, &ending, dir.path());
    summary.write(dir).map_err(|error| unwritable(&error))?;
    if told.trouble.is_none() {
        let ended = Record::Ended {
            stop: summary.stop.clone(),
            exit_code: summary.exit_code,
            at: summary.finished_at.clone(),
        };
        told.journal
            .add(&ended)
            .and_then(|()| told.journal.finish())
            .map_err(|error| unwritable(&error))?;
    }
    show(context, settings, &summary, &totals, &ending, told.preview);
    Ok(summary.exit_code)
}

/// The commands that may come next: those of this one's words, if they say what is to be done.
pub(super) fn next_commands(
    context: &Context,
    settings: &Settings,
    head: &Head,
    dir: &RunDir,
) -> Next {
    let args = context.args.get(1..).unwrap_or_default();
    let command = args.first().map(|word| word.to_string_lossy());
    let own = (command.is_some_and(|command| command == head.command)).then(|| for_real(args));
    let path = |path: &Path| path.display().to_string();
    let elsewhere = |words: [&str; 2]| -> Vec<String> {
        [words[0], words[1], "--base-url", &head.base_url]
            .map(str::to_owned)
            .into()
    };
    let mut real = match (&settings.save_plan, &own, head.kind) {
        (Some(plan), _, _) => vec!["apply".to_owned(), path(plan)],
        (None, Some(own), _) => own.clone(),
        (None, None, InputKind::Csv) => elsewhere(["update", &path(&dir.input())]),
        (None, None, InputKind::Plan) => vec!["apply".to_owned(), path(&dir.plan())],
    };
    // The directory that the environment or the configuration names is this run's.
    if settings.save_plan.is_none()
        && let (Some(taken), None) = (&settings.run_dir, &context.flags.run_dir)
    {
        real.extend([
            "--run-dir".to_owned(),
            format!("{}-for-real", taken.display()),
        ]);
    }
    let failed = path(&dir.failed());
    let mended = match (own, &settings.csv) {
        (Some(own), Some(csv)) if head.command == "update" => with_csv(&own, &path(csv), &failed),
        _ => elsewhere(["update", &failed]),
    };
    let typed = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        format!("sigma-bulk {}", words.join(" "))
    };
    Next {
        for_real: typed(real),
        mended: typed(mended),
    }
}

fn save_plan(ledger: &mut Ledger, dir: &RunDir, path: &Path) -> Result<(), RunError> {
    let failing = |source: io::Error| {
        RunError::Recording(format!(
            "the plan {} can't be written: {source}",
            path.display()
        ))
    };
    let mut file = io::BufWriter::new(private_file(path).map_err(failing)?);
    json_line(&mut file, &plan_head(ledger.head(), &ledger.head().input)).map_err(failing)?;
    ledger.previewed(dir, |row: PlanRow| json_line(&mut file, &row))?;
    file.flush()
        .and_then(|()| file.get_ref().sync_data())
        .map_err(failing)
}

/// Shows how a run ended.
pub(super) fn show(
    context: &Context,
    settings: &Settings,
    summary: &Summary,
    totals: &Totals,
    ending: &Ending<'_>,
    preview: Preview,
) {
    if settings.json {
        context.output.print(summary.json());
        return;
    }
    let colour = stdout_has_colour();
    if ending.dry_run {
        context.output.print(preview.render(colour));
    }
    context.output.print(summary.render(totals, ending, colour));
}

/// A sandbox on a thread of its own, so that it does not take the run's time.
struct Embedded {
    url: String,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Embedded {
    fn start() -> Result<Self, RunError> {
        let (started, is_started) = std::sync::mpsc::channel();
        let (end, is_ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let serve = async {
                let sandbox =
                    Sandbox::start(([127, 0, 0, 1], 0).into(), sandbox::Config::default()).await?;
                let _ = started.send(Ok(sandbox.url()));
                sandbox.serve_until(is_ended).await;
                Ok(())
            };
            let served = runtime
                .map_err(RunError::Runtime)
                .and_then(|runtime| runtime.block_on(serve));
            if let Err(error) = served {
                let _ = started.send(Err(error));
            }
        });
        let url = is_started
            .recv()
            .map_err(|error| RunError::Runtime(io::Error::other(error)))??;
        Ok(Self { url, _end: end })
    }
}

/// Raises the stop at signals and at the deadline; the second signal ends the process at once.
fn listen(stop: &Arc<Stop>, settings: &Settings) -> Result<(), RunError> {
    if let Some(deadline) = settings.deadline {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            stop.raise(StopReason::Deadline);
        });
    }
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [
            (SignalKind::interrupt(), StopReason::Interrupt),
            (SignalKind::terminate(), StopReason::Terminate),
            (SignalKind::hangup(), StopReason::Hangup),
        ];
        for (kind, reason) in kinds {
            let mut signals = signal(kind).map_err(RunError::Runtime)?;
            let stop = Arc::clone(stop);
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let is_second = stop.reason().is_some_and(|held| held >= StopReason::Hangup);
                    // A terminal that goes may tell twice; whoever presses Ctrl-C twice means it.
                    if is_second && reason != StopReason::Hangup {
                        std::process::exit(i32::from(reason.exit_code()));
                    }
                    stop.raise(reason);
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.reason() == Some(StopReason::Interrupt) {
                    std::process::exit(i32::from(StopReason::Interrupt.exit_code()));
                }
                stop.raise(StopReason::Interrupt);
            }
        });
    }
    Ok(())
}
