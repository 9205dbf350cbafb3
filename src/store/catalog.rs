//! The runs below a directory: which there are, and which is the newest.

use std::io;
use std::path::Path;

use super::journal::{Head, JournalReader};
use super::{RunDir, RunDirError};

/// The directory in which runs are put unless `--run-dir` says otherwise.
pub(crate) const RUNS: &str = "runs";
/// What names the newest run below [`RUNS`] where a run directory is asked for.
pub(crate) const LATEST: &str = "latest";

/// Returns the run directories in `parent`, in no particular order. There are none if it does not exist.
///
/// # Errors
/// If it can't be read.
pub(crate) fn run_dirs(parent: &Path) -> io::Result<Vec<RunDir>> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A symbolic link may lead to a run a second time.
        if entry.file_type()?.is_dir()
            && let Ok(dir) = RunDir::open(&entry.path())
        {
            dirs.push(dir);
        }
    }
    Ok(dirs)
}

/// Returns the runs in `parent` whose journals can be read, the newest first.
///
/// # Errors
/// If the directory can't be read.
pub(crate) fn runs(parent: &Path) -> io::Result<Vec<(RunDir, Head)>> {
    let mut runs: Vec<(RunDir, Head)> = run_dirs(parent)?
        .into_iter()
        .filter_map(|dir| {
            let (_, head) = JournalReader::open(&dir.journal()).ok()?;
            Some((dir, head))
        })
        .collect();
    runs.sort_by(|(one, a), (other, b)| {
        let older = (&a.started_at, one.path()).cmp(&(&b.started_at, other.path()));
        older.reverse()
    });
    Ok(runs)
}

/// Returns the runs in the directory that holds `dir`, that run included, the newest first.
///
/// # Errors
/// If the directory can't be read.
pub(crate) fn beside(dir: &RunDir) -> io::Result<Vec<(RunDir, Head)>> {
    let parent = dir.path().parent().unwrap_or(Path::new(""));
    // The parent of a plain name is empty.
    let is_here = parent.as_os_str().is_empty();
    runs(if is_here { Path::new(".") } else { parent })
}

/// Opens the run directory that a command names: a path, or the newest run for [`LATEST`].
///
/// # Errors
/// If there is no run.
pub(crate) fn open(path: &Path) -> Result<RunDir, RunDirError> {
    open_latest(path, |_| true)
}

/// As [`open`], but [`LATEST`] is the newest run that changed something, or may have: whoever looks at an undo by a dry run
/// and then undoes means the same run.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_changing(path: &Path) -> Result<RunDir, RunDirError> {
    open_latest(path, |head| !head.dry_run)
}

fn open_latest(path: &Path, is_meant: impl Fn(&Head) -> bool) -> Result<RunDir, RunDirError> {
    if path.as_os_str() != LATEST {
        return RunDir::open(path);
    }
    let runs = runs(Path::new(RUNS)).map_err(|source| RunDirError::Io {
        path: RUNS.to_owned(),
        source,
    })?;
    let newest = runs.into_iter().find(|(_, head)| is_meant(head));
    newest.map(|(dir, _)| dir).ok_or(RunDirError::NoLatest)
}
