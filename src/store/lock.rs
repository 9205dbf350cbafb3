//! Allows one run per organization at a time.
//!
//! The lock is held by the operating system, so it ends with the process that holds it, however that process ends. Who holds
//! it stands in a file beside it, because Windows lets nobody read a file that is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::run_dir::{private_dir, private_file};
use crate::input::text::hex;
use crate::paths::state_dir;
use crate::sigma::hosts::server_name;

/// The organization is locked, or the lock can't be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another run holds this organization's lock: {holder}; wait for it to end, or stop it")]
    Held { holder: String },
    #[error("the lock {path} can't be taken: {source}; give another directory with --lock-dir")]
    Io {
        path: String,
        source: std::io::Error,
    },
}

/// A lock on an organization, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Returns the default lock directory.
pub(crate) fn default_dir() -> PathBuf {
    state_dir().join("sigma-bulk").join("locks")
}

/// Returns a short name for what is locked.
fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update([0]);
        }
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    hex(digest.get(..16).unwrap_or(&digest))
}

/// Opens a file of the lock directory, which is created if it is not there.
fn open(dir: &Path, name: &str) -> io::Result<File> {
    private_dir(dir)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(dir.join(name))
}

/// Locks a run directory where directories themselves can't be locked. `None` means that another process holds it.
///
/// # Errors
/// If the lock can't be taken.
#[cfg(not(unix))]
pub(super) fn of_run_dir(run_dir: &Path) -> io::Result<Option<File>> {
    let path = run_dir.canonicalize()?;
    let name = key(&[b"run", path.as_os_str().as_encoded_bytes()]);
    let file = open(&default_dir(), &format!("{name}.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(source),
    }
}

impl Lock {
    /// Locks an organization on a host for the run in `run_dir`.
    ///
    /// # Errors
    /// Returns an error if another run holds the lock, or the file can't be created.
    pub(crate) fn take(
        dir: &Path,
        base_url: &str,
        organization: Option<&str>,
        run_dir: &Path,
    ) -> Result<Self, LockError> {
        let organization = organization.unwrap_or_default();
        let name = key(&[server_name(base_url).as_bytes(), organization.as_bytes()]);
        let path = dir.join(format!("{name}.lock"));
        let holder_path = dir.join(format!("{name}.holder"));
        let failing = |source| LockError::Io {
            path: path.display().to_string(),
            source,
        };
        let file = open(dir, &format!("{name}.lock")).map_err(failing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(holder_path).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "it has just started",
                    holder => holder,
                };
                return Err(LockError::Held {
                    holder: holder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failing(source)),
        }
        let run_dir = std::path::absolute(run_dir).unwrap_or_else(|_| run_dir.to_owned());
        let text = format!(
            "process {}, run directory {}\n",
            std::process::id(),
            run_dir.display()
        );
        private_file(&holder_path)
            .and_then(|mut holder| holder.write_all(text.as_bytes()))
            .map_err(failing)?;
        Ok(Self { _file: file })
    }
}
