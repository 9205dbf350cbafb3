//! Finds how many requests may be in flight before they queue at the API.
//!
//! The method is Vegas's (Brakmo, Peterson, 1994) and the gradient's of Netflix's [concurrency-limits]. By
//! Little's law, the queue that the tool causes is `in flight × (1 − base/now)`, where base is the latency
//! without a queue. Two things are improved:
//!
//! - It compares means over windows that grow with the limit, so that noise doesn't look like a queue. Vegas
//!   takes the single fastest answer as the base, which jitter makes unreachable.
//! - It checks each step down. If the latency doesn't fall with the limit, the API is merely slower, and the
//!   limit is restored. Vegas would starve.
//!
//! ```text
//!             a queue shows: lower the limit      the latency fell: keep it
//!   Watching ───────────────────────────────► Checking ───────────────────► Watching
//!      │  ▲                                      │      (the API is merely slower: restore the limit)
//!      │  └── no queue: raise the limit          │
//!      │                                         │
//!      └── the base is old, or may hold a ──► Remeasuring at a quarter of the limit ──► Watching, with a new base
//!          queue: measure it again
//! ```
//!
//! [concurrency-limits]: https://github.com/Netflix/concurrency-limits

use std::time::Duration;

/// The size of a window of latencies, as a multiple of the in-flight limit `n`. If latencies jitter by 40%,
/// an error of the window's mean by 3 standard deviations looks like a queue of `n × 3 × 0.4/√2n`, which is
/// 0.85 √n requests. That is less than the target queue for every `n`.
const WINDOW_TURNS: usize = 2;

/// The fewest latencies in a window, for the same reason. It equals the default in-flight limit.
const WINDOW_LEAST: u32 = 32;

/// The cap on a latency, as a multiple of the base, so that a single slow answer doesn't look like a queue. A
/// longer queue then counts as three quarters of the requests in flight, which is enough to lower the limit
/// at once.
const SLOWEST_COUNTS: u32 = 4;

/// The smallest target queue (Vegas's alpha). The target is the square root of the limit (the gradient's)
/// where that is larger. A server whose queue is empty idles.
const QUEUED_LEAST: usize = 3;

/// The queue that lowers the limit, as a multiple (a fraction) of the target queue (Vegas's beta). Between
/// the two, nothing changes, so that the limit doesn't swing. In the simulations, a queue with exponential
/// service times ran empty for 5% of the time at a factor of two, and was longer by half at three.
const QUEUED_TOO_MANY: (usize, usize) = (5, 2);

/// How often the base latency is measured again. A measurement takes one window at a quarter of the limit,
/// about five round trips. If a round trip takes 0.2 s, that is 1% to 2% of this interval.
const REMEASURE: Duration = Duration::from_secs(60);

/// How soon the base is measured again if there is a reason to. Measuring still takes a small part of the
/// time.
const REMEASURE_SOON: Duration = Duration::from_secs(10);

/// The divisor of the limit while the base is measured. Half the limit would leave half of a long queue.
const REMEASURE_PART: usize = 4;

/// The in-flight limit: the requests that the API works on, plus a short queue.
#[derive(Debug, Clone)]
pub(super) struct LatencyLimit {
    most: usize,
    limit: usize,
    /// The mean latency without a queue.
    base: Option<Duration>,
    /// The in-flight limit at which `base` was measured.
    measured_at: usize,
    /// Whether `base` may contain a queue.
    doubtful: bool,
    remeasure_at: Duration,
    /// This window's answers, the sum of their latencies, and the most requests in flight.
    answers: u32,
    sum: Duration,
    fullest: usize,
    /// The most requests in flight in the previous window.
    fullest_before: usize,
    /// The step down that this window checks, if any.
    check: Option<Check>,
}

/// A step down of the limit, to be checked: does the latency fall with it?
#[derive(Debug, Clone, Copy)]
struct Check {
    /// Only requests sent from this time on count. Earlier ones waited in the longer queue.
    since: Duration,
    limit_before: usize,
    mean_before: Duration,
    /// Whether the limit was lowered only to measure the base. It is then restored whatever the result.
    remeasures: bool,
}

impl LatencyLimit {
    /// Returns a limit that starts at its maximum `most`, but at least 1.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: most,
            base: None,
            measured_at: most,
            doubtful: true,
            remeasure_at: Duration::ZERO,
            answers: 0,
            sum: Duration::ZERO,
            fullest: 0,
            fullest_before: 0,
            check: None,
        }
    }

    /// Returns the configured maximum, at least 1.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Returns the current in-flight limit, at least 1.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Records that a request was sent. `under_way` counts the requests in flight, including this one.
    pub(super) fn sent(&mut self, under_way: usize) {
        self.fullest = self.fullest.max(under_way);
    }

    /// Records that a request was answered at `now`, after `latency`.
    pub(super) fn answered(&mut self, now: Duration, latency: Duration) {
        if self
            .check
            .is_some_and(|check| now.saturating_sub(latency) < check.since)
        {
            return;
        }
        self.answers += 1;
        self.sum = self.sum.saturating_add(self.capped(latency));
        if self.answers < self.window() {
            return;
        }
        let mean = self
            .sum
            .checked_div(self.answers)
            .unwrap_or_default()
            .max(Duration::from_nanos(1));
        let fullest = self.fullest;
        self.answers = 0;
        self.sum = Duration::ZERO;
        self.fullest = 0;
        if let Some(check) = self.check.take() {
            self.finish(check, now, mean);
        } else {
            let base = self.base.map_or(mean, |base| base.min(mean));
            self.base = Some(base);
            self.adjust(now, mean, fullest);
        }
    }

    /// Returns the number of latencies in a window. The first window is one round of requests. If that was a
    /// burst into an empty queue, its requests waited for half of those in flight on average, while later
    /// ones wait for all. A queue thus shows in the second window, and an API without one is not slowed down
    /// to be measured.
    fn window(&self) -> u32 {
        let is_first = self.base.is_none();
        let (turns, least) = if is_first {
            (1, 1)
        } else {
            (WINDOW_TURNS, WINDOW_LEAST)
        };
        let answers = u32::try_from(self.limit.saturating_mul(turns)).unwrap_or(u32::MAX);
        answers.max(least)
    }

    /// Judges the window after a step down, whose mean latency is `mean`.
    fn finish(&mut self, check: Check, now: Duration, mean: Duration) {
        // If all of the latency were queueing, it would fall in proportion to the limit. If none were, it
        // would stay. The middle of the two decides.
        let middle = scale(
            check.mean_before,
            check.limit_before.saturating_add(self.limit),
            check.limit_before,
        ) / 2;
        if check.remeasures {
            // Much faster than the old base: the rest may still contain a queue.
            let base = self.base.unwrap_or(mean);
            self.doubtful = mean.saturating_mul(4) < base.saturating_mul(3);
            self.remeasure_at = if self.doubtful {
                now
            } else {
                now.saturating_add(REMEASURE)
            };
            self.base = Some(mean);
            self.measured_at = self.limit;
            self.limit = check.limit_before;
        } else if mean > middle {
            self.doubtful = true;
            if check.limit_before == self.most {
                self.base = Some(mean);
                self.remeasure_at = now.saturating_add(REMEASURE);
            } else {
                // Either the API is merely slower, or the noise of a queue found before hid the step. A
                // measurement tells which.
                self.remeasure_at = self.remeasure_at.min(now.saturating_add(REMEASURE_SOON));
            }
            self.limit = check.limit_before;
        } else {
            // It was a queue. If the base was measured at a much larger limit, it contains a part of that
            // queue.
            self.base = Some(self.base.map_or(mean, |base| base.min(mean)));
            if self.measured_at > 2 * self.measuring() {
                self.remeasure_at = self.remeasure_at.min(now.saturating_add(REMEASURE_SOON));
            }
        }
    }

    /// Judges an ordinary window, whose mean latency is `mean` with up to `fullest` requests in flight.
    fn adjust(&mut self, now: Duration, mean: Duration, fullest: usize) {
        // Little's law: the API works on the share base/mean of the requests in flight, and the rest queues.
        let working = divide(self.base.unwrap_or(mean), fullest, mean);
        let queued = fullest.saturating_sub(working);
        let welcome = QUEUED_LEAST.max(self.limit.isqrt());
        let full = fullest >= self.limit;
        let grew = fullest > self.fullest_before.saturating_add(welcome);
        self.fullest_before = fullest;
        if grew {
            // The latency lags behind the number in flight, so this window can't predict the effect of a step
            // down.
        } else if full && self.remeasure_at.is_zero() {
            // The base is still the initial one, which may hide half of the queue. So a shorter visible queue
            // is enough to measure the base.
            if queued > welcome {
                self.lower(now, mean, self.measuring(), true);
            } else {
                self.remeasure_at = now.saturating_add(REMEASURE);
            }
        } else if full && (self.doubtful || self.limit < self.most) && now >= self.remeasure_at {
            self.lower(now, mean, self.measuring(), true);
        } else if queued > welcome.saturating_mul(QUEUED_TOO_MANY.0) / QUEUED_TOO_MANY.1 {
            self.lower(
                now,
                mean,
                working.saturating_add(welcome).min(self.limit),
                false,
            );
        } else if full && queued < welcome {
            self.limit = self.limit.saturating_add(welcome).min(self.most);
        }
    }

    /// Returns the latency, capped so that a single slow answer does not look like a queue.
    fn capped(&self, latency: Duration) -> Duration {
        match self.base {
            Some(base) => latency.min(base.saturating_mul(SLOWEST_COUNTS)),
            None => latency,
        }
    }

    /// Returns the in-flight limit used while the base latency is measured.
    fn measuring(&self) -> usize {
        (self.limit / REMEASURE_PART).max(1)
    }

    fn lower(&mut self, now: Duration, mean: Duration, limit: usize, remeasures: bool) {
        self.check = Some(Check {
            // The new queue shows after the old one has been served once.
            since: now.saturating_add(mean),
            limit_before: self.limit,
            mean_before: mean,
            remeasures,
        });
        self.limit = limit;
    }
}

/// Returns `duration × times / parts`, or zero if `parts` is 0.
fn scale(duration: Duration, times: usize, parts: usize) -> Duration {
    let product = duration.as_nanos().saturating_mul(times as u128);
    let nanoseconds = product.checked_div(parts as u128).unwrap_or(0);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Returns `number × part / whole`, rounded down, or 0 if `whole` is zero.
fn divide(part: Duration, number: usize, whole: Duration) -> usize {
    let product = part.as_nanos().saturating_mul(number as u128);
    let share = product.checked_div(whole.as_nanos()).unwrap_or(0);
    usize::try_from(share).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    reason = "test-only arithmetic on small numbers"
)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Feeds in concurrent answers for `turns` windows. `latency` maps the number in flight to seconds.
    fn answer(
        concurrency: &mut LatencyLimit,
        now: &mut f64,
        turns: usize,
        latency: impl Fn(usize) -> f64,
    ) {
        for _ in 0..turns * 100 {
            let under_way = concurrency.limit;
            concurrency.sent(under_way);
            let took = latency(under_way);
            *now += took / 32.0;
            concurrency.answered(seconds(*now), seconds(took));
        }
    }

    #[test]
    fn limit_falls_only_when_latency_grows_with_it() {
        // A queue served at 100 per second behind 20 ms: 2 requests in service, a target queue of 3, and
        // Vegas's slack.
        let served = |under_way: usize| f64::max(0.02, under_way as f64 / 100.0);
        let mut queue = LatencyLimit::new(32);
        let mut now = 1.0;
        // The first burst goes into an empty queue.
        for place in 1..=32 {
            queue.sent(place);
            queue.answered(seconds(now + served(place)), seconds(served(place)));
        }
        answer(&mut queue, &mut now, 50, served);
        assert!((2..=8).contains(&queue.limit), "{}", queue.limit);
        // A queue that was full before shows when the base latency is measured again.
        let mut queue = LatencyLimit::new(32);
        answer(&mut queue, &mut now, 100, served);
        assert!((2..=8).contains(&queue.limit), "{}", queue.limit);
        // The latency is independent of the number in flight. Later it triples.
        let mut slow = LatencyLimit::new(32);
        answer(&mut slow, &mut now, 50, |_| 0.02);
        assert_eq!(slow.limit, 32);
        answer(&mut slow, &mut now, 50, |_| 0.06);
        assert_eq!(slow.limit, 32);
    }
}
