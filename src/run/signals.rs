//! What ends a run from outside: signals, and the deadline.

use std::sync::Arc;

use super::RunError;
use crate::output::{Output, shell_quoted};
use crate::settings::Settings;
use crate::stop::{Stop, StopReason};
use crate::store::RunDir;

/// Raises the stop and says so, because the requests in flight may take as long as a timeout.
#[derive(Clone)]
struct StopTrigger {
    stop: Arc<Stop>,
    dir: Option<RunDir>,
    is_quiet: bool,
    output: Output,
}

impl StopTrigger {
    fn fire(&self, reason: StopReason) {
        self.stop.raise(reason);
        tracing::info!(reason = reason.describe(), "stopping");
        let line = match reason {
            StopReason::Deadline => "Stopping at the deadline, after the requests in flight.",
            StopReason::Terminate => "Stopping (SIGTERM), after the requests in flight.",
            StopReason::Interrupt => {
                "Stopping after the requests in flight. Ctrl-C again quits at once."
            }
            // Nobody would read it.
            _ => return,
        };
        if !self.is_quiet {
            self.output.event(line);
        }
    }

    /// Ends the process at once. The journal has what was sent, and is how the run goes on.
    fn quit(&self, reason: StopReason) -> ! {
        self.output.clear_bar();
        match &self.dir {
            Some(dir) if dir.journal().exists() => {
                let path = shell_quoted(&dir.path().display().to_string());
                self.output.event(format_args!(
                    "Quit before the requests in flight had ended; a resume finds out what became of them:"
                ));
                self.output.note(format_args!("  sigma-bulk resume {path}"));
            }
            Some(dir) => dir.discard(),
            None => {}
        }
        std::process::exit(i32::from(reason.exit_code()))
    }
}

/// Raises the stop at signals and at the deadline. The second signal ends the process at once. `dir` is the directory of
/// the run, if the command works on one.
pub(super) fn listen(
    stop: &Arc<Stop>,
    settings: &Settings,
    dir: Option<&RunDir>,
    output: &Output,
) -> Result<(), RunError> {
    let trigger = StopTrigger {
        stop: Arc::clone(stop),
        dir: dir.cloned(),
        is_quiet: settings.quiet,
        output: output.clone(),
    };
    if let Some(deadline) = settings.deadline {
        let trigger = trigger.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline.0).await;
            trigger.fire(StopReason::Deadline);
        });
    }
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [
            (SignalKind::interrupt(), StopReason::Interrupt),
            (SignalKind::terminate(), StopReason::Terminate),
            (SignalKind::hangup(), StopReason::Hangup),
        ];
        for (kind, reason) in kinds {
            let mut signals = signal(kind).map_err(RunError::Runtime)?;
            let trigger = trigger.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let is_second =
                        (trigger.stop.reason()).is_some_and(|held| held >= StopReason::Hangup);
                    // A terminal that closes may send several signals; a second Ctrl-C is on purpose.
                    if is_second && reason != StopReason::Hangup {
                        trigger.quit(reason);
                    }
                    trigger.fire(reason);
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if trigger.stop.reason() == Some(StopReason::Interrupt) {
                    trigger.quit(StopReason::Interrupt);
                }
                trigger.fire(StopReason::Interrupt);
            }
        });
    }
    Ok(())
}
