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

    /// Returns what a signal raises.
    pub(super) fn stop(&self) -> &Arc<Stop> {
        &self.stop
    }

    /// Asks a question, and returns the answer.
    ///
    /// # Errors
    /// If a signal comes first, or the terminal can't be read.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
    ) -> Result<T, RunError> {
        let answer = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.raised() => None,
                answer = tokio::task::spawn_blocking(question) => answer.ok(),
            }
        });
        let error = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(dialoguer::Error::IO(error))) => Some(error),
            None => None,
        };
        self.restore();
        // While keys are read one by one, Ctrl-C is a key, and an error of its own.
        let is_ctrl_c = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
        Err(match (self.stop.reason(), error) {
            (Some(reason), _) => RunError::Stopped(reason),
            (None, Some(error)) if !is_ctrl_c(&error) => {
                RunError::Refused(format!("nothing was written: {error}"))
            }
            (None, _) => RunError::Stopped(StopReason::Interrupt),
        })
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
