//! Why a run ends before its last row, and the signal that reaches every task.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio_util::sync::CancellationToken;

/// Why a run stops early, in the order of weight: a heavier reason replaces a lighter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// `--abort-on-update-fail`, `--max-failures` or a canary that was not right.
    FailureLimit,
    /// `--deadline`.
    Deadline,
    /// The credentials are no longer taken.
    SignIn,
    /// What happens can no longer be recorded.
    Recording,
    /// The terminal is gone (SIGHUP), or nobody reads the output any more.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl StopReason {
    /// `stop` in `summary.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailureLimit => "failure_limit",
            Self::Deadline => "deadline",
            Self::SignIn | Self::Recording => "error",
            Self::Hangup | Self::Interrupt | Self::Terminate => "interrupted",
        }
    }

    /// The process' exit code. For signals it is 128 and the signal's number, as shells have it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::SignIn => 3,
            Self::FailureLimit | Self::Deadline | Self::Recording => 4,
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Raised once by whoever finds a reason, seen by all: no new row is begun, no try is made again, and what is
/// under way ends.
#[derive(Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    reason: Mutex<Option<StopReason>>,
}

impl Stop {
    /// Stops the run. A reason lighter than one that was given before changes nothing.
    pub fn raise(&self, reason: StopReason) {
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none_or(|held| held < reason) {
            *held = Some(reason);
        }
        self.token.cancel();
    }

    /// Why the run stops, if it does.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the run stops.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the run stops.
    pub async fn raised(&self) {
        self.token.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_reason_stays() {
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
