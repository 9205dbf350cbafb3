//! What ends a run from outside: signals, and the deadline.

use std::sync::Arc;

use super::RunError;
use crate::settings::Settings;
use crate::stop::{Stop, StopReason};

/// Raises the stop at signals and at the deadline; the second signal ends the process at once.
pub(super) fn listen(stop: &Arc<Stop>, settings: &Settings) -> Result<(), RunError> {
    if let Some(deadline) = settings.deadline {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            stop.raise(StopReason::Deadline);
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
            let stop = Arc::clone(stop);
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let is_second = stop.reason().is_some_and(|held| held >= StopReason::Hangup);
                    // A terminal that goes may tell twice; whoever presses Ctrl-C twice means it.
                    if is_second && reason != StopReason::Hangup {
                        std::process::exit(i32::from(reason.exit_code()));
                    }
                    stop.raise(reason);
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.reason() == Some(StopReason::Interrupt) {
                    std::process::exit(i32::from(StopReason::Interrupt.exit_code()));
                }
                stop.raise(StopReason::Interrupt);
            }
        });
    }
    Ok(())
}
