//! The composition root: one file for each command, and the parts that commands share. [`main`] parses the command line,
//! runs the command, and returns the exit code.
//!
//! ```text
//!  update ┐
//!  undo   ├─► prepared ─► session ─► (signals, sign_in, preparation, pipeline, reporter) ─► finish ─► next_commands
//!  apply  │   run          one session of the run, from its first request to its summary
//!  resume ┘
//! ```
//!
//! `init`, `check` and `export` sign in and only read; `runs` and `report` send nothing; `documentation` has the rest.

mod after;
mod apply;
mod auto_resume;
mod check;
mod documentation;
mod embedded;
mod export;
mod finish;
mod init;
mod keyring;
mod logging;
mod next_commands;
mod outage_lines;
mod plan_file;
mod preparation;
mod prepared;
mod questions;
mod report;
mod resume;
mod runs;
mod serve;
mod session;
mod sign_in;
mod signals;
mod strict;
mod undo;
mod update;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use auto_resume::Decision;
use clap_complete::CompleteEnv;

use prepared::PreparedRun;
use tokio::runtime::Runtime;

use crate::cli::{COMPLETION_VARIABLE, Cli, Command};
use crate::exit_code;
use crate::input::InputError;
use crate::members::LookupError;
use crate::output::{Lines, Output};
use crate::report::events::EventStream;
use crate::report::progress::{Stages, Visibility};
use crate::sandbox::SandboxError;
use crate::settings::{CommandName, Layer, Settings, SettingsError, check_names, first_refused};
use crate::shell;
use crate::sigma::client::ClientError;
use crate::sigma::hosts::{self, Environment, HostError};
use crate::stop::StopReason;
use crate::store::journal::Origin;
use crate::store::lock::{Lock, LockError};
use crate::store::{HistoryError, RunDirError};

/// What stands in a journal for the base URL of the embedded sandbox, which ends with the run.
const EMBEDDED: &str = "sandbox";

/// A command can't start, or can't be completed.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The history of a run that is to be resumed, undone or reported can't be read.
    #[error(transparent)]
    Unreadable(HistoryError),
    #[error("{0}")]
    Refused(String),
    /// A signal has ended the questions of `init`.
    #[error("the configuration was not written")]
    Stopped(StopReason),
    #[error("could not sign in at {host}: {why}")]
    SignIn {
        host: String,
        why: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("line {line}: the member was not looked up before the run; please report it")]
    NotLookedUp { line: u64 },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{0}")]
    Recording(String),
    #[error("the result can't be written: {0}")]
    Printing(#[source] io::Error),
    #[error(
        "no temporary directory can be made: {0}; set TMPDIR to a directory that can be written"
    )]
    Temporary(#[source] io::Error),
    #[error("the runtime can't be started: {0}")]
    Runtime(#[source] io::Error),
}

impl RunError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::SignIn { .. } | Self::Lookup(_) | Self::NotLookedUp { .. } => exit_code::API,
            Self::Stopped(reason) => reason.exit_code(),
            Self::Recording(_) | Self::Printing(_) | Self::History(_) => exit_code::STOPPED,
            Self::Lock(LockError::Held { .. }) | Self::Dir(RunDirError::UnderWay { .. }) => {
                exit_code::LOCKED
            }
            _ => exit_code::USAGE,
        }
    }
}

/// What all commands have in common.
struct Context {
    command: CommandName,
    /// The settings that the flags give.
    flags: Layer,
    /// `--config` and `--profile`.
    config: Option<PathBuf>,
    profile: Option<String>,
    output: Output,
    /// Who starts a run, and how.
    origin: Origin,
    stages: OnceCell<Stages>,
    events: OnceCell<EventStream>,
}

impl Context {
    /// Returns where events are written.
    fn events(&self) -> EventStream {
        self.events.get().cloned().unwrap_or_default()
    }

    /// Returns the display of what the command is doing.
    fn stages(&self, settings: &Settings) -> Stages {
        let make = || Stages::new(&self.output, Visibility::of(settings));
        self.stages.get_or_init(make).clone()
    }
}

/// Runs the command line, the program's name first, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    CompleteEnv::with_factory(crate::cli::command)
        .var(COMPLETION_VARIABLE)
        .complete();
    let output = Output::default();
    let asks_json = args.iter().any(|word| word == "--json");
    let cli = match Cli::parse_from_words(args) {
        Ok(cli) => cli,
        Err(error) => {
            if asks_json && error.use_stderr() {
                let message = error.to_string();
                print_error(&output, message.trim_end(), exit_code::USAGE);
            }
            error.exit()
        }
    };
    let mut prints_json = asks_json;
    match run(&cli, &output, &mut prints_json) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if prints_json {
                print_error(&output, &error.to_string(), error.exit_code());
            }
            output.clear_bar();
            output.note(format_args!("error: {}", Lines(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints the one JSON document of a command that could not start, or could not write its summary.
fn print_error(output: &Output, message: &str, exit_code: u8) {
    let document = serde_json::json!({"error": message, "exit_code": exit_code});
    // If nobody reads it, the exit code still says it.
    let _ = output.print(format_args!("{document:#}\n"));
}

/// Runs a command. `prints_json` becomes whether the settings ask for JSON, once they are known.
fn run(cli: &Cli, output: &Output, prints_json: &mut bool) -> Result<u8, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let Some((command, flags)) = cli.command.layer() else {
        return match &cli.command {
            Command::Sandbox(args) => runtime.block_on(serve::serve(args, output)),
            other => documentation::show(other, output),
        };
    };
    if let Some(flag) = first_refused(&flags, command) {
        return Err(refused_flag(&flag, command));
    }
    let variable = || std::env::var("SIGMA_BULK_PROFILE").ok();
    let profile = cli.profile.clone().or_else(variable);
    let profile = profile.filter(|profile| !profile.is_empty());
    let mut context = Context {
        command,
        config: cli.config.clone(),
        profile: cli.profile.clone(),
        output: output.clone(),
        origin: Origin {
            command_line: command_line(command, &cli.command, &flags),
            os_user: whoami::username().unwrap_or_default(),
            profile: profile.clone(),
            ..Origin::default()
        },
        flags,
        stages: OnceCell::new(),
        events: OnceCell::new(),
    };
    let settings = settings(&mut context)?;
    *prints_json = settings.json;
    let result = match &cli.command {
        Command::Report {
            path,
            format,
            output,
            ..
        } => report::report(&context, &settings, path, *format, output.as_deref()),
        Command::Runs { dir, .. } => runs::list(&context, &settings, dir),
        Command::Init { .. } => init::init(&context, &settings, &runtime),
        Command::Check { .. } => runtime.block_on(check::check(&context, settings)),
        Command::Export { file, options, .. } => {
            let file = file.as_deref();
            runtime.block_on(export::export(&context, &settings, file, options))
        }
        _ => work(&context, &settings, &cli.command, &runtime),
    };
    // A sync of the journal that hangs must not delay the end.
    runtime.shutdown_background();
    result
}

/// Works on a run: starts it or goes on with it, and does what is asked for at its end.
fn work(
    context: &Context,
    settings: &Settings,
    command: &Command,
    runtime: &Runtime,
) -> Result<u8, RunError> {
    after::check(settings)?;
    if let Some(path) = &settings.events {
        let events = EventStream::open(path).map_err(|source| {
            RunError::Refused(format!("--events {}: {source}", path.display()))
        })?;
        let _ = context.events.set(events);
    }
    let mut dir = None;
    let result =
        prepare(context, settings.clone(), command, runtime).and_then(|prepared| match prepared {
            Prepared::Run(settings, run, _lock) => {
                dir = Some(run.dir.clone());
                runtime.block_on(session::run(context, *settings, *run))
            }
            Prepared::Complete(code) => Ok(code),
        });
    // Nothing happened where an input is complete already.
    if dir.is_some() || result.is_err() {
        after::finished(context, settings, runtime, dir.as_ref(), &result);
    }
    result
}

/// What a command is about to do.
enum Prepared {
    /// To work on this run, with these settings. The lock keeps other starts of the same command line away.
    Run(Box<Settings>, Box<PreparedRun>, Option<Lock>),
    /// Nothing: the input is complete already, and its run ended with this code.
    Complete(u8),
}

fn prepare(
    context: &Context,
    mut settings: Settings,
    command: &Command,
    runtime: &Runtime,
) -> Result<Prepared, RunError> {
    let (decision, lock) = match command {
        Command::Update { .. } if settings.auto_resume => {
            auto_resume::decide(context, &settings, runtime)?
        }
        _ => (Decision::New, None),
    };
    let run = match (command, decision) {
        (_, Decision::Complete(code)) => return Ok(Prepared::Complete(code)),
        (_, Decision::Resume(dir)) => resume::prepare(context, &mut settings, dir.path(), false)?,
        (
            Command::Resume {
                dir, only_failed, ..
            },
            Decision::New,
        ) => resume::prepare(context, &mut settings, dir, *only_failed)?,
        (Command::Undo { dir, .. }, Decision::New) => undo::prepare(context, &mut settings, dir)?,
        (Command::Apply { plan, .. }, Decision::New) => {
            apply::prepare(context, &mut settings, plan)?
        }
        (_, Decision::New) => update::prepare(context, &settings)?,
    };
    Ok(Prepared::Run(Box::new(settings), Box::new(run), lock))
}

/// Returns whether a setting is left out of the records of a run: the input has a place of its own, the id is a part of the
/// credentials, and a command may hold a secret.
fn is_not_recorded(setting: &str) -> bool {
    matches!(
        setting,
        "csv" | "client-id" | "client-secret-command" | "on-finish"
    )
}

/// Returns the command line as it may be kept: without secrets.
fn command_line(name: CommandName, command: &Command, flags: &Layer) -> String {
    let mut words = vec!["sigma-bulk".to_owned(), name.name().to_owned()];
    words.extend(command.words());
    words.extend(flags.words(is_not_recorded));
    shell::typed(words.iter().map(String::as_str))
}

fn refused_flag(flag: &str, command: CommandName) -> RunError {
    RunError::Refused(match command {
        CommandName::Resume => {
            format!("--{flag} can't be changed on a resume: the run keeps its own")
        }
        _ => format!(
            "--{flag} is a flag of update: {} has its input already",
            command.name()
        ),
    })
}

/// Merges all layers, and starts the log.
fn settings(context: &mut Context) -> Result<Settings, RunError> {
    let flags = context.flags.clone();
    let has_secret_flag = flags.client_secret.is_some();
    check_names(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    let environment = Layer::from_environment(|name| std::env::var(name).ok())?;
    // `init` writes the file, which need not be there yet or have the profile.
    let file = match context.command {
        CommandName::Init => Layer::default(),
        _ => Layer::from_usual_file(context.config.as_deref(), context.profile.as_deref())?,
    };
    let redirect = redirect(&flags, &environment);
    let mut layers = flags.over(environment).over(file);
    if redirect.is_some() {
        layers.base_url.clone_from(&redirect);
    }
    context.origin.settings = layers.words(is_not_recorded);
    let settings = Settings::from_layers(layers)?;
    context.output.set_color(settings.color);
    logging::init(&settings, &context.output)?;
    if let Some(url) = redirect {
        let url = hosts::without_user(&url);
        tracing::warn!(%url, "SIGMA_BULK_BASE_URL overrides --env and --cloud");
    }
    if has_secret_flag {
        tracing::warn!(
            "every user of this machine can see --client-secret: set SIGMA_CLIENT_SECRET instead"
        );
    }
    // Only the journal of a run that is resumed says whether it is a dry run.
    if let Some(path) = &settings.save_plan
        && context.command != CommandName::Resume
    {
        plan_file::check_path(path, &settings, settings.dry_run)?;
    }
    Ok(settings)
}

/// Returns the base URL of the environment if it overrides the flags. The sample script's command line always names
/// `--env` and `--cloud`, and this is how it reaches another address unchanged. Another environment than production is
/// not redirected.
fn redirect(flags: &Layer, environment: &Layer) -> Option<String> {
    let names_host = flags.cloud.is_some() || flags.env.is_some();
    let is_production = matches!(flags.env, None | Some(Environment::Production));
    // SIGMA_BASE_URL is meant for other tools as well, so that a flag overrides it as usual.
    let is_own = std::env::var_os("SIGMA_BULK_BASE_URL").is_some_and(|url| !url.is_empty());
    (names_host && is_production && is_own && flags.base_url.is_none())
        .then(|| environment.base_url.clone())
        .flatten()
}
