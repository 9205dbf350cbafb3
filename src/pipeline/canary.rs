//! The canary: the first few updates go alone and are verified before all others go.
//!
//! ```text
//!              the last canary row is right
//!   Waiting ──────────────────────────────────► Passed    all others proceed
//!      │
//!      └── a canary row is wrong, or ends ────► Failed    no other row is sent
//!          without a report
//! ```

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What a row that is about to be sent may do.
#[derive(Debug)]
pub(crate) enum Clearance<'c> {
    /// Proceed as a canary, and report the result through the guard.
    Canary(CanaryGuard<'c>),
    /// Proceed.
    Proceed,
    /// Do not proceed: a canary row was wrong.
    Halt,
}

/// The guard of a canary row. Dropped without a report, the row counts as wrong, so that nobody waits for it.
#[derive(Debug)]
pub(crate) struct CanaryGuard<'c> {
    canary: &'c Canary,
    is_right: bool,
}

impl CanaryGuard<'_> {
    /// Reports whether the row came out right.
    pub(crate) fn report(mut self, is_right: bool) {
        self.is_right = is_right;
    }
}

impl Drop for CanaryGuard<'_> {
    fn drop(&mut self) {
        self.canary.record(self.is_right);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CanaryState {
    Waiting,
    Passed,
    Failed,
}

#[derive(Debug)]
struct Remaining {
    /// Canary rows that may still start.
    to_start: u32,
    /// Canary rows that have not reported yet.
    to_report: u32,
}

/// Lets the first rows proceed, and holds the others until those have reported.
#[derive(Debug)]
pub(crate) struct Canary {
    remaining: Mutex<Remaining>,
    state: watch::Sender<CanaryState>,
}

impl Canary {
    /// Returns a canary of the first `count` rows. With 0, every row proceeds at once.
    pub(crate) fn new(count: u32) -> Self {
        let state = if count == 0 {
            CanaryState::Passed
        } else {
            CanaryState::Waiting
        };
        Self {
            remaining: Mutex::new(Remaining {
                to_start: count,
                to_report: count,
            }),
            state: watch::Sender::new(state),
        }
    }

    /// Waits until the row may proceed, or may not.
    pub(crate) async fn clearance(&self) -> Clearance<'_> {
        if *self.state.borrow() == CanaryState::Waiting {
            let mut remaining = self.remaining();
            if remaining.to_start > 0 {
                remaining.to_start -= 1;
                return Clearance::Canary(CanaryGuard {
                    canary: self,
                    is_right: false,
                });
            }
        }
        let mut state = self.state.subscribe();
        match state
            .wait_for(|state| *state != CanaryState::Waiting)
            .await
            .as_deref()
        {
            Ok(CanaryState::Passed) => Clearance::Proceed,
            _ => Clearance::Halt,
        }
    }

    fn record(&self, is_right: bool) {
        let mut remaining = self.remaining();
        remaining.to_report = remaining.to_report.saturating_sub(1);
        if !is_right {
            self.state.send_replace(CanaryState::Failed);
        } else if remaining.to_report == 0 {
            self.state.send_if_modified(|state| {
                let is_waiting = *state == CanaryState::Waiting;
                if is_waiting {
                    *state = CanaryState::Passed;
                }
                is_waiting
            });
        }
    }

    fn remaining(&self) -> std::sync::MutexGuard<'_, Remaining> {
        self.remaining
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    async fn guard(canary: &Canary) -> CanaryGuard<'_> {
        match canary.clearance().await {
            Clearance::Canary(guard) => guard,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn others_wait_for_all_canary_rows() {
        let canary = Canary::new(2);
        let (one, two) = (guard(&canary).await, guard(&canary).await);
        assert!(canary.clearance().now_or_never().is_none());
        one.report(true);
        assert!(canary.clearance().now_or_never().is_none());
        two.report(true);
        assert!(matches!(canary.clearance().await, Clearance::Proceed));
        let none = Canary::new(0);
        assert!(matches!(none.clearance().await, Clearance::Proceed));
    }

    #[tokio::test]
    async fn a_wrong_or_silent_canary_row_halts_the_others() {
        let canary = Canary::new(2);
        let (one, two) = (guard(&canary).await, guard(&canary).await);
        one.report(false);
        two.report(true);
        assert!(matches!(canary.clearance().await, Clearance::Halt));

        let canary = Canary::new(1);
        drop(guard(&canary).await);
        assert!(matches!(canary.clearance().await, Clearance::Halt));
    }
}
