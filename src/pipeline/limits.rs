//! When failures end the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Outcome;
use crate::stop::{Stop, StopReason};

/// A share counts from this many rows on, because one failure among the first ten rows says little about the file.
const ROWS_FOR_SHARE: u64 = 100;

/// A limit that is given as a number, or as a share of the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threshold {
    /// A number.
    Count(u64),
    /// A share of the rows, in percent.
    Percent(f64),
}

impl std::str::FromStr for Threshold {
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

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rows and their shares need no more than 52 bits"
)]
impl Threshold {
    /// Returns whether `count` among `rows` is more than the limit.
    pub(crate) fn is_exceeded(self, count: u64, rows: u64) -> bool {
        count as f64 > self.among(rows)
    }

    /// Returns whether `count` among `rows` reaches the limit. 0 never does.
    pub(crate) fn is_reached(self, count: u64, rows: u64) -> bool {
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
pub(crate) struct FailureLimits {
    abort_on_update_fail: bool,
    max_failures: Option<Threshold>,
    rows: AtomicU64,
    failures: AtomicU64,
    stop: Arc<Stop>,
}

impl FailureLimits {
    /// Returns limits that raise `stop` when they are reached.
    pub(crate) fn new(
        abort_on_update_fail: bool,
        max_failures: Option<Threshold>,
        stop: Arc<Stop>,
    ) -> Self {
        Self {
            abort_on_update_fail,
            max_failures,
            rows: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            stop,
        }
    }

    /// Counts the outcome of a row, and stops the run if a limit is reached. Invalid rows do not count: they were
    /// known before the run, and `--strict` is there for them.
    pub(crate) fn record(&self, outcome: Outcome) {
        let rows = self.rows.fetch_add(1, Ordering::Relaxed) + 1;
        let update_failed = matches!(outcome, Outcome::Failed | Outcome::Unknown);
        let failed = update_failed || matches!(outcome, Outcome::NotFound | Outcome::Conflict);
        let failures =
            self.failures.fetch_add(failed.into(), Ordering::Relaxed) + u64::from(failed);
        // This is checked after each row, because all failures may come before the hundredth row.
        let counts = |limit| matches!(limit, Threshold::Count(_)) || rows >= ROWS_FOR_SHARE;
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
        let limits = FailureLimits::new(
            false,
            Some(limit.parse().expect("a limit")),
            Arc::clone(&stop),
        );
        outcomes.into_iter().position(|outcome| {
            limits.record(outcome);
            stop.is_raised()
        })
    }

    #[test]
    fn a_count_stops_at_once_and_a_share_after_100_rows() {
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
    fn bad_thresholds_are_refused() {
        for bad in ["", "x", "-1", "101%", "%", "1.5"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }
}
