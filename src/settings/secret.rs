//! Where the client secret comes from, if it is neither a flag nor a variable: a file, or the output of a command.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use secrecy::SecretString;

use super::SettingsError;
use crate::shell;

/// How long a command may take: long enough to unlock a password manager by hand.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Reads a secret from a file that only its owner can read.
///
/// # Errors
/// If it can't be read, or others can read it.
pub(super) fn from_file(path: &Path) -> Result<SecretString, SettingsError> {
    let shown = || path.display().to_string();
    let failing = |source| SettingsError::SecretFile {
        path: shown(),
        source,
    };
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(path).map_err(failing)?;
        if is_open_to_others(path, &metadata) {
            return Err(SettingsError::OpenSecretFile { path: shown() });
        }
    }
    let text = std::fs::read_to_string(path).map_err(failing)?;
    Ok(secret(&text))
}

/// Returns whether others than the owner can read a file. A pipe, such as one of a shell's `<(…)`, is read once, by this
/// process. What a system hands to a service belongs to root and may be open to the service's group: systemd's credentials
/// (their access list shows as the group's) and Kubernetes' secrets.
#[cfg(unix)]
fn is_open_to_others(path: &Path, metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_handed_over = std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|directory| path.starts_with(directory))
        || (metadata.uid() == 0 && whoami::username().is_ok_and(|name| name != "root"));
    let refused = if is_handed_over { 0o007 } else { 0o077 };
    metadata.is_file() && metadata.mode() & refused != 0
}

/// What the last command printed. Several parts of one process ask for the secret, and a password manager may ask a person
/// each time.
static PRINTED: Mutex<Option<(String, SecretString)>> = Mutex::new(None);

/// Returns what a command of the shell prints. What it writes to standard error is shown. It is run once.
///
/// # Errors
/// If it can't be started, fails, prints nothing, or takes too long. What it prints is never part of the message.
pub(super) fn from_command(command: &str) -> Result<SecretString, SettingsError> {
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, secret)) = printed.as_ref().filter(|(before, _)| before == command) {
        return Ok(secret.clone());
    }
    let secret = run(command)?;
    *printed = Some((command.to_owned(), secret.clone()));
    Ok(secret)
}

fn run(command: &str) -> Result<SecretString, SettingsError> {
    let failed = |what: String| SettingsError::SecretCommand(what);
    let mut child = shell::command(command)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("it can't be started: {error}")))?;
    let Some(mut stdout) = child.stdout.take() else {
        return Err(failed("its output can't be read".to_owned()));
    };
    let (sender, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        let _ = sender.send(read);
    });
    let Ok(read) = output.recv_timeout(COMMAND_LIMIT) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!(
            "it took longer than {} s",
            COMMAND_LIMIT.as_secs()
        )));
    };
    let status =
        (child.wait()).map_err(|error| failed(format!("it can't be waited for: {error}")))?;
    if !status.success() {
        return Err(failed(format!("{status}; see its messages above")));
    }
    let text = read.map_err(|_| failed("it does not print text".to_owned()))?;
    if text.trim().is_empty() {
        return Err(failed("it printed nothing".to_owned()));
    }
    Ok(secret(&text))
}

/// Returns the secret that a text holds, without a byte order mark and white space around it.
fn secret(text: &str) -> SecretString {
    SecretString::from(text.trim_start_matches('\u{feff}').trim())
}
