//! A run's directory: for its owner alone, and never two runs' at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run's directory and the names in it.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Locked while a run is under way in it, so that nobody else begins one there or goes on with it; the lock ends with
    /// the process.
    claim: Option<Arc<File>>,
}

/// The directory can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunDirError {
    #[error(
        "{path} holds a run already; to go on with it: sigma-bulk resume {path}; for a new run, give another --run-dir"
    )]
    Taken { path: String },
    #[error(
        "another process has a run under way in {path}: wait for it to end, or give another --run-dir"
    )]
    Busy { path: String },
    #[error(
        "{file} is there already and is no run's: it would be overwritten; give a --run-dir of its own"
    )]
    InTheWay { file: String },
    #[error("{path} holds no run of sigma-bulk: there is no journal.jsonl in it")]
    NoRun { path: String },
    #[error("the run directory {path} can't be used: {source}")]
    Io { path: String, source: io::Error },
}

impl RunDir {
    /// Makes a new one. `source` is the input, if that is a file.
    ///
    /// # Errors
    /// If it holds a run or somebody's own files, or can't be made.
    pub fn create(path: &Path, source: Option<&Path>) -> Result<Self, RunDirError> {
        let dir = Self {
            path: path.to_owned(),
            claim: None,
        };
        dir.check_free()?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|source| dir.error(source))?;
        let claim = dir.claim()?;
        // Whoever held it until now may have left a run.
        dir.check_free()?;
        dir.check_files()?;
        if let Some(source) = source {
            dir.check_source(source)?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // One that was there already may be open to others.
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(|source| dir.error(source))?;
        }
        Ok(Self { claim, ..dir })
    }

    /// Takes it for a run that goes on.
    ///
    /// # Errors
    /// If another process has a run under way in it.
    pub fn take(&mut self) -> Result<(), RunDirError> {
        self.claim = self.claim()?;
        Ok(())
    }

    fn check_free(&self) -> Result<(), RunDirError> {
        if self.journal().exists() {
            return Err(RunDirError::Taken {
                path: self.path.display().to_string(),
            });
        }
        Ok(())
    }

    /// The directory may hold other things, but none of a run's names: they would be somebody's own files. (A run that was
    /// killed before its first record leaves its input, for its owner alone.)
    fn check_files(&self) -> Result<(), RunDirError> {
        let made_at_the_end = [self.results(), self.failed(), self.undo(), self.summary()];
        let of_others = |file: &Path| {
            fs::metadata(file)
                .is_ok_and(|metadata| !metadata.is_file() || is_open_to_others(&metadata))
        };
        let in_the_way = made_at_the_end
            .iter()
            .find(|file| file.exists())
            .cloned()
            .or_else(|| {
                [self.input(), self.plan()]
                    .into_iter()
                    .find(|file| of_others(file))
            });
        in_the_way.map_or(Ok(()), |file| Err(in_the_way_error(&file)))
    }

    /// The input of a run must not be the file into which it is copied.
    fn check_source(&self, source: &Path) -> Result<(), RunDirError> {
        let Ok(source) = source.canonicalize() else {
            return Ok(());
        };
        match [self.input(), self.plan()]
            .into_iter()
            .find(|copy| copy.canonicalize().is_ok_and(|copy| copy == source))
        {
            Some(copy) => Err(in_the_way_error(&copy)),
            None => Ok(()),
        }
    }

    /// Two processes with a run in one directory would overwrite one another's files.
    #[cfg(unix)]
    fn claim(&self) -> Result<Option<Arc<File>>, RunDirError> {
        let dir = File::open(&self.path).map_err(|source| self.error(source))?;
        match dir.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Busy {
                path: self.path.display().to_string(),
            }),
            // Some network file systems have no locks; then there is none.
            Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(Some(Arc::new(dir))),
        }
    }

    #[cfg(not(unix))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "as where directories can be locked"
    )]
    const fn claim(&self) -> Result<Option<Arc<File>>, RunDirError> {
        Ok(None)
    }

    /// Makes a new one under `parent`, named by the time and the input; a number is added if somebody was faster.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create_named(
        parent: &Path,
        stem: &str,
        source: Option<&Path>,
    ) -> Result<Self, RunDirError> {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let stem: String = stem
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
                    c
                } else {
                    '-'
                }
            })
            .take(60)
            .collect();
        let name = format!("{time}-{stem}");
        let mut path = parent.join(&name);
        let mut number = 2;
        while path.exists() {
            path = parent.join(format!("{name}-{number}"));
            number += 1;
        }
        Self::create(&path, source)
    }

    /// Opens one that holds a run.
    ///
    /// # Errors
    /// If it holds none.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let dir = Self {
            path: path.to_owned(),
            claim: None,
        };
        if dir.journal().is_file() {
            Ok(dir)
        } else {
            Err(RunDirError::NoRun {
                path: path.display().to_string(),
            })
        }
    }

    /// Takes a new one away again, with what this tool put into it: the input was wrong.
    pub fn discard(&self) {
        let journal = self.journal();
        for file in [self.input(), self.plan(), temporary(&journal), journal] {
            let _ = fs::remove_file(file);
        }
        // Only if it is empty.
        let _ = fs::remove_dir(&self.path);
    }

    /// Opens a new file in it, for its owner alone.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create_file(&self, path: &Path) -> Result<File, RunDirError> {
        private_file(path).map_err(|source| self.error(source))
    }

    /// Begins to write a file in it, which takes the old one's place when it is whole.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn replace(&self, path: &Path) -> Result<Replacement, RunDirError> {
        let temporary = temporary(path);
        let file = private_file(&temporary).map_err(|source| self.error(source))?;
        Ok(Replacement {
            dir: self.clone(),
            path: path.to_owned(),
            temporary,
            writer: io::BufWriter::with_capacity(64 * 1024, file),
            is_done: false,
        })
    }

    /// An error that names the directory.
    #[must_use]
    pub fn error(&self, source: io::Error) -> RunDirError {
        RunDirError::Io {
            path: self.path.display().to_string(),
            source,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The input's rows, decoded.
    #[must_use]
    pub fn input(&self) -> PathBuf {
        self.path.join("input.csv")
    }

    /// The plan, if that is the input.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.jsonl")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.jsonl")
    }

    /// One line a row.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.path.join("results.csv")
    }

    /// The rows that came to nothing.
    #[must_use]
    pub fn failed(&self) -> PathBuf {
        self.path.join("failed.csv")
    }

    /// The values before.
    #[must_use]
    pub fn undo(&self) -> PathBuf {
        self.path.join("undo.csv")
    }

    /// The summary.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }
}

fn in_the_way_error(file: &Path) -> RunDirError {
    RunDirError::InTheWay {
        file: file.display().to_string(),
    }
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

#[cfg(not(unix))]
const fn is_open_to_others(_: &fs::Metadata) -> bool {
    true
}

/// A file that is being written beside the one whose place it takes. Dropped, it is gone, and the old one stays.
#[derive(Debug)]
pub struct Replacement {
    dir: RunDir,
    path: PathBuf,
    temporary: PathBuf,
    writer: io::BufWriter<File>,
    is_done: bool,
}

impl Replacement {
    /// Puts it on the disk and in its place.
    ///
    /// # Errors
    /// If it can't be written to its end.
    pub fn commit(mut self) -> Result<(), RunDirError> {
        let done = self
            .writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_data())
            .and_then(|()| put_in_place(&self.temporary, &self.path));
        self.is_done = done.is_ok();
        done.map_err(|source| self.dir.error(source))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// What a file is called until it is whole.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Gives a whole file its name, and puts the name on the disk.
pub(super) fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path)?;
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// A new or emptied file that only its owner may read.
///
/// # Errors
/// If it can't be made.
pub fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // One that was there already may be open to others.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
