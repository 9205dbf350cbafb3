//! When failures end the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::change::Outcome;
use crate::stop::{Stop, StopReason};

/// A share counts from so many rows on: one failure among the first ten is no tenth of the file.
const ROWS_FOR_SHARE: u64 = 100;

/// A number, or a share of the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many.
    Count(u64),
    /// So many percent.
    Percent(f64),
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is neither a number (20) nor a share (5%)");
        match text.trim().strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(Self::Percent)
                .ok_or_else(wrong),
            None => text.trim().parse().map(Self::Count).map_err(|_| wrong()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rows and their shares need no more than 52 bits"
)]
impl Limit {
    /// Whether `count` among `rows` is more than the limit.
    #[must_use]
    pub fn is_exceeded(self, count: u64, rows: u64) -> bool {
        count as f64 > self.among(rows)
    }

    /// Whether `count` among `rows` is as much as the limit, and not nothing.
    #[must_use]
    pub fn is_reached(self, count: u64, rows: u64) -> bool {
        count > 0 && count as f64 >= self.among(rows)
    }

    fn among(self, rows: u64) -> f64 {
        match self {
            Self::Count(most) => most as f64,
            Self::Percent(most) => most / 100.0 * rows as f64,
        }
    }
}

/// Counts failures and stops the run at the limit.
#[derive(Debug)]
pub struct Limits {
    abort_on_update_fail: bool,
    max_failures: Option<Limit>,
    rows: AtomicU64,
    failures: AtomicU64,
    stop: Arc<Stop>,
}

impl Limits {
    /// With these limits, stops `stop`.
    #[must_use]
    pub fn new(abort_on_update_fail: bool, max_failures: Option<Limit>, stop: Arc<Stop>) -> Self {
        Self {
            abort_on_update_fail,
            max_failures,
            rows: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            stop,
        }
    }

    /// A row has ended. An invalid row is not counted: it was known before, and `--strict` is there for it.
    pub fn note(&self, outcome: Outcome) {
        let rows = self.rows.fetch_add(1, Ordering::Relaxed) + 1;
        let update_failed = matches!(outcome, Outcome::Failed | Outcome::Unknown);
        let failed = update_failed || matches!(outcome, Outcome::NotFound | Outcome::Conflict);
        let failures =
            self.failures.fetch_add(failed.into(), Ordering::Relaxed) + u64::from(failed);
        // Looked at after each row: the failures may all stand before the hundredth.
        let counts = |limit| matches!(limit, Limit::Count(_)) || rows >= ROWS_FOR_SHARE;
        let too_many = self
            .max_failures
            .is_some_and(|limit| counts(limit) && limit.is_reached(failures, rows));
        if too_many || (self.abort_on_update_fail && update_failed) {
            self.stop.raise(StopReason::FailureLimit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped_after(limit: &str, outcomes: impl IntoIterator<Item = Outcome>) -> Option<usize> {
        let stop = Arc::new(Stop::default());
        let limits = Limits::new(
            false,
            Some(limit.parse().expect("a limit")),
            Arc::clone(&stop),
        );
        outcomes.into_iter().position(|outcome| {
            limits.note(outcome);
            stop.is_raised()
        })
    }

    #[test]
    fn a_count_stops_at_it_and_a_share_from_a_hundred_rows_on() {
        use Outcome::{Failed, Invalid, NotFound, Updated};
        assert_eq!(
            stopped_after("2", [Failed, Updated, Invalid, NotFound]),
            Some(3)
        );
        assert_eq!(stopped_after("5%", [Failed; 99]), None);
        assert_eq!(stopped_after("5%", [Failed; 100]), Some(99));
        let mut few = vec![Updated; 200];
        few.extend([Failed; 11]);
        assert_eq!(stopped_after("5%", few), Some(210));
        let mut first = vec![Failed; 20];
        first.extend([Updated; 100]);
        assert_eq!(stopped_after("5%", first), Some(99));
        let mut exactly = vec![Failed; 5];
        exactly.extend([Updated; 100]);
        assert_eq!(stopped_after("5%", exactly), Some(99));
        assert_eq!(stopped_after("100%", [NotFound; 150]), Some(99));
        assert_eq!(stopped_after("0", [Updated, Failed]), Some(1));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for bad in ["", "x", "-1", "101%", "%", "1.5"] {
            assert!(bad.parse::<Limit>().is_err(), "{bad}");
        }
    }
}
