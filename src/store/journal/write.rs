//! Writing the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::index::JournalIndex;
use super::read::JournalExtent;
use super::record::{Head, Record};
use crate::store::run_dir::{private_file, rename_durably, temporary_path};

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<File>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    is_dirty: bool,
    /// Where the next line will stand.
    position: u64,
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
        let mut journal = Self::with(private_file(&temporary)?, 0, index);
        journal.add_now(&Record::Head(Box::new(head)))?;
        rename_durably(&temporary, path)?;
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
        let mut file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != extent.length {
            return Err(io::Error::other(
                "another process continued this run in the meantime; resume it again",
            ));
        }
        file.set_len(extent.end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::with(file, extent.end, index))
    }

    fn with(file: File, position: u64, index: JournalIndex) -> Self {
        Self {
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
        self.lines.push(b'\n');
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
            self.lines.clear();
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Takes the index, which is right if no write failed. The journal has an empty one afterwards.
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
