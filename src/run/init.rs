//! `init`: writes a profile of the configuration by asking, and tries it. With `--yes` it asks nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dialoguer::{Confirm, Input, Password, Select};
use secrecy::SecretString;
use tokio::runtime::Runtime;
use toml_edit::{DocumentMut, Item, Table, value};

use super::check::PATIENCE;
use super::keyring::Keyring;
use super::prepared::base_url;
use super::questions::Questions;
use super::sign_in::Connection;
use super::{Context, RunError};
use crate::exit_code;
use crate::output::{Plain, is_interactive};
use crate::settings::{Settings, path_to_write};
use crate::shell;
use crate::sigma::hosts::{CLOUDS, Environment, describe_cloud};
use crate::stop::Stop;
use crate::store::run_dir::{Replacement, private_dir};

/// The keys that `init` writes.
const KEYS: [&str; 6] = [
    "cloud",
    "env",
    "base-url",
    "client-id",
    "client-secret-file",
    "client-secret-command",
];

pub(super) fn init(
    context: &Context,
    settings: &Settings,
    runtime: &Runtime,
) -> Result<u8, RunError> {
    let path = path_to_write(context.config.as_deref()).ok_or_else(|| {
        RunError::Refused(
            "there is no home directory for the configuration: add --config FILE".to_owned(),
        )
    })?;
    let asks = !settings.yes;
    if asks && !is_interactive() {
        return Err(RunError::Refused(
            "init asks questions, and this is no terminal: add --yes, --cloud or --base-url, --client-id, and --client-secret-file, --client-secret-command or SIGMA_CLIENT_SECRET".to_owned(),
        ));
    }
    let questions = asks.then(|| Questions::new(context, settings, runtime));
    let questions = questions.transpose()?;
    let mut document = read(&path)?;
    let profile = context
        .profile
        .clone()
        .or_else(|| std::env::var("SIGMA_BULK_PROFILE").ok());
    let profile = profile.filter(|profile| !profile.is_empty());
    let place = describe(&path, profile.as_deref());
    if holds(&document, profile.as_deref()) && !settings.force {
        let question = format!("{place} exists. Replace it?");
        if !is_agreed(questions.as_ref(), question)? {
            return Err(RunError::Refused(format!(
                "{place} exists already: add --force to replace it, or --profile NAME for another one"
            )));
        }
    }
    let mut settings = settings.clone();
    settings.outage_limit = settings.outage_limit.at_most(PATIENCE);
    if let Some(questions) = &questions {
        ask_for_missing(context, &mut settings, questions)?;
    }
    let host = base_url(&settings)?;
    settings.credentials()?;
    let tried = try_out(context, &settings, &host);
    let tried = match &questions {
        Some(questions) => questions.wait(tried)?,
        None => runtime.block_on(tried),
    };
    if let Err(error) = tried {
        if asks {
            context.output.note(format_args!("{}", Plain(&error)));
        }
        if !is_agreed(questions.as_ref(), "Write it all the same?".to_owned())? {
            return Err(error);
        }
    }
    fill(&mut document, profile.as_deref(), &settings)?;
    write(&path, &document.to_string())?;
    let flag = profile.map_or_else(String::new, |name| {
        format!(" --profile {}", shell::quoted(&name))
    });
    let printed = if settings.json {
        let written = serde_json::json!({"config": path.display().to_string(), "exit_code": exit_code::SUCCESS});
        context.output.print(format_args!("{written:#}\n"))
    } else {
        context.output.print_lines(&format!(
            "Written to {}.\nNext   to see what the credentials may do, and to get a CSV:\n  sigma-bulk check{flag}\n  sigma-bulk export members.csv{flag}\n",
            Plain(&place)
        ))
    };
    printed.map_err(super::finish::printing_failed)?;
    Ok(exit_code::SUCCESS)
}

/// Asks whether to do something. Without a terminal, the answer is no.
fn is_agreed(questions: Option<&Questions<'_>>, question: String) -> Result<bool, RunError> {
    let Some(questions) = questions else {
        return Ok(false);
    };
    questions.ask(|| {
        Confirm::new()
            .with_prompt(question)
            .default(false)
            .interact()
    })
}

/// Asks for a line of text.
fn text(questions: &Questions<'_>, prompt: &'static str) -> Result<String, RunError> {
    questions.ask(move || Input::new().with_prompt(prompt).interact_text())
}

/// Asks for a secret, which is not shown.
fn secret(questions: &Questions<'_>, prompt: &'static str) -> Result<String, RunError> {
    questions.ask(move || Password::new().with_prompt(prompt).interact())
}

/// Asks for what the flags and the environment leave open.
fn ask_for_missing(
    context: &Context,
    settings: &mut Settings,
    questions: &Questions<'_>,
) -> Result<(), RunError> {
    if settings.base_url.is_none()
        && settings.cloud.is_none()
        && settings.env != Environment::Sandbox
        && settings.env != Environment::Dev
    {
        context.output.note(
            "Where is your organization? In Sigma, Administration > Account > General Settings > Site shows the cloud.",
        );
        let mut names: Vec<String> = CLOUDS
            .iter()
            .map(|(name, _, _)| describe_cloud(name))
            .collect();
        names.push("another address".to_owned());
        let chosen = questions.ask(move || {
            let select = Select::new().with_prompt("Cloud");
            select.items(&names).default(0).interact()
        })?;
        match CLOUDS.get(chosen) {
            Some((name, _, _)) => settings.cloud = Some((*name).to_owned()),
            None => {
                settings.base_url = Some(text(questions, "Address (https://…)")?);
            }
        }
    }
    if settings.client_id.as_deref().is_none_or(str::is_empty) {
        context.output.note(
            "Which API credentials? In Sigma, Administration > Developer Access > Create New > REST API makes them.",
        );
        settings.client_id = Some(text(questions, "Client id")?);
    }
    let has_secret = settings.client_secret.is_some()
        || settings.client_secret_file.is_some()
        || settings.client_secret_command.is_some();
    if !has_secret {
        ask_for_secret(settings, questions)?;
    }
    Ok(())
}

fn ask_for_secret(settings: &mut Settings, questions: &Questions<'_>) -> Result<(), RunError> {
    let keyring = Keyring::find();
    let mut places = vec![
        "in the environment variable SIGMA_CLIENT_SECRET, which you set yourself",
        "in a file that only you can read",
        "in a password manager, from which a command prints it",
    ];
    places.extend(keyring.map(|_| "in the keyring of this machine"));
    let chosen = questions.ask(move || {
        let select = Select::new().with_prompt("Where is the client secret?");
        select.items(&places).default(1).interact()
    })?;
    match (chosen, keyring) {
        (0, _) => {
            let secret = secret(questions, "Client secret, to try it (it is not kept)")?;
            settings.client_secret = Some(SecretString::from(secret));
        }
        (1, _) => {
            let path = PathBuf::from(text(questions, "File")?);
            if !path.exists() {
                let prompt = "The file is not there yet. Client secret, to put into it";
                let secret = secret(questions, prompt)?;
                write(&path, &format!("{secret}\n"))?;
            }
            settings.client_secret_file = Some(absolute(&path)?);
        }
        (3, Some(keyring)) => {
            let id = settings.client_id.clone().unwrap_or_default();
            if !keyring.store(&id).is_ok_and(|is_kept| is_kept) {
                return Err(RunError::Refused(
                    "the keyring did not keep the secret: is it unlocked? Choose another place, or try again".to_owned(),
                ));
            }
            settings.client_secret_command = Some(keyring.lookup(&id));
        }
        _ => {
            settings.client_secret_command = Some(text(questions, "Command")?);
        }
    }
    Ok(())
}

/// Signs in, and says as whom.
async fn try_out(context: &Context, settings: &Settings, host: &str) -> Result<(), RunError> {
    let connection = Connection::open(context, settings, host, &Arc::new(Stop::default())).await?;
    if !settings.quiet {
        let who = connection.describe(host).await;
        context.output.note(format_args!("{who}: signed in."));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, RunError> {
    std::path::absolute(path)
        .map_err(|error| RunError::Refused(format!("{} can't be used: {error}", path.display())))
}

fn describe(path: &Path, profile: Option<&str>) -> String {
    match profile {
        Some(profile) => format!("{} (profile {profile})", path.display()),
        None => path.display().to_string(),
    }
}

/// Reads the configuration that is there, with its comments.
fn read(path: &Path) -> Result<DocumentMut, RunError> {
    let failing = |what: &dyn std::fmt::Display| {
        RunError::Refused(format!(
            "the configuration {} can't be read: {what}",
            path.display()
        ))
    };
    match std::fs::read_to_string(path) {
        // The message of the parser would quote the line, in which a secret may stand.
        Ok(text) => text.parse().map_err(|_| failing(&"it is not TOML")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DocumentMut::new()),
        Err(error) => Err(failing(&error)),
    }
}

/// Returns whether the configuration says already what `init` would write.
fn holds(document: &DocumentMut, profile: Option<&str>) -> bool {
    match profile {
        Some(profile) => document
            .get("profile")
            .and_then(|all| all.get(profile))
            .is_some(),
        None => KEYS.iter().any(|key| document.contains_key(key)),
    }
}

/// Sets the keys of the profile, or of the file.
fn fill(
    document: &mut DocumentMut,
    profile: Option<&str>,
    settings: &Settings,
) -> Result<(), RunError> {
    let table: &mut Table = match profile {
        None => document.as_table_mut(),
        Some(profile) => {
            let not_a_table =
                || RunError::Refused("\"profile\" in the configuration is no table".to_owned());
            let profiles = document.entry("profile").or_insert_with(|| {
                let mut table = Table::new();
                table.set_implicit(true);
                Item::Table(table)
            });
            let profiles = profiles.as_table_mut().ok_or_else(not_a_table)?;
            let own = profiles
                .entry(profile)
                .or_insert_with(|| Item::Table(Table::new()));
            own.as_table_mut().ok_or_else(not_a_table)?
        }
    };
    let path = |path: &Option<PathBuf>| match path {
        Some(path) => absolute(path).map(|path| Some(path.display().to_string())),
        None => Ok(None),
    };
    let is_usual = settings.env == Environment::Production;
    let env = (!is_usual).then(|| settings.env.name().to_owned());
    let values = [
        settings
            .cloud
            .clone()
            .filter(|_| settings.base_url.is_none()),
        env.filter(|_| settings.base_url.is_none()),
        settings.base_url.clone(),
        settings.client_id.clone(),
        path(&settings.client_secret_file)?,
        settings.client_secret_command.clone(),
    ];
    for (key, text) in KEYS.into_iter().zip(values) {
        match text {
            Some(text) => {
                table.insert(key, value(text));
            }
            None => {
                table.remove(key);
            }
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, complete or not at all.
fn write(path: &Path, text: &str) -> Result<(), RunError> {
    let written = || {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            private_dir(parent)?;
        }
        let mut file = Replacement::private(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    };
    written().map_err(|error: std::io::Error| {
        RunError::Refused(format!("{} can't be written: {error}", path.display()))
    })
}
