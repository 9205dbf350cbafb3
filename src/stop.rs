//! Why a run ends before its last row, and the signal that tells every task to stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::exit_code;

/// Why a run stops early, in ascending order of severity. A more severe reason replaces a less severe one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopReason {
    /// `--abort-on-update-fail`, `--max-failures`, or a failed canary.
    FailureLimit,
    /// `--deadline`.
    Deadline,
    /// The API no longer accepts the credentials.
    SignIn,
    /// The API could not be reached for longer than `--outage-limit`.
    Outage,
    /// Something in front of the API blocks all requests.
    Blocked,
    /// The API refuses what the credentials ask for.
    Refused,
    /// The results can no longer be recorded.
    Recording,
    /// The terminal is gone (SIGHUP), or nobody reads the output any more.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or Ctrl-Break on Windows.
    Terminate,
}

impl StopReason {
    /// Returns the value of `stop` in `summary.json`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FailureLimit => "failure_limit",
            Self::Deadline => "deadline",
            Self::SignIn | Self::Outage | Self::Blocked | Self::Refused | Self::Recording => {
                "error"
            }
            Self::Hangup | Self::Interrupt | Self::Terminate => "interrupted",
        }
    }

    /// Returns what has happened, as a part of a sentence.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::FailureLimit => "too many failures",
            Self::Deadline => "the deadline is reached",
            Self::SignIn => "the API no longer accepts the credentials",
            Self::Outage => "the API could not be reached for too long",
            Self::Blocked => "something in front of the API blocks all requests",
            Self::Refused => "the API refuses every update or look-up",
            Self::Recording => "results can't be recorded",
            Self::Hangup => "the terminal is gone",
            Self::Interrupt => "Ctrl-C",
            Self::Terminate if cfg!(windows) => "Ctrl-Break",
            Self::Terminate => "SIGTERM",
        }
    }

    /// Returns the exit code of the process.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::SignIn | Self::Outage | Self::Blocked | Self::Refused => exit_code::API,
            Self::FailureLimit | Self::Deadline | Self::Recording => exit_code::STOPPED,
            Self::Hangup => exit_code::HANGUP,
            Self::Interrupt => exit_code::INTERRUPT,
            Self::Terminate => exit_code::TERMINATE,
        }
    }
}

/// The stop signal that all tasks share. Once it is raised, no new row is started, nothing is retried, and
/// requests in flight finish.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Mutex<Option<(StopReason, Option<String>)>>,
}

impl Stop {
    /// Stops the run. A reason less severe than an earlier one is ignored.
    pub(crate) fn raise(&self, reason: StopReason) {
        self.set(reason, None);
    }

    /// Stops the run, and says what has led to it.
    pub(crate) fn raise_because(&self, reason: StopReason, detail: String) {
        self.set(reason, Some(detail));
    }

    fn set(&self, reason: StopReason, detail: Option<String>) {
        let mut held = self.held();
        if held.as_ref().is_none_or(|(held, _)| *held < reason) {
            *held = Some((reason, detail));
        }
        self.token.cancel();
    }

    /// Returns why the run stops, or `None` if it does not.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.held().as_ref().map(|(reason, _)| *reason)
    }

    /// Returns what has led to the reason, if that is known.
    pub(crate) fn detail(&self) -> Option<String> {
        self.held().as_ref().and_then(|(_, detail)| detail.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<(StopReason, Option<String>)>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the run stops.
    pub(crate) fn is_raised(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the run stops.
    pub(crate) async fn raised(&self) {
        self.token.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_stop_reason_wins() {
        let stop = Stop::default();
        for reason in [
            StopReason::Deadline,
            StopReason::Interrupt,
            StopReason::FailureLimit,
        ] {
            stop.raise(reason);
        }
        assert_eq!(stop.reason(), Some(StopReason::Interrupt));
        assert!(stop.is_raised());
    }
}
