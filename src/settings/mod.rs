//! The settings of a run: defaults, overridden by a configuration file, its profile, the environment, and flags.
//!
//! [`declaration`] declares every setting once. A [`Layer`] is what one source sets, each setting optional; [`Settings`]
//! are what holds in the end.

mod declaration;
mod environment;
mod example;
mod file;
mod secret;
mod values;

use secrecy::{ExposeSecret, SecretString};

pub(crate) use declaration::{CommandName, Layer, Settings, first_refused, with_scope};
pub(crate) use environment::check_names;
pub(crate) use example::example;
pub(crate) use file::path_to_write;
pub(crate) use values::{LogFormat, NotifyOn, Rate};

use crate::gateway::Credentials;
use crate::model::is_email;
use crate::sigma::hosts::Environment;

/// The largest concurrency that makes sense: the connections of one process to one host.
const MOST_INFLIGHT: usize = 1024;
/// The largest number of retries.
const MOST_RETRIES: u32 = 100;
/// The levels of the log.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A setting is wrong, and nothing is sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the configuration {path} can't be read: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("the configuration {path} is wrong: {message}")]
    File { path: String, message: String },
    #[error("the configuration {path} has no profile \"{profile}\"{near}; it has: {known}")]
    NoProfile {
        path: String,
        profile: String,
        /// What the profile may have meant, as a part of a sentence.
        near: String,
        known: String,
    },
    #[error("--profile \"{0}\" needs a configuration file: add --config FILE")]
    NoFile(String),
    #[error("the environment variable {name} is wrong: {message}")]
    Environment { name: String, message: String },
    #[error(
        "unknown environment variables that begin with SIGMA_BULK_: {0}; correct or unset them (sigma-bulk guide settings lists all)"
    )]
    UnknownVariables(String),
    #[error("{setting}: {message}")]
    Value {
        setting: &'static str,
        message: String,
    },
    #[error("the setting {0} has no default: please report it")]
    Default(&'static str),
    #[error("{}", missing_credentials(*id, *secret))]
    NoCredentials {
        /// Whether the client id is missing.
        id: bool,
        /// Whether the client secret is missing.
        secret: bool,
    },
    #[error("the client secret can't be read from {path}: {source}")]
    SecretFile {
        path: String,
        source: std::io::Error,
    },
    #[cfg(unix)]
    #[error(
        "the file of the client secret, {path}, can be read by other users; chmod 600 {}",
        crate::shell::quoted(path)
    )]
    OpenSecretFile { path: String },
    #[error("--client-secret-command failed: {0}")]
    SecretCommand(String),
}

fn missing_credentials(id: bool, secret: bool) -> String {
    const ID: &str = "SIGMA_CLIENT_ID, or client-id in the configuration";
    const SECRET: &str =
        "SIGMA_CLIENT_SECRET, --client-secret-file FILE, or --client-secret-command COMMAND";
    match (id, secret) {
        (true, true) => format!(
            "the client id and the client secret are missing; set {ID}, and {SECRET}; or run sigma-bulk init"
        ),
        (true, false) => format!("the client id is missing; set {ID}"),
        _ => format!("the client secret is missing; set {SECRET}"),
    }
}

impl Layer {
    /// Returns this layer above `below`.
    pub(crate) fn over(self, mut below: Self) -> Self {
        // There is one secret: a layer that gives it in one way overrides the other way in the layers below.
        if self.client_secret.is_some()
            || self.client_secret_file.is_some()
            || self.client_secret_command.is_some()
        {
            below.client_secret = None;
            below.client_secret_file = None;
            below.client_secret_command = None;
        }
        // `quiet` and `verbose` exclude each other.
        if self.quiet == Some(true) {
            below.verbose = Some(false);
        }
        if self.verbose == Some(true) {
            below.quiet = Some(false);
        }
        // Setting `cloud` or `env` in one layer overrides `base-url` from the layers below.
        if self.env.is_some() || self.cloud.is_some() {
            below.base_url = None;
        }
        self.or(below)
    }
}

impl Settings {
    /// Returns the settings of `top` above the defaults.
    ///
    /// # Errors
    /// If a value makes no sense.
    pub(crate) fn from_layers(top: Layer) -> Result<Self, SettingsError> {
        let defaults = Layer::from_toml(&example::defaults(), "defaults", None)?;
        let settings = Self::from_layer(top.over(defaults))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong = |setting, message: String| Err(SettingsError::Value { setting, message });
        if self.concurrency == 0 || self.concurrency > MOST_INFLIGHT {
            return wrong(
                "--concurrency",
                format!("write a number from 1 to {MOST_INFLIGHT}"),
            );
        }
        if self.retries > MOST_RETRIES {
            return wrong(
                "--retries",
                format!("write a number from 0 to {MOST_RETRIES}"),
            );
        }
        if self.limit == Some(0) {
            return wrong("--limit", "write a number from 1 on".to_owned());
        }
        if self.verbose && self.quiet {
            return wrong("--verbose and --quiet", "use only one of them".to_owned());
        }
        if let Some(entry) = self.protected.iter().find(|entry| !is_email(entry)) {
            return wrong(
                "--protected",
                format!("\"{entry}\" is not an email address, so that it would protect nobody"),
            );
        }
        if !LOG_LEVELS.contains(&self.log_level.as_str()) {
            return wrong(
                "--log-level",
                format!("write one of {}", LOG_LEVELS.join(", ")),
            );
        }
        Ok(())
    }

    /// Returns the credentials. A secret that is given directly overrides one in a file, which overrides a command.
    ///
    /// # Errors
    /// If they are missing or can't be read.
    pub(crate) fn credentials(&self) -> Result<Credentials, SettingsError> {
        let given = |text: &SecretString| !text.expose_secret().trim().is_empty();
        let mut secret = match (
            &self.client_secret,
            &self.client_secret_file,
            &self.client_secret_command,
        ) {
            (Some(secret), ..) => Some(secret.clone()),
            (None, Some(path), _) => Some(secret::from_file(path)?),
            (None, None, Some(command)) => Some(secret::from_command(command)?),
            (None, None, None) => None,
        }
        .filter(given);
        let mut id = self.client_id.clone().filter(|id| !id.trim().is_empty());
        if self.env == Environment::Sandbox {
            secret.get_or_insert_with(|| SecretString::from("sandbox"));
            id.get_or_insert_with(|| "sandbox".to_owned());
        }
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Credentials { id, secret }),
            (id, secret) => Err(SettingsError::NoCredentials {
                id: id.is_none(),
                secret: secret.is_none(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_environment_profile_and_file() {
        let text = "concurrency = 2\nretries = 2\nrate = 2\ncanary = 2\n[profile.a]\nretries = 3\nrate = 3\ncanary = 3\n";
        let file = Layer::from_toml(text, "x", Some("a")).expect("right");
        let environment = Layer::from_environment(|name| match name {
            "SIGMA_BULK_RATE" | "SIGMA_BULK_CANARY" => Some("4".to_owned()),
            "SIGMA_CLIENT_ID" => Some("me".to_owned()),
            "SIGMA_BULK_DRY_RUN" => Some("true".to_owned()),
            _ => None,
        })
        .expect("right");
        let flags = Layer {
            canary: Some(5),
            ..Layer::default()
        };
        let settings = Settings::from_layers(flags.over(environment).over(file)).expect("right");
        assert_eq!(
            (
                settings.concurrency,
                settings.retries,
                settings.rate,
                settings.canary
            ),
            (2, 3, Rate::Ceiling(4.0), 5)
        );
        assert_eq!(settings.client_id.as_deref(), Some("me"));
        assert!(settings.dry_run);
    }

    #[test]
    fn wrong_settings_are_named_with_their_place() {
        let file = |text: &str| {
            Layer::from_toml(text, "x.toml", None)
                .map(drop)
                .expect_err("wrong")
                .to_string()
        };
        insta::assert_snapshot!(
            [
                file("retries = 3\nconcurency = 4\n"),
                file("rate = \"fast\""),
                file("[profile.a]\n\nspeed = 1\n"),
                Layer::from_environment(
                    |name| (name == "SIGMA_BULK_CONCURRENCY").then(|| "many".to_owned())
                )
                .expect_err("wrong")
                .to_string(),
                Layer::from_toml("[profile.a]\n", "x.toml", Some("b"))
                    .map(drop)
                    .expect_err("wrong")
                    .to_string(),
            ]
            .join("\n---\n")
        );
    }

    #[test]
    fn words_repeat_the_flags_without_secrets() {
        let layer = Layer {
            client_secret: Some("s3".into()),
            cloud: Some("gcp".to_owned()),
            rate: Some(Rate::Ceiling(20.0)),
            strict: Some(true),
            json: Some(false),
            yes: Some(true),
            protected: Some(vec!["a@x.org".to_owned(), "b@x.org".to_owned()]),
            ..Layer::default()
        };
        let words = layer.words(|name| name == "yes").join(" ");
        assert_eq!(
            words,
            "--cloud gcp --strict --rate 20 --protected a@x.org --protected b@x.org --json=false"
        );
    }

    #[test]
    fn each_command_refuses_what_is_fixed_for_it() {
        let flags = Layer {
            limit: Some(3),
            ..Layer::default()
        };
        let refused = (CommandName::ALL.into_iter())
            .filter(|name| first_refused(&flags, *name).is_some())
            .collect::<Vec<_>>();
        assert_eq!(refused, [CommandName::Resume]);
    }
}
