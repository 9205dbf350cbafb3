//! The composition root: one file for each command, and the parts that commands share. [`main`] parses the command line,
//! runs the command, and returns the exit code.
//!
//! ```text
//!  update ┐
//!  undo   ├─► prepared ─► session ─► (signals, sign_in, preparation, pipeline, reporter) ─► finish ─► next_commands
//!  apply  │   run          one session of the run, from its first request to its summary
//!  resume ┘
//! ```

mod apply;
mod embedded;
mod finish;
mod logging;
mod next_commands;
mod outage_lines;
mod plan_file;
mod preparation;
mod prepared;
mod report;
mod resume;
mod serve;
mod session;
mod sign_in;
mod signals;
mod strict;
mod undo;
mod update;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::exit_code;
use crate::guide;
use crate::input::InputError;
use crate::members::LookupError;
use crate::output::{Lines, Output};
use crate::sandbox::SandboxError;
use crate::settings::{CommandName, Layer, Settings, SettingsError, first_refused};
use crate::sigma::client::ClientError;
use crate::sigma::hosts::{self, Environment, HostError};
use crate::store::lock::LockError;
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
    #[error("the runtime can't be started: {0}")]
    Runtime(#[source] io::Error),
}

impl RunError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::SignIn { .. } | Self::Lookup(_) | Self::NotLookedUp { .. } => exit_code::API,
            Self::Recording(_) | Self::History(_) => exit_code::STOPPED,
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
}

/// Runs the command line, the program's name first, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::parse_from_words(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let output = Output::default();
    match run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.note(format_args!("error: {}", Lines(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<u8, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let Some((command, flags)) = cli.command.layer() else {
        return match &cli.command {
            Command::Sandbox(args) => runtime.block_on(serve::serve(args, output)),
            Command::Guide { topic } => {
                let text = topic.map_or_else(guide::index, |topic| topic.text().into_owned());
                output.print(text).map_err(|error| {
                    RunError::Recording(format!("the guide can't be printed: {error}"))
                })?;
                Ok(exit_code::SUCCESS)
            }
            _ => Ok(exit_code::SUCCESS),
        };
    };
    if let Some(flag) = first_refused(&flags, command) {
        return Err(refused_flag(&flag, command));
    }
    let context = Context {
        command,
        flags,
        config: cli.config,
        profile: cli.profile,
        output: output.clone(),
    };
    let mut settings = settings(&context)?;
    let prepared = match &cli.command {
        Command::Update { .. } => update::prepare(&context, &settings)?,
        Command::Resume {
            dir, only_failed, ..
        } => resume::prepare(&context, &mut settings, dir, *only_failed)?,
        Command::Undo { dir, .. } => undo::prepare(&context, &mut settings, dir)?,
        Command::Apply { plan, .. } => apply::prepare(&context, &mut settings, plan)?,
        Command::Report { dir, .. } => return report::report(&context, &settings, dir),
        Command::Guide { .. } | Command::Sandbox(_) => return Ok(exit_code::SUCCESS),
    };
    let code = runtime.block_on(session::run(&context, settings, prepared));
    // A sync of the journal that hangs must not delay the end.
    runtime.shutdown_background();
    code
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
fn settings(context: &Context) -> Result<Settings, RunError> {
    let flags = context.flags.clone();
    let has_secret_flag = flags.client_secret.is_some();
    let environment = Layer::from_environment(|name| std::env::var(name).ok())?;
    let file = Layer::from_usual_file(context.config.as_deref(), context.profile.as_deref())?;
    let redirect = redirect(&flags, &environment);
    let mut layers = flags.over(environment).over(file);
    if redirect.is_some() {
        layers.base_url.clone_from(&redirect);
    }
    let settings = Settings::from_layers(layers)?;
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
        plan_file::check_path(path, settings.dry_run)?;
    }
    Ok(settings)
}

/// Returns the base URL of the environment if it overrides the flags. The sample script's command line always names
/// `--env` and `--cloud`, and this is how it reaches another address unchanged. Another environment than production is
/// not redirected.
fn redirect(flags: &Layer, environment: &Layer) -> Option<String> {
    let names_host = flags.cloud.is_some() || flags.env.is_some();
    let is_production = matches!(flags.env, None | Some(Environment::Production));
    (names_host && is_production && flags.base_url.is_none())
        .then(|| environment.base_url.clone())
        .flatten()
}
