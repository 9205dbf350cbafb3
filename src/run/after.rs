//! What happens when a run has ended and its files are written: metrics, a command, a notification. Nothing here changes the
//! outcome of the run; what goes wrong is said.

use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Context, RunError};
use crate::exit_code;
use crate::output::{Plain, grouped};
use crate::report::metrics::{self, Finished};
use crate::report::summary::Summary;
use crate::settings::{NotifyOn, Settings};
use crate::shell;
use crate::sigma::hosts::is_loopback;
use crate::store::run_dir::Replacement;
use crate::store::{RunDir, catalog};

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at whether the command has ended.
const COMMAND_TICK: Duration = Duration::from_millis(50);
/// How long one try to notify may take.
const NOTIFY_LIMIT: Duration = Duration::from_secs(10);
/// The waits before further tries to notify.
const NOTIFY_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Checks the settings before the run, because after it is too late.
///
/// # Errors
/// If the address of the notification can't be used. The message does not show it: it is a secret.
pub(super) fn check(settings: &Settings) -> Result<(), RunError> {
    let Some(url) = &settings.notify_url else {
        return Ok(());
    };
    let refused = |what: &str| Err(RunError::Refused(format!("--notify-url {what}")));
    match Url::parse(url.expose_secret()) {
        Ok(url) if url.scheme() == "https" => Ok(()),
        Ok(url) if url.scheme() == "http" && (settings.allow_http || is_loopback(&url)) => Ok(()),
        Ok(url) if url.scheme() == "http" => refused(
            "would send the summary unencrypted: use https, or --allow-http if that is intended",
        ),
        _ => refused("is no URL: write it as https://host/path"),
    }
}

/// Does what the settings ask for at the end of a command that works on a run. `dir` is the run's directory, if it has one.
pub(super) fn finished(
    context: &Context,
    settings: &Settings,
    runtime: &Runtime,
    dir: Option<&RunDir>,
    result: &Result<u8, RunError>,
) {
    let summary = match result {
        Ok(_) => dir.and_then(Summary::read),
        Err(_) => None,
    };
    let code = match result {
        Ok(code) => *code,
        Err(error) => error.exit_code(),
    };
    let warn = |flag: &str, error: &dyn std::fmt::Display| {
        let text = format!("warning: {flag}: {error}; the run is not affected");
        context.output.note(Plain(text));
    };
    if let Some(path) = &settings.metrics_file {
        let finished = Finished {
            profile: context.profile.as_deref().unwrap_or_default(),
            exit_code: code,
            summary: summary.as_ref(),
            at: jiff::Timestamp::now().as_second(),
        };
        if let Err(error) = write_metrics(path, &finished) {
            warn("--metrics-file", &error);
        }
    }
    let document = match (&summary, result) {
        (Some(summary), _) => serde_json::to_value(summary).unwrap_or_default(),
        (None, Err(error)) => {
            json!({"error": error.to_string(), "exit_code": code, "command": context.origin.command_line})
        }
        (None, Ok(_)) => json!({"exit_code": code, "command": context.origin.command_line}),
    };
    if let Some(command) = &settings.on_finish
        && let Err(error) = run_command(command, &document)
    {
        warn("--on-finish", &error);
    }
    if let Some(url) = &settings.notify_url {
        let is_wanted = match settings.notify_on {
            NotifyOn::Always => true,
            NotifyOn::Failure => !matches!(code, exit_code::SUCCESS | exit_code::CHANGES),
            NotifyOn::Change => is_other_than_last(summary.as_ref(), dir),
        };
        if is_wanted
            && let Err(error) = runtime.block_on(notify(url.expose_secret(), document, code))
        {
            warn("--notify-url", &error);
        }
    }
}

/// Writes the metrics, whole: a collector never reads a part. They are readable for everybody, because the collector is
/// another user; they hold counts and no personal data.
fn write_metrics(path: &Path, finished: &Finished<'_>) -> io::Result<()> {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let mut file = Replacement::public(path)?;
    file.write_all(metrics::render(finished, &before).as_bytes())?;
    file.commit()
}

/// Runs a command of the shell with the summary on its standard input. What it prints goes to standard error, because
/// standard output is for this tool's own document.
fn run_command(command: &str, document: &Value) -> Result<(), String> {
    let mut child = shell::command(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(io::stderr()))
        .spawn()
        .map_err(|error| format!("the command can't be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = format!("{document:#}\n");
        // A command that reads nothing closes the pipe, and one that hangs does not read it to the end.
        std::thread::spawn(move || {
            let _ = stdin.write_all(text.as_bytes());
        });
    }
    let started = std::time::Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the command failed: {status}")),
            Ok(None) if started.elapsed() < COMMAND_LIMIT => std::thread::sleep(COMMAND_TICK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "the command took longer than {} s",
                    COMMAND_LIMIT.as_secs()
                ));
            }
            Err(error) => return Err(format!("the command can't be waited for: {error}")),
        }
    }
}

/// Posts the summary with a `text` for chat tools. Redirects are not followed.
async fn notify(url: &str, mut document: Value, code: u8) -> Result<(), String> {
    let text = describe(&document, code);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("text".to_owned(), Value::String(text));
    }
    let body = document.to_string();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(NOTIFY_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sigma-bulk/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.without_url().to_string())?;
    let mut waits = NOTIFY_WAITS.into_iter();
    loop {
        let request = client
            .post(url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.clone());
        // The address is a secret, so that it is in no message.
        let error = match request.send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                let status = response.status();
                let what = format!("the server answered {}", status.as_u16());
                if !(status.is_server_error() || status.as_u16() == 429) {
                    return Err(what);
                }
                what
            }
            Err(error) => {
                let error = error.without_url();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                cause.unwrap_or_else(|| error.to_string())
            }
        };
        match waits.next() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
    }
}

/// Describes a run in one line: `sigma-bulk update feed.csv: 3 updated, 1 not_found (exit code 1)`.
fn describe(document: &Value, code: u8) -> String {
    let command = document
        .get("command")
        .and_then(Value::as_str)
        .unwrap_or("sigma-bulk");
    let counts: Vec<String> = (document.get("outcomes").and_then(Value::as_object))
        .into_iter()
        .flatten()
        .filter_map(|(outcome, rows)| Some((outcome, rows.as_u64().filter(|rows| *rows > 0)?)))
        .map(|(outcome, rows)| format!("{} {outcome}", grouped(rows)))
        .collect();
    let what = match document.get("error").and_then(Value::as_str) {
        Some(error) => format!("stopped: {error}"),
        None if counts.is_empty() => "ended".to_owned(),
        None => counts.join(", "),
    };
    format!("{command}: {what} (exit code {code})")
}

/// Returns whether a run ended otherwise than the last one of the same profile and input name.
fn is_other_than_last(summary: Option<&Summary>, dir: Option<&RunDir>) -> bool {
    let (Some(summary), Some(dir)) = (summary, dir) else {
        return true;
    };
    let Ok(runs) = catalog::beside(dir) else {
        return true;
    };
    // The path of a run beside it may be written otherwise.
    let is_own = |other: &RunDir| other.path().file_name() == dir.path().file_name();
    let own = runs.iter().find(|(other, _)| is_own(other));
    let Some((_, own)) = own else { return true };
    let last = runs.iter().find(|(other, head)| {
        !is_own(other)
            && head.input == own.input
            && head.origin.profile == own.origin.profile
            && head.dry_run == own.dry_run
    });
    let last = last.and_then(|(dir, _)| Summary::read(dir));
    last.is_none_or(|last| {
        (last.exit_code, &last.outcomes) != (summary.exit_code, &summary.outcomes)
    })
}
