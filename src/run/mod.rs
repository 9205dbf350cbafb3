//! The composition root: [`command`] makes of the command line a job, and brings it to its end.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::cli::{Cli, Command};
use crate::input::InputError;
use crate::lock::LockError;
use crate::output::{Output, count};
use crate::report::ledger::FilesError;
use crate::report::rundir::RunDirError;
use crate::sandbox::{self, Sandbox};
use crate::settings::{Layer, Settings, SettingsError};
use crate::sigma::client::ClientError;
use crate::sigma::hosts;

mod embedded;
mod execute;
mod finish;
mod jobs;
mod logging;
mod prepare;
mod signals;

use execute::execute;

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
    let environment = Layer::from_environment(|name| std::env::var(name).ok())?;
    let redirect = redirect(&flags, &environment);
    let mut layers = flags.over(environment).over(file_layer(cli)?);
    if redirect.is_some() {
        layers.base_url.clone_from(&redirect);
    }
    let mut settings = Settings::from_layers(layers)?;
    logging::init(&settings, output)?;
    if let Some(url) = redirect {
        let url = hosts::without_user(&url);
        tracing::warn!(%url, "SIGMA_BULK_BASE_URL goes over --env and --cloud");
    }
    if on_argv {
        tracing::warn!(
            "--client-secret can be seen by everybody on this machine: set SIGMA_CLIENT_SECRET instead"
        );
    }
    // Whether a run that is resumed is a dry run, its journal tells.
    if let Some(path) = &settings.save_plan
        && !matches!(cli.command, Command::Resume { .. })
    {
        jobs::check_plan_path(path, settings.dry_run)?;
    }
    let job = match &cli.command {
        Command::Update { .. } => jobs::update(&settings)?,
        Command::Resume {
            dir, only_failed, ..
        } => jobs::resume(&context, &mut settings, dir, *only_failed)?,
        Command::Undo { dir, .. } => jobs::undo(&context, &mut settings, dir)?,
        Command::Apply { plan, .. } => jobs::apply(&context, &mut settings, plan)?,
        Command::Report { dir, .. } => return finish::report(&context, &settings, dir),
        Command::Sandbox(_) => return Ok(0),
    };
    let code = runtime.block_on(execute(&context, settings, job));
    // A sync of the journal that hangs must not hold up the end.
    runtime.shutdown_background();
    code
}

/// The base URL of the environment, if it goes over the flags' cloud. The sample script's command line always names
/// `--env` and `--cloud`: this is how it reaches another address unchanged. Whoever asks for another environment than
/// production gets it.
fn redirect(flags: &Layer, environment: &Layer) -> Option<String> {
    let names_it = flags.cloud.is_some() || flags.env.is_some();
    let is_usual = matches!(flags.env, None | Some(hosts::Environment::Production));
    (names_it && is_usual && flags.base_url.is_none())
        .then(|| environment.base_url.clone())
        .flatten()
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
