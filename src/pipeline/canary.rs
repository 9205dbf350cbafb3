//! The first few changes alone, read back and compared, before all others go.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::watch;

/// What a row that is about to be sent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Go; you are looked at: tell [`Canary::judge`] whether you came out right.
    Watched,
    /// Go.
    Free,
    /// Do not go: one of the first was not right.
    Halt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    Right,
    Wrong,
}

/// Lets the first rows go and holds the others until those are judged.
#[derive(Debug)]
pub struct Canary {
    /// Watched rows that may still go, and those that are not judged yet.
    left: Mutex<(u32, u32)>,
    verdict: watch::Sender<Verdict>,
}

impl Canary {
    /// Watches the first `count` rows; 0 watches none.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let verdict = if count == 0 {
            Verdict::Right
        } else {
            Verdict::Open
        };
        Self {
            left: Mutex::new((count, count)),
            verdict: watch::Sender::new(verdict),
        }
    }

    /// Waits until the row may go, or may not.
    pub async fn pass(&self) -> Pass {
        if *self.verdict.borrow() == Verdict::Open {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.0 > 0 {
                left.0 -= 1;
                return Pass::Watched;
            }
        }
        let mut verdict = self.verdict.subscribe();
        match verdict
            .wait_for(|verdict| *verdict != Verdict::Open)
            .await
            .as_deref()
        {
            Ok(Verdict::Right) => Pass::Free,
            _ => Pass::Halt,
        }
    }

    /// A watched row came out right, or did not.
    pub fn judge(&self, right: bool) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.1 = left.1.saturating_sub(1);
        if !right {
            self.verdict.send_replace(Verdict::Wrong);
        } else if left.1 == 0 {
            self.verdict.send_if_modified(|verdict| {
                let open = *verdict == Verdict::Open;
                if open {
                    *verdict = Verdict::Right;
                }
                open
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_others_wait_for_the_first() {
        let canary = Canary::new(2);
        assert_eq!(
            (canary.pass().await, canary.pass().await),
            (Pass::Watched, Pass::Watched)
        );
        assert_eq!(canary.pass().now_or_never(), None);
        canary.judge(true);
        assert_eq!(canary.pass().now_or_never(), None);
        canary.judge(true);
        assert_eq!(canary.pass().await, Pass::Free);

        let canary = Canary::new(1);
        canary.pass().await;
        canary.judge(false);
        assert_eq!(canary.pass().await, Pass::Halt);
        assert_eq!(Canary::new(0).pass().await, Pass::Free);
    }
}
