//! Writing the journal.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::JournalIndex;
use super::read::JournalExtent;
use super::record::{Head, Record};
use crate::seal::Seal;
use crate::store::run_dir::{private_file, rename_durably, temporary_path, without_links};

/// Somebody took the journal away while it was written.
#[derive(Debug, thiserror::Error)]
#[error("{path} was {what} while the run was going")]
pub(crate) struct JournalLost {
    path: String,
    what: &'static str,
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    is_dirty: bool,
    /// Where the next line will stand.
    position: u64,
    /// How much of it is in the file.
    written: u64,
    /// The checksum of all lines.
    seal: Seal,
    /// The index of all lines, including those that are not in the file yet.
    index: JournalIndex,
}

impl Journal {
    /// Creates a journal. The file appears with its head or not at all, so that a run that is killed meanwhile leaves
    /// nothing that can't be resumed.
    ///
    /// # Errors
    /// If the file can't be created.
    pub(crate) fn create(path: &Path, head: Head) -> io::Result<Self> {
        let temporary = temporary_path(path);
        let index = JournalIndex::new(head.rows);
        drop(private_file(&temporary)?);
        let file = open_to_append(&temporary)?;
        let mut journal = Self::with(path, file, 0, Seal::default(), index);
        journal.add_now(&Record::Head(Box::new(head)))?;
        rename_durably(&temporary, path)?;
        // Not every Windows knows the identity of a file that was renamed while it was open (Wine does not).
        journal.file = Arc::new(open_to_append(path)?);
        Ok(journal)
    }

    /// Reopens a journal that was read up to `extent` and has this index. A torn last line is cut off.
    ///
    /// # Errors
    /// If the file can't be opened or cut, or if another process has written to it since.
    pub(crate) fn reopen(
        path: &Path,
        extent: JournalExtent,
        index: JournalIndex,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = without_links(options.write(true)).open(path)?;
        if file.metadata()?.len() != extent.length {
            return Err(io::Error::other(
                "another process continued this run in the meantime; resume it again",
            ));
        }
        file.set_len(extent.end)?;
        let file = open_to_append(path)?;
        Ok(Self::with(path, file, extent.end, extent.seal, index))
    }

    fn with(path: &Path, file: File, position: u64, seal: Seal, index: JournalIndex) -> Self {
        Self {
            path: path.to_owned(),
            written: position,
            seal,
            file: Arc::new(file),
            lines: Vec::with_capacity(64 * 1024),
            is_dirty: false,
            position,
            index,
        }
    }

    /// Adds a line. It is in the file after [`Journal::write`].
    ///
    /// # Errors
    /// If the record can't be serialized.
    pub(crate) fn add(&mut self, record: &Record) -> io::Result<()> {
        let before = self.lines.len();
        serde_json::to_writer(&mut self.lines, record)?;
        self.seal.close(&mut self.lines, before);
        self.index.add(self.position, record);
        self.position += (self.lines.len() - before) as u64;
        Ok(())
    }

    /// Writes the added lines to the file.
    ///
    /// # Errors
    /// If that fails. Then nothing may be done that depends on these lines.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            (&*self.file).write_all(&self.lines)?;
            self.written += self.lines.len() as u64;
            self.lines.clear();
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Checks that the file under the journal's name is still the one that is written, as long as it must be.
    ///
    /// # Errors
    /// If it was deleted, replaced, or changed in length. Then nothing that was written can be relied on.
    pub(crate) fn check_place(&self) -> io::Result<()> {
        let wrong = |what: &'static str| {
            Err(io::Error::other(JournalLost {
                path: self.path.display().to_string(),
                what,
            }))
        };
        let Ok(found) = std::fs::symlink_metadata(&self.path) else {
            return wrong("deleted");
        };
        let is_same = same_file::Handle::from_path(&self.path).ok()
            == Some(same_file::Handle::from_file(self.file.try_clone()?)?);
        if found.is_symlink() || !is_same {
            return wrong("replaced");
        }
        match found.len().cmp(&self.written) {
            Ordering::Less => wrong("truncated"),
            Ordering::Equal => Ok(()),
            Ordering::Greater => wrong("written to by something else"),
        }
    }

    /// Takes the index, which is right if no write failed. The journal has an empty one afterwards.
    pub(crate) const fn index(&self) -> &JournalIndex {
        &self.index
    }

    /// Returns the index, and leaves an empty one.
    pub(crate) fn take_index(&mut self) -> JournalIndex {
        std::mem::replace(&mut self.index, JournalIndex::new(0))
    }

    /// Returns whether the file has lines that may not be on the disk yet.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Returns the file if it has lines that may not be on the disk yet. The caller syncs it.
    pub(crate) fn take_dirty_file(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.is_dirty).then(|| Arc::clone(&self.file))
    }

    /// Adds a line, writes everything to the file, and syncs it to the disk.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn add_now(&mut self, record: &Record) -> io::Result<()> {
        self.add(record)?;
        self.write()?;
        self.file.sync_data()
    }
}

/// Opens a file so that each write goes to its end. After somebody has cut the file, it stays too short. Whoever can't read a
/// file is not told by Windows which one it is.
fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    without_links(options.read(true).append(true)).open(path)
}
