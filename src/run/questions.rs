//! The questions of `init`. A signal ends them, and the terminal is then as it was before.

use std::io;
use std::sync::Arc;

use console::Term;
use tokio::runtime::Runtime;

use super::{Context, RunError, signals};
use crate::settings::Settings;
use crate::stop::{Stop, StopReason};

/// Asks questions in the terminal.
pub(super) struct Questions<'r> {
    runtime: &'r Runtime,
    stop: Arc<Stop>,
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl<'r> Questions<'r> {
    /// Gets ready to ask. From now on, a signal does not end the process by itself.
    ///
    /// # Errors
    /// If signals can't be received.
    pub(super) fn new(
        context: &Context,
        settings: &Settings,
        runtime: &'r Runtime,
    ) -> Result<Self, RunError> {
        let stop = Arc::new(Stop::default());
        // There are no requests of which a signal would have to say that they go on.
        let quiet = Settings {
            quiet: true,
            deadline: None,
            ..settings.clone()
        };
        let _entered = runtime.enter();
        signals::listen(&stop, &quiet, None, &context.output)?;
        Ok(Self {
            runtime,
            stop,
            #[cfg(unix)]
            before: rustix::termios::tcgetattr(io::stdin()).ok(),
        })
    }

    /// Waits for work that a signal ends at once.
    ///
    /// # Errors
    /// If a signal comes first.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, RunError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.raised() => Err(self.stopped()),
                done = work => Ok(done),
            }
        })
    }

    /// Asks a question, and returns the answer.
    ///
    /// # Errors
    /// If a signal comes first, or the terminal can't be read.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
    ) -> Result<T, RunError> {
        let error = match self.wait(async { tokio::task::spawn_blocking(question).await }) {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            // While keys are read one by one, Ctrl-C is a key, and an error of its own.
            Ok(Ok(Err(dialoguer::Error::IO(error))))
                if error.kind() != io::ErrorKind::Interrupted =>
            {
                RunError::Refused(format!("the configuration was not written: {error}"))
            }
            Ok(_) => self.stopped(),
            Err(stopped) => stopped,
        };
        self.restore();
        Err(error)
    }

    fn stopped(&self) -> RunError {
        RunError::Stopped(self.stop.reason().unwrap_or(StopReason::Interrupt))
    }

    /// Shows what is typed again, and the cursor. The question that was asked can't do it: it still waits for an answer.
    fn restore(&self) {
        let terminal = Term::stderr();
        // The question's line has no end yet.
        let _ = terminal
            .show_cursor()
            .and_then(|()| terminal.write_line(""));
        #[cfg(unix)]
        if let Some(before) = &self.before {
            use rustix::termios::{OptionalActions, tcsetattr};
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
