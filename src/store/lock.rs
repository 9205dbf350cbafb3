//! Allows one run per organization at a time.
//!
//! The lock is held by the operating system (`flock`), so it ends with the process that holds it, however
//! that process ends. The file's content is only for the message to another run that finds the lock taken.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::input::text::hex;
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

/// Returns the default lock directory: `sigma-bulk/locks` in `$XDG_STATE_HOME`, or else in `~/.local/state`.
pub(crate) fn default_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir);
    state.join("sigma-bulk/locks")
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
        let mut hash = Sha256::new();
        hash.update(server_name(base_url));
        hash.update([0]);
        hash.update(organization.unwrap_or_default());
        let digest: [u8; 32] = hash.finalize().into();
        let name = hex(digest.get(..16).unwrap_or(&digest));
        let path = dir.join(format!("{name}.lock"));
        let failing = |source| LockError::Io {
            path: path.display().to_string(),
            source,
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).map_err(failing)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(failing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "it has just started"
                } else {
                    holder.trim()
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
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()))
            .map_err(failing)?;
        Ok(Self { _file: file })
    }
}
