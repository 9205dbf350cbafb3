//! How long the rest of a run will take, from how it has gone so far.
//!
//! A run begins slowly, because the tool searches for the API's rate limit, so that the speed since the start is too low.
//! The speed of the last seconds is too unsteady. The second half of the time so far is a measure that follows a change and
//! still evens out small pauses. Where most of it was one pause, as with an API that counts by the minute, the whole time
//! says more.

/// The number of moments that are kept. When there are more, every second one is dropped.
const MOST: usize = 256;

/// If the second half of the time brought less than one in so many of the rows, most of it was a pause.
const PAUSED: u64 = 3;

/// Estimates the time that is left.
#[derive(Debug)]
pub(crate) struct Estimate {
    /// Seconds since the start, and the rows that had ended by then.
    moments: Vec<(f64, u64)>,
    /// The least time between two moments, in seconds.
    gap: f64,
}

impl Default for Estimate {
    fn default() -> Self {
        Self {
            moments: vec![(0.0, 0)],
            gap: 0.05,
        }
    }
}

impl Estimate {
    /// Adds a moment: seconds since the start, and the rows that have ended.
    pub(crate) fn add(&mut self, seconds: f64, done: u64) {
        let last = self.moments.last().map_or(0.0, |(at, _)| *at);
        if seconds - last < self.gap {
            return;
        }
        self.moments.push((seconds, done));
        if self.moments.len() > MOST {
            let mut is_kept = false;
            self.moments.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.gap *= 2.0;
        }
    }

    /// Returns the rows a second, or `None` as long as nothing can be said.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a speed that is shown with few digits"
    )]
    pub(crate) fn speed(&self, seconds: f64, done: u64) -> Option<f64> {
        let half = self.moments.partition_point(|(at, _)| *at <= seconds / 2.0);
        let (at, before) = *self.moments.get(half.saturating_sub(1))?;
        let rows = done.saturating_sub(before);
        let speed = if rows * PAUSED >= done {
            rows as f64 / (seconds - at)
        } else {
            done as f64 / seconds
        };
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }

    /// Returns the seconds that `left` rows will take.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a time that is shown in seconds"
    )]
    pub(crate) fn seconds_left(&self, seconds: f64, done: u64, left: u64) -> Option<f64> {
        self.speed(seconds, done).map(|speed| left as f64 / speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_does_not_spoil_the_estimate() {
        let mut estimate = Estimate::default();
        // 10 s at 1 row/s, then 10 s at 100 rows/s.
        let done = |second: u64| second.min(10) + second.saturating_sub(10) * 100;
        for second in 1_u32..=20 {
            estimate.add(f64::from(second), done(second.into()));
        }
        let left = estimate.seconds_left(20.0, done(20), 2000).expect("known");
        assert!((left - 20.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn nothing_is_said_before_a_row_has_ended() {
        let mut estimate = Estimate::default();
        estimate.add(5.0, 0);
        assert_eq!(estimate.seconds_left(5.0, 0, 10), None);
    }

    #[test]
    fn long_runs_keep_few_moments() {
        let mut estimate = Estimate::default();
        for tick in 0_u32..100_000 {
            estimate.add(f64::from(tick) / 10.0, u64::from(tick));
        }
        assert!(estimate.moments.len() <= MOST);
        let left = estimate
            .seconds_left(10_000.0, 100_000, 1000)
            .expect("known");
        assert!((left - 100.0).abs() < 1.0, "{left}");
    }
}
