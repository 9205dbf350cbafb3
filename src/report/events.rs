//! `--events`: one JSON line for each thing that happens, for programs that wrap the tool. Each line has `v`, the version of
//! the form, `at`, the time in UTC, and `event`, what has happened; `guide scheduling` lists the events and their fields.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::clock::now;
use crate::store::run_dir::private_file;

/// The version of the form. A new field is no new version.
const VERSION: u32 = 1;

/// Where events are written, if anywhere. A clone writes to the same place.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventStream {
    target: Option<Arc<Mutex<Target>>>,
    is_stdout: bool,
}

#[derive(Debug)]
enum Target {
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<File>),
    /// It could not be written to.
    Broken,
}

impl Target {
    fn writer(&mut self) -> Option<&mut dyn Write> {
        match self {
            Self::Stdout(file) => Some(file),
            Self::File(file) => Some(file),
            Self::Broken => None,
        }
    }
}

impl EventStream {
    /// Opens the stream: `-` is standard output, and a file is one that only its owner can read.
    ///
    /// # Errors
    /// If the file can't be created.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let is_stdout = path.as_os_str() == "-";
        let target = if is_stdout {
            Target::Stdout(crate::output::stdout_file())
        } else {
            Target::File(BufWriter::new(private_file(path)?))
        };
        Ok(Self {
            target: Some(Arc::new(Mutex::new(target))),
            is_stdout,
        })
    }

    /// Returns whether events go to standard output, which is then for nothing else.
    pub(crate) const fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Returns whether anybody wants events.
    pub(crate) const fn is_open(&self) -> bool {
        self.target.is_some()
    }

    /// Writes an event with these fields, an object.
    pub(crate) fn send(&self, event: &str, fields: Value) {
        let mut line = Map::new();
        line.insert("v".to_owned(), json!(VERSION));
        line.insert("at".to_owned(), json!(now()));
        line.insert("event".to_owned(), json!(event));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        self.write(|file| writeln!(file, "{}", Value::Object(line)));
    }

    /// Hands over what is buffered.
    pub(crate) fn flush(&self) {
        self.write(|file| file.flush());
    }

    /// Writes, and gives up at the first error: the run does not depend on whoever listens.
    fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let Some(target) = &self.target else { return };
        let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = target.writer() else { return };
        if let Err(error) = write(file) {
            tracing::warn!(%error, "events can't be written any more");
            *target = Target::Broken;
        }
    }
}
