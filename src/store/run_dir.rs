//! The run directory: only its owner can read it, and only one process uses it at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::paths;

/// A run directory and the names of the files in it.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// The lock that this process holds while it uses the directory. It ends with the process.
    claim: Option<Arc<File>>,
    /// The directory above it, if that was created for it.
    created_parent: Option<PathBuf>,
}

/// The run directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunDirError {
    #[error(
        "{path} holds a run already; to continue it: sigma-bulk resume {path}; for a new run, use another --run-dir"
    )]
    Taken { path: String },
    #[error("another process is running in {path}: wait for it to end, or use another --run-dir")]
    Busy { path: String },
    #[error(
        "{file} exists already and does not belong to a run: it would be overwritten; use an empty --run-dir"
    )]
    InTheWay { file: String },
    #[error(
        "the run in {path} is still under way in another process: wait for it to end, or stop it"
    )]
    UnderWay { path: String },
    #[error("{path} does not hold a run: it has no journal.jsonl")]
    NoRun { path: String },
    #[error(
        "there is no such run below runs/ yet, so that latest names none; write the path of a run directory"
    )]
    NoLatest,
    #[error("the run directory {path} can't be created: {source}; --run-dir DIR puts it elsewhere")]
    Create { path: String, source: io::Error },
    #[error("the run directory {path} can't be used: {source}")]
    Io { path: String, source: io::Error },
}

impl RunDir {
    /// Creates a run directory. `source` is the input, if that is a file.
    ///
    /// # Errors
    /// If it holds a run or other files with the names of a run's files, or can't be created.
    pub(crate) fn create(path: &Path, source: Option<&Path>) -> Result<Self, RunDirError> {
        let dir = Self {
            path: path.to_owned(),
            claim: None,
            created_parent: None,
        };
        if let Some(name) = paths::device_name(path) {
            return Err(RunDirError::Create {
                path: path.display().to_string(),
                source: io::Error::other(format!("{name} is the name of a device on Windows")),
            });
        }
        dir.check_free()?;
        private_dir(path).map_err(|source| RunDirError::Create {
            path: path.display().to_string(),
            source,
        })?;
        let claim = dir.lock()?;
        // The process that used it until now may have left a run.
        dir.check_free()?;
        dir.check_files()?;
        if let Some(source) = source {
            dir.check_source(source)?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A directory that existed already may be readable by others.
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(|source| dir.error(source))?;
        }
        Ok(Self { claim, ..dir })
    }

    /// Claims the directory of a run that is read or resumed, so that no other process changes it meanwhile.
    ///
    /// # Errors
    /// If another process is running in it.
    pub(crate) fn claim(&mut self) -> Result<(), RunDirError> {
        self.claim = self.lock()?;
        Ok(())
    }

    /// Returns whether another process is running in the directory.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.lock(), Err(RunDirError::Busy { .. }))
    }

    fn check_free(&self) -> Result<(), RunDirError> {
        if self.journal().exists() {
            return Err(RunDirError::Taken {
                path: self.path.display().to_string(),
            });
        }
        Ok(())
    }

    /// Checks that no file with the name of one of a run's files is in the way. (A run that was killed before its first
    /// record leaves its copy of the input and a summary, which only its owner can read.)
    fn check_files(&self) -> Result<(), RunDirError> {
        let made_at_the_end = [self.results(), self.failed(), self.undo()];
        let of_others = |file: &Path| {
            fs::symlink_metadata(file)
                .is_ok_and(|metadata| !metadata.is_file() || is_open_to_others(&metadata))
        };
        let in_the_way = made_at_the_end
            .iter()
            .find(|file| fs::symlink_metadata(file).is_ok())
            .cloned()
            .or_else(|| {
                [self.input(), self.plan(), self.summary()]
                    .into_iter()
                    .find(|file| of_others(file))
            })
            .or_else(|| {
                let is_there = self.summary().exists();
                (is_there && !self.has_starting_summary()).then(|| self.summary())
            });
        in_the_way.map_or(Ok(()), |file| Err(in_the_way_error(&file)))
    }

    /// Returns whether summary.json is that of a run that was killed before its first record.
    fn has_starting_summary(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Stub {
            state: String,
        }
        fs::read(self.summary())
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stub>(&bytes).ok())
            .is_some_and(|summary| summary.state == "running")
    }

    /// Checks that the input is not the file into which it is copied.
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

    /// Locks the directory, because two processes in it would overwrite each other's files.
    #[cfg(unix)]
    fn lock(&self) -> Result<Option<Arc<File>>, RunDirError> {
        let dir = File::open(&self.path).map_err(|source| self.error(source))?;
        match dir.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Busy {
                path: self.path.display().to_string(),
            }),
            // Some network file systems have no locks. Then the run goes without one.
            Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(Some(Arc::new(dir))),
        }
    }

    #[cfg(not(unix))]
    fn lock(&self) -> Result<Option<Arc<File>>, RunDirError> {
        match super::lock::of_run_dir(&self.path) {
            Ok(None) => Err(RunDirError::Busy {
                path: self.path.display().to_string(),
            }),
            Ok(lock) => Ok(lock.map(Arc::new)),
            // The lock directory can't be used. Then the run goes without one.
            Err(_) => Ok(None),
        }
    }

    /// Creates a run directory below `parent`, named by the time and the input. A number is added if that name exists.
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn create_named(
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
        // Windows drops dots at the end.
        let stem = stem.trim_end_matches('.');
        let name = format!("{time}-{stem}");
        let mut path = parent.join(&name);
        let mut number = 2;
        while path.exists() {
            path = parent.join(format!("{name}-{number}"));
            number += 1;
        }
        let is_first = !parent.exists();
        Ok(Self {
            created_parent: is_first.then(|| parent.to_owned()),
            ..Self::create(&path, source)?
        })
    }

    /// Opens a directory that holds a run.
    ///
    /// # Errors
    /// If it holds none.
    pub(crate) fn open(path: &Path) -> Result<Self, RunDirError> {
        let dir = Self {
            path: path.to_owned(),
            claim: None,
            created_parent: None,
        };
        let is_file = |metadata: fs::Metadata| metadata.is_file();
        if fs::symlink_metadata(dir.journal()).is_ok_and(is_file) {
            Ok(dir)
        } else {
            Err(RunDirError::NoRun {
                path: path.display().to_string(),
            })
        }
    }

    /// Removes a new directory with the files that this tool put into it, because the run can't start.
    pub(crate) fn discard(&self) {
        let journal = self.journal();
        let summary = self.summary();
        for file in [
            self.input(),
            self.plan(),
            temporary_path(&journal),
            journal,
            temporary_path(&summary),
            summary,
        ] {
            let _ = fs::remove_file(file);
        }
        // These remove a directory only if it is empty.
        let _ = fs::remove_dir(&self.path);
        if let Some(parent) = &self.created_parent {
            let _ = fs::remove_dir(parent);
        }
    }

    /// Creates a file in it that only its owner can read.
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn create_file(&self, path: &Path) -> Result<File, RunDirError> {
        private_file(path).map_err(|source| self.error(source))
    }

    /// Starts to write a file that replaces the one at `path` when it is committed.
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn replace(&self, path: &Path) -> Result<Replacement, RunDirError> {
        Replacement::private(path).map_err(|source| self.error(source))
    }

    /// Puts a file of the run in its place. If another program has the old one open, the new one stays beside it, and its
    /// path is added to `kept`.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn put(
        &self,
        file: Replacement,
        kept: &mut Vec<PathBuf>,
    ) -> Result<(), RunDirError> {
        kept.extend(file.commit_or_keep().map_err(|source| self.error(source))?);
        Ok(())
    }

    /// Returns an error that names the directory.
    pub(crate) fn error(&self, source: io::Error) -> RunDirError {
        RunDirError::Io {
            path: self.path.display().to_string(),
            source,
        }
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the decoded copy of the input.
    pub(crate) fn input(&self) -> PathBuf {
        self.path.join("input.csv")
    }

    /// Returns the path of the copy of the plan, if that is the input.
    pub(crate) fn plan(&self) -> PathBuf {
        self.path.join("plan.jsonl")
    }

    /// Returns the path of the journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal.jsonl")
    }

    /// Returns the path of the file with one line for each row.
    pub(crate) fn results(&self) -> PathBuf {
        self.path.join("results.csv")
    }

    /// Returns the path of the file with the rows that did not succeed.
    pub(crate) fn failed(&self) -> PathBuf {
        self.path.join("failed.csv")
    }

    /// Returns the path of the file with the values before.
    pub(crate) fn undo(&self) -> PathBuf {
        self.path.join("undo.csv")
    }

    /// Returns the path of the summary.
    pub(crate) fn summary(&self) -> PathBuf {
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

/// On Windows, the directory decides who can read a file; see [`paths::is_shared`].
#[cfg(not(unix))]
const fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}

/// A file that is written beside the one that it replaces. Dropped without [`Replacement::commit`], it is removed and
/// the old file stays.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    temporary: PathBuf,
    writer: io::BufWriter<File>,
    is_done: bool,
}

impl Replacement {
    /// Starts to write a file that only its owner can read.
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn private(path: &Path) -> io::Result<Self> {
        Self::create(path, private_file)
    }

    /// Starts to write a file that everybody can read.
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn public(path: &Path) -> io::Result<Self> {
        Self::create(path, public_file)
    }

    fn create(path: &Path, create: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        let temporary = temporary_path(path);
        let file = create(&temporary)?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            writer: io::BufWriter::with_capacity(64 * 1024, file),
            is_done: false,
        })
    }

    /// Syncs the file to the disk and puts it in place of the old one.
    ///
    /// # Errors
    /// If it can't be written, or another program has the old one open.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.complete()?;
        rename_durably(&self.temporary, &self.path).map_err(|error| {
            if is_held(&error) {
                io::Error::other(format!(
                    "another program has it open ({error}): close it there"
                ))
            } else {
                error
            }
        })?;
        self.is_done = true;
        Ok(())
    }

    /// As [`Replacement::commit`], but if another program has the old file open, the new one stays beside it. Returns its
    /// path then.
    ///
    /// # Errors
    /// If it can't be written.
    fn commit_or_keep(mut self) -> io::Result<Option<PathBuf>> {
        self.complete()?;
        let beside = name_beside(&self.path);
        let kept = match rename_durably(&self.temporary, &self.path) {
            Err(error) if is_held(&error) => {
                rename_durably(&self.temporary, &beside)?;
                Some(beside)
            }
            result => {
                result?;
                // Only where files can be held does one of this name come from here.
                if cfg!(windows) {
                    let _ = fs::remove_file(beside);
                }
                None
            }
        };
        self.is_done = true;
        Ok(kept)
    }

    fn complete(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_data()
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

/// Returns the name that a file has until it is complete.
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Returns the name of a file that can't take the place of an older one: `results.new.csv` for `results.csv`.
fn name_beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".new");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// How often a file is tried to be replaced that another program has open, and how long is waited in between. Virus scanners
/// and indexers open new files for a moment; Excel keeps them.
const HELD_TRIES: u32 = 10;
const HELD_WAIT: Duration = Duration::from_millis(50);

/// Returns whether a file can't be replaced because another program has it open, which only Windows refuses:
/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION` and `ERROR_LOCK_VIOLATION`.
fn is_held(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32 | 33))
}

/// Gives a complete file its final name, and syncs the name to the disk.
pub(crate) fn rename_durably(temporary: &Path, path: &Path) -> io::Result<()> {
    let mut tries = 1;
    while let Err(error) = fs::rename(temporary, path) {
        if !is_held(&error) || tries == HELD_TRIES {
            return Err(error);
        }
        tries += 1;
        std::thread::sleep(HELD_WAIT);
    }
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        let is_here = dir.as_os_str().is_empty();
        File::open(if is_here { Path::new(".") } else { dir })?.sync_all()?;
    }
    Ok(())
}

/// Makes `options` refuse a symbolic link, which could lead a file of a run to anywhere.
pub(super) fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options
}

/// Creates or empties a file that everybody can read. A symbolic link is not followed.
///
/// # Errors
/// If it can't be created.
fn public_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    without_links(&mut options).open(path)
}

/// Creates a directory that only its owner can open, and those above it, unless they are there.
///
/// # Errors
/// If they can't be created.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates or empties a file that only its owner can read. A symbolic link is not followed.
///
/// # Errors
/// If it can't be created.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    if path.is_symlink() {
        return Err(io::Error::other(format!(
            "{} is a symbolic link, which is not followed: remove it",
            path.display()
        )));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = without_links(&mut options).open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A file that existed already may be readable by others. A pipe or a device is not ours to change.
        if file.metadata()?.is_file() {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}
