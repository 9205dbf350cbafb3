//! The first few changes alone, read back and compared, before all others go.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::watch;

/// What a row that is about to be sent is told.
#[derive(Debug)]
pub enum Pass<'c> {
    /// Go; you are looked at: say by this whether you came out right.
    Watched(Watch<'c>),
    /// Go.
    Free,
    /// Do not go: one of the first was not right.
    Halt,
}

/// A row that is looked at. One that ends without a word, by a fault, did not come out right: nobody waits for it.
#[derive(Debug)]
pub struct Watch<'c> {
    canary: &'c Canary,
    is_right: bool,
}

impl Watch<'_> {
    /// The row came out right, or did not.
    pub fn judge(mut self, is_right: bool) {
        self.is_right = is_right;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.canary.judge(self.is_right);
    }
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
    pub async fn pass(&self) -> Pass<'_> {
        if *self.verdict.borrow() == Verdict::Open {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.0 > 0 {
                left.0 -= 1;
                return Pass::Watched(Watch {
                    canary: self,
                    is_right: false,
                });
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

    fn judge(&self, right: bool) {
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

    async fn watched(canary: &Canary) -> Watch<'_> {
        match canary.pass().await {
            Pass::Watched(watch) => watch,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_others_wait_for_the_first() {
        let canary = Canary::new(2);
        let (one, two) = (watched(&canary).await, watched(&canary).await);
        assert!(canary.pass().now_or_never().is_none());
        one.judge(true);
        assert!(canary.pass().now_or_never().is_none());
        two.judge(true);
        assert!(matches!(canary.pass().await, Pass::Free));
        assert!(matches!(Canary::new(0).pass().await, Pass::Free));
    }

    #[tokio::test]
    async fn one_that_is_wrong_or_ends_without_a_word_halts_the_others() {
        let canary = Canary::new(2);
        let (one, two) = (watched(&canary).await, watched(&canary).await);
        one.judge(false);
        two.judge(true);
        assert!(matches!(canary.pass().await, Pass::Halt));

        let canary = Canary::new(1);
        drop(watched(&canary).await);
        assert!(matches!(canary.pass().await, Pass::Halt));
    }
}
