//! What ends a run from outside: signals, and the deadline.

use std::sync::Arc;

use super::RunError;
use crate::output::Output;
use crate::settings::Settings;
use crate::stop::{Stop, StopReason};

/// Raises the stop, and says so: what is under way may take as long as a request may.
#[derive(Clone)]
struct Brake {
    stop: Arc<Stop>,
    output: Option<Output>,
}

impl Brake {
    fn pull(&self, reason: StopReason) {
        self.stop.raise(reason);
        let line = match reason {
            StopReason::Deadline => "Stopping at the deadline: what is under way ends first.",
            StopReason::Terminate => "Stopping (SIGTERM): what is under way ends first.",
            StopReason::Interrupt => {
                "Stopping: what is under way ends first. Ctrl-C again leaves at once."
            }
            // Nobody reads it.
            _ => return,
        };
        if let Some(output) = &self.output {
            output.note(line);
        }
    }
}

/// Raises the stop at signals and at the deadline; the second signal ends the process at once.
pub(super) fn listen(
    stop: &Arc<Stop>,
    settings: &Settings,
    output: &Output,
) -> Result<(), RunError> {
    let brake = Brake {
        stop: Arc::clone(stop),
        output: (!settings.quiet).then(|| output.clone()),
    };
    if let Some(deadline) = settings.deadline {
        let brake = brake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            brake.pull(StopReason::Deadline);
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
            let brake = brake.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let is_second =
                        (brake.stop.reason()).is_some_and(|held| held >= StopReason::Hangup);
                    // A terminal that goes may tell twice; whoever presses Ctrl-C twice means it.
                    if is_second && reason != StopReason::Hangup {
                        std::process::exit(i32::from(reason.exit_code()));
                    }
                    brake.pull(reason);
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if brake.stop.reason() == Some(StopReason::Interrupt) {
                    std::process::exit(i32::from(StopReason::Interrupt.exit_code()));
                }
                brake.pull(StopReason::Interrupt);
            }
        });
    }
    Ok(())
}
