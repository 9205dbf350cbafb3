//! Settings: defaults, below a configuration file, below its profile, below the environment, below flags.
//!
//! [`Layer`] is what one of these says, each setting optional; [`Settings`] is what holds in the end. Where they
//! meet, in [`Settings::from_layers`], is the contract. The default layer is `config.example.toml`, embedded, so
//! that what it shows is what is true.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::change::is_email;
use crate::lookup::LookupMode;
use crate::pipeline::limits::Limit;
use crate::sigma::hosts::Environment;

/// The default layer.
pub const DEFAULTS: &str = include_str!("../config.example.toml");
/// The prefix of environment variables.
const PREFIX: &str = "SIGMA_BULK_";
/// The largest concurrency that makes sense: connections of one process to one host.
const MOST_AT_ONCE: usize = 1024;

/// How fast requests may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the API bears, which is found out from a gentle start on.
    Auto,
    /// At most so many requests a second, and no more than the API bears; 0 is no ceiling.
    Ceiling(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        text.trim()
            .parse()
            .ok()
            .filter(|rate: &f64| rate.is_finite() && (0.0..=1_000_000.0).contains(rate))
            .map(Self::Ceiling)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is no rate: write auto, requests a second (20), or 0 for no ceiling"
                )
            })
    }
}

/// A share of what the API bears, over 0 up to 1; written `60%` or `0.6`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let share = match text.trim().strip_suffix('%') {
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(text),
        };
        share
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is no share: write 60%"))
    }
}

/// A time span, written `30s`, `5m`, `1h 30m`, or in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let seconds = || {
            text.parse()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        let friendly = || {
            let span: jiff::SignedDuration = text.parse().ok()?;
            Duration::try_from(span).ok()
        };
        seconds()
            .or_else(friendly)
            .filter(|span| !span.is_zero() && *span <= Duration::from_secs(366 * 24 * 3600))
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is no time span: write 30s, 5m or 1h 30m"))
    }
}

/// A delimiter: one ASCII character, or `tab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiter(pub u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(Self(b'\t')),
            [byte]
                if byte.is_ascii()
                    && !byte.is_ascii_alphanumeric()
                    && !matches!(byte, b'"' | b'\r' | b'\n') =>
            {
                Ok(Self(*byte))
            }
            _ => Err(format!(
                "\"{text}\" is no delimiter: write one character such as ; or the word tab"
            )),
        }
    }
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON lines.
    Json,
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "enable" | "enabled" | "yes" | "on" | "1" => Ok(true),
        "false" | "disable" | "disabled" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

/// A value that is written as text or as a number.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct TextVisitor;
    impl Visitor<'_> for TextVisitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    let text = deserializer.deserialize_any(TextVisitor)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

macro_rules! layer {
    ($($(#[$meta:meta])* $name:ident: $type:ty,)*) => {
        /// What one layer says; the flags, the environment and the file have the same names and values.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[expect(clippy::doc_markdown, reason = "these are the texts of --help")]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct Layer {
            $($(#[$meta])* pub $name: Option<$type>,)*
            /// Sets of settings with a name, of which `--profile` chooses one.
            #[arg(skip)]
            profile: BTreeMap<String, Layer>,
        }

        impl Layer {
            /// This layer above `below`.
            #[must_use]
            pub fn over(self, mut below: Self) -> Self {
                // One secret: a layer that gives it one way takes away what a lower one gives the other way.
                if self.client_secret.is_some() || self.client_secret_file.is_some() {
                    below.client_secret = None;
                    below.client_secret_file = None;
                }
                // One of the two, as it was said last.
                if self.quiet == Some(true) {
                    below.verbose = Some(false);
                }
                if self.verbose == Some(true) {
                    below.quiet = Some(false);
                }
                // One address: whoever names the environment or the cloud does not mean the base URL of a lower layer.
                if self.env.is_some() || self.cloud.is_some() {
                    below.base_url = None;
                }
                Self { $($name: self.$name.or(below.$name),)* profile: BTreeMap::new() }
            }

            /// The names of the settings that this layer sets.
            #[must_use]
            pub fn set_names(&self) -> Vec<String> {
                let mut names = Vec::new();
                $(if self.$name.is_some() { names.push(stringify!($name).replace('_', "-")); })*
                names
            }

            /// The names of all settings.
            #[must_use]
            pub fn names() -> Vec<String> {
                vec![$(stringify!($name).replace('_', "-"),)*]
            }
        }
    };
}

layer! {
    /// The environment; dev is http://127.0.0.1:8081, sandbox a stand-in inside the tool
    #[arg(long, value_enum, value_name = "ENV", help_heading = "Where and who")]
    env: Environment,
    /// The organization's cloud: aws, aws-eu, gcp, azure, …
    #[arg(long, value_name = "NAME", help_heading = "Where and who")]
    cloud: String,
    /// Another address of the API, in place of --env and --cloud
    #[arg(long, value_name = "URL", help_heading = "Where and who")]
    base_url: String,
    /// Allow plain http to another machine than this one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "Where and who")]
    allow_http: bool,
    /// A company's own certificates (PEM), beside the system's
    #[arg(long, value_name = "FILE", help_heading = "Where and who")]
    ca_cert: PathBuf,
    /// The API credentials' id; better in SIGMA_CLIENT_ID
    #[arg(long, value_name = "ID", help_heading = "Where and who")]
    client_id: String,
    /// The API credentials' secret; others can see it here: better in SIGMA_CLIENT_SECRET
    #[arg(long, value_name = "SECRET", value_parser = secret, help_heading = "Where and who")]
    client_secret: SecretString,
    /// A file that holds the secret
    #[arg(long, value_name = "FILE", help_heading = "Where and who")]
    client_secret_file: PathBuf,
    /// The CSV; the same as the argument
    #[arg(long = "csv", value_name = "FILE", help_heading = "What")]
    csv: PathBuf,
    /// The CSV's delimiter: one character, or tab
    #[arg(long, value_name = "CHAR", help_heading = "What")]
    #[serde(deserialize_with = "parsed")]
    delimiter: Delimiter,
    /// Only the first N rows
    #[arg(long, value_name = "N", help_heading = "What")]
    limit: u32,
    /// Send only reads, and show what would be changed
    #[arg(short = 'n', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What")]
    dry_run: bool,
    /// Write the previewed changes to a file, for `apply`
    #[arg(long, value_name = "FILE", help_heading = "What")]
    save_plan: PathBuf,
    /// Do not ask before the first change
    #[arg(short = 'y', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What")]
    yes: bool,
    /// Do not start if any row is wrong
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What")]
    strict: bool,
    /// Send all values, also those that a member has already
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What")]
    send_unchanged: bool,
    /// How members are found: listed once, or one email at a time
    #[arg(long, value_enum, value_name = "MODE", help_heading = "What")]
    lookup: LookupMode,
    /// Requests under way at once
    #[arg(long, value_name = "N", help_heading = "How fast")]
    concurrency: usize,
    /// As fast as the API bears (auto), at most N requests a second, or no ceiling (0)
    #[arg(long, value_name = "N|auto", help_heading = "How fast")]
    #[serde(deserialize_with = "parsed")]
    rate: Rate,
    /// The share of what the API bears that is used; the rest is left to others
    #[arg(long, value_name = "N%", help_heading = "How fast")]
    #[serde(deserialize_with = "parsed")]
    max_capacity: Share,
    /// Tries after the first
    #[arg(long, value_name = "N", help_heading = "How fast")]
    retries: u32,
    /// The time for one request
    #[arg(long, value_name = "DURATION", help_heading = "How fast")]
    #[serde(deserialize_with = "parsed")]
    timeout: Span,
    /// Stop at the first update that fails
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "When to stop")]
    abort_on_update_fail: bool,
    /// Stop at so many failed rows, or a share of them
    #[arg(long, value_name = "N|N%", help_heading = "When to stop")]
    #[serde(deserialize_with = "parsed")]
    max_failures: Limit,
    /// Stop after this time; the rest is for `resume`
    #[arg(long, value_name = "DURATION", help_heading = "When to stop")]
    #[serde(deserialize_with = "parsed")]
    deadline: Span,
    /// Do not start if more members than this would be changed
    #[arg(long, value_name = "N|N%", help_heading = "When to stop")]
    #[serde(deserialize_with = "parsed")]
    max_changes: Limit,
    /// Change N rows first, read them back, and go on only if all are right
    #[arg(long, value_name = "N", help_heading = "When to stop")]
    canary: u32,
    /// Members who are never changed (repeatable)
    #[arg(long, value_name = "EMAIL", help_heading = "When to stop")]
    protected: Vec<String>,
    /// Let the run archive the credentials' own user
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "When to stop")]
    allow_self: bool,
    /// The run's directory
    #[arg(long, value_name = "DIR", help_heading = "What is written")]
    run_dir: PathBuf,
    /// Where the locks of organizations are
    #[arg(long, value_name = "DIR", help_heading = "What is written")]
    lock_dir: PathBuf,
    /// The summary as one JSON document on standard output
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What is written")]
    json: bool,
    /// Show every row's outcome with its changes
    #[arg(short = 'v', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What is written")]
    verbose: bool,
    /// Show neither the bar nor failures as they happen
    #[arg(short = 'q', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What is written")]
    quiet: bool,
    /// No bar, and no line in place of it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, hide_possible_values = true, value_name = "BOOL", help_heading = "What is written")]
    no_progress: bool,
    /// What is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", help_heading = "What is written")]
    log_level: String,
    /// The form of the log
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "What is written")]
    log_format: LogFormat,
    /// Log to a file in place of standard error
    #[arg(long, value_name = "FILE", help_heading = "What is written")]
    log_file: PathBuf,
}

/// Where a configuration file is wrong, and how. Its line is not shown, nor a value: a secret may stand there.
fn whereabouts(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    // serde's own messages: `invalid type: string "…", expected a boolean`.
    let message = match error.message().split_once("string \"") {
        Some((start, rest)) => match rest.rsplit_once("\", expected ") {
            Some((_, expected)) => format!("{start}a string, expected {expected}"),
            None => format!("{start}a string"),
        },
        None => error.message().to_owned(),
    };
    format!("line {line}: {}", message.trim_end())
}

/// A setting is wrong: nothing is sent.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[error("the configuration {path} can't be read: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("the configuration {path} is wrong: {message}")]
    File { path: String, message: String },
    #[error("the configuration {path} has no profile \"{profile}\"; it has: {known}")]
    NoProfile {
        path: String,
        profile: String,
        known: String,
    },
    #[error("--profile \"{0}\" needs a configuration file: give --config FILE")]
    NoFile(String),
    #[error("the environment variable {name} is wrong: {message}")]
    Environment { name: String, message: String },
    #[error("{setting}: {message}")]
    Value {
        setting: &'static str,
        message: String,
    },
    #[error("the defaults do not set {0}: please report it")]
    Default(&'static str),
    #[error("the client id is missing: set SIGMA_CLIENT_ID, or client-id in the configuration")]
    NoClientId,
    #[error("the client secret is missing: set SIGMA_CLIENT_SECRET, or --client-secret-file FILE")]
    NoClientSecret,
    #[error("the client secret can't be read from {path}: {source}")]
    SecretFile {
        path: String,
        source: std::io::Error,
    },
}

impl Layer {
    /// The defaults.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn defaults() -> Result<Self, SettingsError> {
        Self::from_toml(DEFAULTS, "config.example.toml", None)
    }

    /// What a configuration file says, with one of its profiles above it.
    ///
    /// # Errors
    /// If it can't be read, has an unknown key or a wrong value, or not that profile.
    pub fn from_file(path: &Path, profile: Option<&str>) -> Result<Self, SettingsError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: shown.clone(),
            source,
        })?;
        Self::from_toml(&text, &shown, profile)
    }

    fn from_toml(text: &str, path: &str, profile: Option<&str>) -> Result<Self, SettingsError> {
        let wrong = |message: String| SettingsError::File {
            path: path.to_owned(),
            message,
        };
        let mut base: Self =
            toml::from_str(text).map_err(|error| wrong(whereabouts(text, &error)))?;
        let mut profiles = std::mem::take(&mut base.profile);
        if let Some((name, _)) = profiles.iter().find(|(_, layer)| !layer.profile.is_empty()) {
            return Err(wrong(format!("profile \"{name}\" has a profile inside")));
        }
        let Some(profile) = profile else {
            return Ok(base);
        };
        match profiles.remove(profile) {
            Some(layer) => Ok(layer.over(base)),
            None => Err(SettingsError::NoProfile {
                path: path.to_owned(),
                profile: profile.to_owned(),
                known: profiles.into_keys().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// What the environment says: `get` answers a variable's value.
    ///
    /// # Errors
    /// If a variable's value is wrong; the message names the variable.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Parser {
            #[command(flatten)]
            layer: Layer,
        }
        let mut layer = Self::default();
        for setting in Self::names() {
            let name = format!("{PREFIX}{}", setting.replace('-', "_").to_uppercase());
            let short = format!("SIGMA_{}", setting.replace('-', "_").to_uppercase());
            let credential = matches!(setting.as_str(), "client-id" | "client-secret");
            let found = get(&name).map(|value| (name, value)).or_else(|| {
                credential
                    .then(|| get(&short).map(|value| (short, value)))
                    .flatten()
            });
            // A variable that is set to nothing is not set, and one that was read from a file may end with its line break.
            let found = found.map(|(name, value)| (name, value.trim().to_owned()));
            let Some((name, value)) = found.filter(|(_, value)| !value.is_empty()) else {
                continue;
            };
            let values: Vec<String> = if setting == "protected" {
                value
                    .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
                    .filter(|email| !email.is_empty())
                    .map(|email| format!("--{setting}={email}"))
                    .collect()
            } else {
                vec![format!("--{setting}={value}")]
            };
            let one = Parser::command()
                .try_get_matches_from(values)
                .and_then(|matches| Parser::from_arg_matches(&matches))
                .map_err(|error| {
                    let message = error.to_string();
                    let first = message.lines().next().unwrap_or_default();
                    SettingsError::Environment {
                        name,
                        message: first.strip_prefix("error: ").unwrap_or(first).to_owned(),
                    }
                })?;
            layer = one.layer.over(layer);
        }
        Ok(layer)
    }
}

/// What holds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is described in config.example.toml")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are settings, each on or off by itself"
)]
pub struct Settings {
    pub env: Environment,
    pub cloud: Option<String>,
    pub base_url: Option<String>,
    pub allow_http: bool,
    pub ca_cert: Option<PathBuf>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
    pub client_secret_file: Option<PathBuf>,
    pub csv: Option<PathBuf>,
    pub delimiter: Option<u8>,
    pub limit: Option<u32>,
    pub dry_run: bool,
    pub save_plan: Option<PathBuf>,
    pub yes: bool,
    pub strict: bool,
    pub send_unchanged: bool,
    pub lookup: LookupMode,
    pub concurrency: usize,
    pub rate: Rate,
    pub max_capacity: f64,
    pub retries: u32,
    pub timeout: Duration,
    pub abort_on_update_fail: bool,
    pub max_failures: Option<Limit>,
    pub deadline: Option<Duration>,
    pub max_changes: Option<Limit>,
    pub canary: u32,
    pub protected: Vec<String>,
    pub allow_self: bool,
    pub run_dir: Option<PathBuf>,
    pub lock_dir: Option<PathBuf>,
    pub json: bool,
    pub verbose: bool,
    pub quiet: bool,
    pub no_progress: bool,
    pub log_level: String,
    pub log_format: LogFormat,
    pub log_file: Option<PathBuf>,
}

impl Settings {
    /// What holds when `top` is above the defaults.
    ///
    /// # Errors
    /// If a value makes no sense.
    pub fn from_layers(top: Layer) -> Result<Self, SettingsError> {
        let all = top.over(Layer::defaults()?);
        macro_rules! need {
            ($name:ident) => {
                all.$name.ok_or(SettingsError::Default(stringify!($name)))?
            };
        }
        let settings = Self {
            env: need!(env),
            cloud: all.cloud,
            base_url: all.base_url,
            allow_http: need!(allow_http),
            ca_cert: all.ca_cert,
            client_id: all.client_id,
            client_secret: all.client_secret,
            client_secret_file: all.client_secret_file,
            csv: all.csv,
            delimiter: all.delimiter.map(|delimiter| delimiter.0),
            limit: all.limit,
            dry_run: need!(dry_run),
            save_plan: all.save_plan,
            yes: need!(yes),
            strict: need!(strict),
            send_unchanged: need!(send_unchanged),
            lookup: need!(lookup),
            concurrency: need!(concurrency),
            rate: need!(rate),
            max_capacity: need!(max_capacity).0,
            retries: need!(retries),
            timeout: need!(timeout).0,
            abort_on_update_fail: need!(abort_on_update_fail),
            max_failures: all.max_failures,
            deadline: all.deadline.map(|deadline| deadline.0),
            max_changes: all.max_changes,
            canary: need!(canary),
            protected: need!(protected),
            allow_self: need!(allow_self),
            run_dir: all.run_dir,
            lock_dir: all.lock_dir,
            json: need!(json),
            verbose: need!(verbose),
            quiet: need!(quiet),
            no_progress: need!(no_progress),
            log_level: need!(log_level),
            log_format: need!(log_format),
            log_file: all.log_file,
        };
        settings.check()
    }

    fn check(self) -> Result<Self, SettingsError> {
        let wrong = |setting, message: &str| {
            Err(SettingsError::Value {
                setting,
                message: message.to_owned(),
            })
        };
        if self.concurrency == 0 || self.concurrency > MOST_AT_ONCE {
            return wrong("--concurrency", "it is a number from 1 to 1024");
        }
        if self.retries > 100 {
            return wrong("--retries", "it is a number from 0 to 100");
        }
        if self.limit == Some(0) {
            return wrong("--limit", "it is a number from 1 on");
        }
        if self.verbose && self.quiet {
            return wrong("--verbose and --quiet", "give one of them");
        }
        if let Some(entry) = self.protected.iter().find(|entry| !is_email(entry)) {
            return wrong(
                "--protected",
                &format!("\"{entry}\" is no email: it would protect nobody"),
            );
        }
        if !matches!(
            self.log_level.as_str(),
            "off" | "error" | "warn" | "info" | "debug" | "trace"
        ) {
            return wrong(
                "--log-level",
                "it is one of error, warn, info, debug and trace",
            );
        }
        Ok(self)
    }

    /// The credentials: a secret in a file goes below one that is given.
    ///
    /// # Errors
    /// If they are missing or can't be read.
    pub fn credentials(&self) -> Result<crate::gateway::Credentials, SettingsError> {
        let given = |text: &String| !text.trim().is_empty();
        let secret = match (&self.client_secret, &self.client_secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map(|text| SecretString::from(text.trim_start_matches('\u{feff}').trim()))
                .map_err(|source| SettingsError::SecretFile {
                    path: path.display().to_string(),
                    source,
                })?,
            (None, None) if self.env == Environment::Sandbox => SecretString::from("sandbox"),
            (None, None) => return Err(SettingsError::NoClientSecret),
        };
        let id = match self.client_id.clone().filter(given) {
            Some(id) => id,
            None if self.env == Environment::Sandbox => "sandbox".to_owned(),
            None => return Err(SettingsError::NoClientId),
        };
        if secret.expose_secret().trim().is_empty() {
            return Err(SettingsError::NoClientSecret);
        }
        Ok(crate::gateway::Credentials { id, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_holds_every_setting_with_its_real_default() {
        let settings = Settings::from_layers(Layer::default()).expect("the defaults are whole");
        assert_eq!(
            (settings.concurrency, settings.rate, settings.retries),
            (32, Rate::Auto, 5)
        );
        for name in Layer::names() {
            let stands = DEFAULTS.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{name} = "))
            });
            assert!(stands, "{name} is not in config.example.toml");
        }
    }

    #[test]
    fn a_commented_example_is_a_right_value() {
        let text: String = DEFAULTS
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n");
        Layer::from_toml(&text, "x", Some("emea")).expect("every example is right");
    }

    #[test]
    fn flags_over_environment_over_profile_over_file() {
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
    fn spans_and_delimiters() {
        let span = |text: &str| text.parse::<Span>().ok().map(|span| span.0.as_secs_f64());
        assert_eq!(
            ["30s", "1h 30m", "90", "0.5", "250ms", "0s", "-3s", "x"].map(span),
            [
                Some(30.0),
                Some(5400.0),
                Some(90.0),
                Some(0.5),
                Some(0.25),
                None,
                None,
                None
            ]
        );
        let delimiter = |text: &str| text.parse::<Delimiter>().ok().map(|d| d.0);
        assert_eq!(
            [";", "tab", "\\t", "|", "ab", "\"", ""].map(delimiter),
            [
                Some(b';'),
                Some(b'\t'),
                Some(b'\t'),
                Some(b'|'),
                None,
                None,
                None
            ]
        );
    }
}
