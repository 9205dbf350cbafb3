//! The journal, being written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::index::Index;
use super::read::Extent;
use super::record::{Glance, Head, Record};
use crate::report::rundir::{private_file, put_in_place, temporary};

/// The journal, being written.
#[derive(Debug)]
pub struct Journal {
    file: Arc<File>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    is_dirty: bool,
    /// Where the next line will stand.
    position: u64,
    /// Where everything stands, the lines that are not in the file yet included.
    index: Index,
}

impl Journal {
    /// Begins one. It is there with its head or not at all: whoever is killed meanwhile leaves no run that can't go on.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn create(path: &Path, head: Head) -> io::Result<Self> {
        let temporary = temporary(path);
        let index = Index::new(head.rows);
        let mut journal = Self::with(private_file(&temporary)?, 0, index);
        journal.add_now(&Record::Head(head))?;
        put_in_place(&temporary, path)?;
        Ok(journal)
    }

    /// Goes on with one as it was read, which is what `index` says: what stands behind its whole lines is torn.
    ///
    /// # Errors
    /// If the file can't be opened or mended, or if somebody else has written to it since.
    pub fn reopen(path: &Path, extent: Extent, index: Index) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != extent.length {
            return Err(io::Error::other(
                "the run went on in another process meanwhile; resume it once more",
            ));
        }
        file.set_len(extent.end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::with(file, extent.end, index))
    }

    fn with(file: File, position: u64, index: Index) -> Self {
        Self {
            file: Arc::new(file),
            lines: Vec::with_capacity(64 * 1024),
            is_dirty: false,
            position,
            index,
        }
    }

    /// Adds a line; it is in the file after [`Journal::write`].
    ///
    /// # Errors
    /// If the record can't be formed.
    pub fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        let before = self.lines.len();
        serde_json::to_writer(&mut self.lines, record)?;
        self.lines.push(b'\n');
        self.index.note(self.position, Glance::from(record));
        self.position += (self.lines.len() - before) as u64;
        Ok(())
    }

    /// Puts the added lines into the file.
    ///
    /// # Errors
    /// If that fails; then nothing may be done that depends on them.
    pub fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            (&*self.file).write_all(&self.lines)?;
            self.lines.clear();
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Takes what is known of where everything stands, which is nothing from then on. It is right if nothing failed.
    pub fn take_index(&mut self) -> Index {
        std::mem::replace(&mut self.index, Index::new(0))
    }

    /// Whether the file has lines that are not known to be on disk.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The file, if it has lines that are not known to be on disk; they are taken to be from now on.
    pub fn to_sync(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.is_dirty).then(|| Arc::clone(&self.file))
    }

    /// Adds a line, and puts everything on the disk.
    ///
    /// # Errors
    /// If that fails.
    pub fn add_now(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.add(record)?;
        self.write()?;
        self.file.sync_data()
    }
}
