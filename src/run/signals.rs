//! What ends a run from outside: signals, and the deadline.

use std::future;
use std::sync::Arc;
use std::task;

use super::RunError;
use crate::output::Output;
use crate::settings::Settings;
use crate::shell;
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
            StopReason::Terminate => &format!(
                "Stopping ({}), after the requests in flight.",
                reason.describe()
            ),
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

    /// Fires at each signal that `poll` returns.
    fn follow(
        &self,
        reason: StopReason,
        mut poll: impl FnMut(&mut task::Context<'_>) -> task::Poll<Option<()>> + Send + 'static,
    ) {
        let trigger = self.clone();
        tokio::spawn(async move {
            while future::poll_fn(&mut poll).await.is_some() {
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

    /// Ends the process at once. The journal has what was sent, and is how the run goes on.
    fn quit(&self, reason: StopReason) -> ! {
        self.output.clear_bar();
        match &self.dir {
            Some(dir) if dir.journal().exists() => {
                let path = shell::quoted(&dir.path().display().to_string());
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
        let on = |kind| signal(kind).map_err(RunError::Runtime);
        let mut interrupt = on(SignalKind::interrupt())?;
        let mut terminate = on(SignalKind::terminate())?;
        let mut hangup = on(SignalKind::hangup())?;
        trigger.follow(StopReason::Interrupt, move |task| interrupt.poll_recv(task));
        trigger.follow(StopReason::Terminate, move |task| terminate.poll_recv(task));
        trigger.follow(StopReason::Hangup, move |task| hangup.poll_recv(task));
    }
    #[cfg(windows)]
    {
        use tokio::signal::windows;
        let failed = RunError::Runtime;
        let mut interrupt = windows::ctrl_c().map_err(failed)?;
        let mut terminate = windows::ctrl_break().map_err(failed)?;
        // Windows ends the process a few seconds after these.
        let mut close = windows::ctrl_close().map_err(failed)?;
        let mut logoff = windows::ctrl_logoff().map_err(failed)?;
        let mut shutdown = windows::ctrl_shutdown().map_err(failed)?;
        trigger.follow(StopReason::Interrupt, move |task| interrupt.poll_recv(task));
        trigger.follow(StopReason::Terminate, move |task| terminate.poll_recv(task));
        trigger.follow(StopReason::Hangup, move |task| close.poll_recv(task));
        trigger.follow(StopReason::Hangup, move |task| logoff.poll_recv(task));
        trigger.follow(StopReason::Hangup, move |task| shutdown.poll_recv(task));
    }
    Ok(())
}
