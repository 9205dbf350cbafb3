//! The composition root: [`command`] makes of the command line a [`Job`], which [`execute`] brings to its end.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Cli, Command};
use crate::event::Before;
use crate::input::plan::{self, PlanHead, PlanReader};
use crate::input::{InputError, Preflight, Rows, Table, preflight, text};
use crate::lock::LockError;
use crate::output::{Output, Plain, count, has_terminal};
use crate::report::RunDir;
use crate::report::files::{FilesError, FirstEmails, Ledger, open_rows};
use crate::report::journal::{self, Head, InputKind};
use crate::report::preview::Preview;
use crate::report::rundir::RunDirError;
use crate::report::summary::{Ending, Summary, now};
use crate::sandbox::{self, Sandbox};
use crate::settings::{Layer, LogFormat, Settings, SettingsError};
use crate::sigma::client::ClientError;
use crate::sigma::hosts::{self, Environment};

mod execute;

use execute::{execute, next_commands, show};

/// What stands for the base URL of a run on the embedded sandbox, which ends with it.
const EMBEDDED: &str = "sandbox";

/// The run can't begin, or can't be brought to its end.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Host(#[from] hosts::HostError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("{0}")]
    Refused(String),
    #[error("could not sign in at {host}: {why}")]
    SignIn { host: String, why: String },
    #[error("{0}")]
    Api(String),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{0}")]
    Recording(String),
    #[error("the runtime can't be started: {0}")]
    Runtime(io::Error),
}

impl RunError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::SignIn { .. } | Self::Api(_) => 3,
            Self::Recording(_) | Self::Files(_) => 4,
            Self::Lock(LockError::Held { .. }) => 5,
            _ => 2,
        }
    }
}

/// Does what the command line says, and answers the exit code.
///
/// # Errors
/// If it can't be done; nothing was sent then, unless the error is of recording.
pub fn command(cli: &Cli, args: &[OsString], output: &Output) -> Result<u8, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    if let Command::Sandbox(args) = &cli.command {
        return runtime.block_on(serve_sandbox(args, output));
    }
    let flags = cli.command.layer();
    let on_argv = flags.client_secret.is_some();
    let context = Context {
        flags: flags.clone(),
        output: output.clone(),
        args: args.to_vec(),
    };
    let layers = flags
        .over(Layer::from_environment(|name| std::env::var(name).ok())?)
        .over(file_layer(cli)?);
    let mut settings = Settings::from_layers(layers)?;
    init_log(&settings, output)?;
    if (context.flags.cloud.is_some() || context.flags.env.is_some())
        && context.flags.base_url.is_none()
        && let Some(url) = &settings.base_url
    {
        tracing::warn!(%url, "the base URL from the environment or the configuration goes over --env and --cloud");
    }
    if on_argv {
        tracing::warn!(
            "--client-secret can be seen by everybody on this machine: set SIGMA_CLIENT_SECRET instead"
        );
    }
    if let Some(path) = &settings.save_plan {
        check_plan_path(path)?;
    }
    let job = match &cli.command {
        Command::Update { .. } => update(&settings)?,
        Command::Resume {
            dir, only_failed, ..
        } => resume(&context, &mut settings, dir, *only_failed)?,
        Command::Undo { dir, .. } => undo(&context, &settings, dir)?,
        Command::Apply { plan, .. } => apply(&context, &settings, plan)?,
        Command::Report { dir, .. } => return report(&context, &settings, dir),
        Command::Sandbox(_) => return Ok(0),
    };
    let code = runtime.block_on(execute(&context, settings, job));
    // A sync of the journal that hangs must not hold up the end.
    runtime.shutdown_background();
    code
}

fn file_layer(cli: &Cli) -> Result<Layer, SettingsError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let profile = cli
        .profile
        .clone()
        .or_else(|| variable("SIGMA_BULK_PROFILE").map(|name| name.to_string_lossy().into_owned()));
    let given = cli
        .config
        .clone()
        .or_else(|| variable("SIGMA_BULK_CONFIG").map(PathBuf::from));
    let usual = || {
        let home = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
        Some(home.join("sigma-bulk/config.toml")).filter(|path| path.is_file())
    };
    match given.or_else(usual) {
        Some(path) => Layer::from_file(&path, profile.as_deref()),
        None => match profile {
            Some(profile) => Err(SettingsError::NoFile(profile)),
            None => Ok(Layer::default()),
        },
    }
}

fn init_log(settings: &Settings, output: &Output) -> Result<(), RunError> {
    let level: LevelFilter = settings.log_level.parse().unwrap_or(LevelFilter::WARN);
    // Only this tool's own events: those of HTTP libraries hold URLs, and URLs hold emails.
    let targets = Targets::new().with_target("sigma_bulk", level);
    let registry = tracing_subscriber::registry().with(targets);
    // What a server says may stand in any field: its control characters could move the cursor or forge a line. (JSON has
    // escapes of its own.)
    let fields = debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", Plain(value)),
            name => write!(writer, "{name}={}", Plain(value)),
        }
    })
    .delimited(" ");
    let layer = tracing_subscriber::fmt::layer();
    match &settings.log_file {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(path).map_err(|source| {
                RunError::Refused(format!(
                    "--log-file {} can't be opened: {source}",
                    path.display()
                ))
            })?;
            let layer = layer.with_writer(Mutex::new(file)).with_ansi(false);
            match settings.log_format {
                LogFormat::Text => registry.with(layer.fmt_fields(fields)).init(),
                LogFormat::Json => registry.with(layer.json()).init(),
            }
        }
        None => {
            let output = output.clone();
            let colour =
                has_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let layer = layer.with_writer(move || output.clone()).with_ansi(colour);
            match settings.log_format {
                LogFormat::Text => registry
                    .with(layer.fmt_fields(fields).without_time().with_target(false))
                    .init(),
                LogFormat::Json => registry.with(layer.json()).init(),
            }
        }
    }
    Ok(())
}

async fn serve_sandbox(args: &sandbox::SandboxArgs, output: &Output) -> Result<u8, RunError> {
    let sandbox = Sandbox::start(args.addr(), args.config()?).await?;
    output.note(format_args!(
        "The sandbox serves {} on {url}; end it with Ctrl-C. Use it by --base-url {url}.",
        count(sandbox.member_count() as u64, "member"),
        url = sandbox.url(),
    ));
    sandbox
        .serve_until(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    Ok(0)
}

/// What all commands have in common.
struct Context {
    flags: Layer,
    output: Output,
    args: Vec<OsString>,
}

/// A run that is about to begin, or to go on.
struct Job {
    head: Head,
    dir: RunDir,
    preflight: Preflight,
    /// What a resume knows.
    resumed: Option<Resumed>,
}

struct Resumed {
    before: Before,
    started_as: FirstEmails,
    journal: journal::Extent,
}

// ── The commands ────────────────────────────────────────────────────────────────────────────────────────────────

fn update(settings: &Settings) -> Result<Job, RunError> {
    let csv = settings.csv.clone().ok_or_else(|| {
        RunError::Refused(
            "which CSV? Give its path, or - for standard input: sigma-bulk update members.csv"
                .to_owned(),
        )
    })?;
    let source = text::Source::from_arg(&csv);
    settings.credentials()?;
    let base_url = base_url(settings)?;
    let dir = new_dir(settings, &source.stem())?;
    if let text::Source::File(path) = &source {
        dir.check_source(path)?;
    }
    let (head, preflight) = or_discard(&dir, || {
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
    })?;
    Ok(Job {
        head,
        dir,
        preflight,
        resumed: None,
    })
}

fn resume(
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
        "save-plan",
        "strict",
        "send-unchanged",
        "run-dir",
        "max-changes",
    ];
    if let Some(flag) = context
        .flags
        .set_names()
        .into_iter()
        .find(|name| fixed.contains(&name.as_str()))
    {
        return Err(RunError::Refused(format!(
            "--{flag} can't be changed on a resume: it is the run's"
        )));
    }
    let dir = RunDir::open(path)?;
    let mut ledger = read_ledger(&dir)?;
    let head = ledger.head().clone();
    check_host(context, settings, &head.base_url)?;
    settings.credentials()?;
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
    let journal = ledger.extent();
    drop(ledger);
    let resumed = Some(Resumed {
        before,
        started_as,
        journal,
    });
    Ok(Job {
        head,
        dir,
        preflight,
        resumed,
    })
}

fn undo(context: &Context, settings: &Settings, path: &Path) -> Result<Job, RunError> {
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
    let dir = new_dir(settings, &format!("undo-{stem}"))?;
    let name = format!("the undo of {}", path.display());
    let (head, preflight) = or_discard(&dir, || {
        let mut file = io::BufWriter::new(dir.create_file(&dir.plan())?);
        let head = plan_head(&old, &name);
        json_line(&mut file, &head).map_err(|source| dir.error(source))?;
        ledger
            .undo(&from, |row| json_line(&mut file, &row))
            .map_err(refused)?;
        file.flush().map_err(|source| dir.error(source))?;
        planned(
            "undo",
            &name,
            &dir,
            &old.base_url,
            old.organization.clone(),
            settings,
        )
    })?;
    Ok(Job {
        head,
        dir,
        preflight,
        resumed: None,
    })
}

fn apply(context: &Context, settings: &Settings, path: &Path) -> Result<Job, RunError> {
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
    let dir = new_dir(settings, &stem)?;
    dir.check_source(path)?;
    let (head, preflight) = or_discard(&dir, || {
        let mut copy = dir.create_file(&dir.plan())?;
        text::spool(&text::Source::File(path.to_owned()), &mut copy)?;
        drop(copy);
        let organization = Some(organization).filter(|id| !id.is_empty());
        let made = planned("apply", &name, &dir, &base_url, organization, settings)?;
        strict(settings, &made.1)?;
        Ok(made)
    })?;
    Ok(Job {
        head,
        dir,
        preflight,
        resumed: None,
    })
}

fn report(context: &Context, settings: &Settings, path: &Path) -> Result<u8, RunError> {
    let dir = RunDir::open(path)?;
    let mut ledger = read_ledger(&dir)?;
    let head = ledger.head().clone();
    let totals = ledger.write_files(&dir)?;
    let ending = Ending {
        stop: None,
        dry_run: head.dry_run,
        embedded: head.base_url == EMBEDDED,
        trouble: None,
        next: &next_commands(context, settings, &head, &dir),
        trimmed: 0,
    };
    let mut summary = Summary::new(&totals, &ending, dir.path());
    match &totals.ended {
        Some(ended) => {
            summary.set_end(&ended.stop, ended.exit_code);
        }
        // It was killed, or still goes on.
        None => summary.set_end("error", 4),
    }
    summary.write(&dir)?;
    show(
        context,
        settings,
        &summary,
        &totals,
        &ending,
        Preview::default(),
    );
    Ok(summary.exit_code)
}

// ── Their common parts ──────────────────────────────────────────────────────────────────────────────────────────

/// What is made in a new run's directory; if it can't be, the directory goes again.
fn or_discard<T>(dir: &RunDir, make: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    make().inspect_err(|_| dir.discard())
}

/// A plan may be written over another one, but over nothing else.
fn check_plan_path(path: &Path) -> Result<(), RunError> {
    let name = path.display().to_string();
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

fn read_ledger(dir: &RunDir) -> Result<Ledger, RunError> {
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

fn new_dir(settings: &Settings, stem: &str) -> Result<RunDir, RunError> {
    Ok(match &settings.run_dir {
        Some(path) => RunDir::create(path)?,
        None => RunDir::create_named(Path::new("runs"), stem)?,
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

fn plan_head(head: &Head, made_from: &str) -> PlanHead {
    PlanHead {
        sigma_bulk_plan: plan::VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now(),
        base_url: head.base_url.clone(),
        organization: head.organization.clone().unwrap_or_default(),
        made_from: made_from.to_owned(),
        input_sha256: head.input_sha256.clone(),
    }
}

fn json_line(file: &mut impl io::Write, value: &impl serde::Serialize) -> io::Result<()> {
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
