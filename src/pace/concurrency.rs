//! How many requests may be under way before they queue.
//!
//! The method is Vegas's (Brakmo, Peterson, 1994) and the gradient's of Netflix's [concurrency-limits]: by Little's law
//! the queue that we make is `under way × (1 − base/now)`, where base is the latency without a queue. What this does
//! better: it compares means over windows that grow with the number, so that noise doesn't look like a queue (Vegas takes
//! the single fastest answer for the base, which jitter makes unreachable); and it checks each step down: if the latency
//! doesn't fall with the number, then the API is merely slower, and the number is restored (Vegas would starve).
//!
//! [concurrency-limits]: https://github.com/Netflix/concurrency-limits

use std::time::Duration;

/// A window of latencies holds this many times the requests allowed under way. The error of its mean, 3 standard deviations
/// of latencies that jitter by 40%, then looks like a queue of `n × 3 × 0.4/√2n`, 0.85 √n requests: less than the welcome
/// ones, for every n.
const WINDOW_TURNS: usize = 2;

/// The fewest latencies in a window, for the same reason: as many as are under way by default.
const WINDOW_LEAST: u32 = 32;

/// A latency counts as at most this many times the one without a queue, so that a single slow answer isn't a queue. A queue
/// that is longer is seen as three quarters of those under way: enough to lower the number at once.
const SLOWEST_COUNTS: u32 = 4;

/// The fewest requests queued that are welcome (Vegas's alpha), where the square root of the number is less (the
/// gradient's): a server whose queue is empty waits.
const QUEUED_LEAST: usize = 3;

/// Lowers at this many times the welcome queue (Vegas's beta): in between, nothing changes, so that it doesn't swing. At
/// twice, a queue of exponential services ran empty for 5% of the time in the simulations; at three times it was longer by
/// half.
const QUEUED_TOO_MANY: (usize, usize) = (5, 2);

/// How often the latency without a queue is measured afresh. It takes a window at a quarter of the number, five round
/// trips or so: 1% to 2% of this if they take 0.2 s.
const REMEASURE: Duration = Duration::from_secs(60);

/// How soon it is measured if there is reason to: a small part of the time still.
const REMEASURE_SOON: Duration = Duration::from_secs(10);

/// The part of the number that is under way while that is measured. A half would leave half of a long queue.
const REMEASURE_PART: usize = 4;

/// How many requests may be under way: those that the API works on, and few that it queues.
#[derive(Debug, Clone)]
pub(super) struct Concurrency {
    most: usize,
    limit: usize,
    /// The mean latency without a queue.
    base: Duration,
    /// With how many under way it was measured.
    measured_at: usize,
    /// Whether `base` may contain a queue.
    doubtful: bool,
    remeasure_at: Duration,
    /// Of this window: the answers, the sum of their latencies, and the most requests that were under way.
    answers: u32,
    sum: Duration,
    fullest: usize,
    /// The most that were under way in the window before.
    fullest_before: usize,
    /// What this window judges, if it does.
    check: Option<Check>,
}

/// The number was lowered: does the latency fall with it?
#[derive(Debug, Clone, Copy)]
struct Check {
    /// Only requests sent since count: those before stood in the longer queue.
    since: Duration,
    limit_before: usize,
    mean_before: Duration,
    /// Lowered only to measure: restored whatever the answer.
    remeasures: bool,
}

impl Concurrency {
    /// Begins with the most; at least 1.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: most,
            base: Duration::MAX,
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

    /// The most that were asked for; at least 1.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// As many may be under way; at least 1.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// A request went out, with which so many are under way.
    pub(super) fn sent(&mut self, under_way: usize) {
        self.fullest = self.fullest.max(under_way);
    }

    /// A request was answered at `now`, after `latency`.
    pub(super) fn answered(&mut self, now: Duration, latency: Duration) {
        if self
            .check
            .is_some_and(|check| now.saturating_sub(latency) < check.since)
        {
            return;
        }
        self.answers += 1;
        self.sum = self
            .sum
            .saturating_add(latency.min(self.base.saturating_mul(SLOWEST_COUNTS)));
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
            self.base = self.base.min(mean);
            self.adjust(now, mean, fullest);
        }
    }

    /// How many latencies make a window. The first is one turn: if that was a burst into an empty queue, its requests
    /// waited for half of those under way on average, and later ones wait for all. So a queue shows in the second
    /// window, and an API without one need not be slowed down to be measured.
    fn window(&self) -> u32 {
        let is_first = self.base == Duration::MAX;
        let (turns, least) = if is_first {
            (1, 1)
        } else {
            (WINDOW_TURNS, WINDOW_LEAST)
        };
        let answers = u32::try_from(self.limit.saturating_mul(turns)).unwrap_or(u32::MAX);
        answers.max(least)
    }

    /// The window after a step down: its latencies were `mean`.
    fn finish(&mut self, check: Check, now: Duration, mean: Duration) {
        // If all of the latency were queue, it would be as much shorter as the number is lower; if none, as long as before.
        let middle = scale(
            check.mean_before,
            check.limit_before.saturating_add(self.limit),
            check.limit_before,
        ) / 2;
        if check.remeasures {
            // Much faster than thought: what remains may be queue still.
            self.doubtful = mean.saturating_mul(4) < self.base.saturating_mul(3);
            self.remeasure_at = if self.doubtful {
                now
            } else {
                now.saturating_add(REMEASURE)
            };
            self.base = mean;
            self.measured_at = self.limit;
            self.limit = check.limit_before;
        } else if mean > middle {
            self.doubtful = true;
            if check.limit_before == self.most {
                self.base = mean;
                self.remeasure_at = now.saturating_add(REMEASURE);
            } else {
                // Merely slower; or a queue is there, as was found before, and its noise hid the step: that is measured.
                self.remeasure_at = self.remeasure_at.min(now.saturating_add(REMEASURE_SOON));
            }
            self.limit = check.limit_before;
        } else {
            // It was a queue; and if the base was measured at a part of a much larger number, it holds a part of that.
            self.base = self.base.min(mean);
            if self.measured_at > 2 * self.measuring() {
                self.remeasure_at = self.remeasure_at.min(now.saturating_add(REMEASURE_SOON));
            }
        }
    }

    /// An ordinary window: its latencies were `mean`, with up to `fullest` under way.
    fn adjust(&mut self, now: Duration, mean: Duration, fullest: usize) {
        // Little's law: of those under way, the API works on the share base/mean, and the rest queues.
        let working = divide(self.base, fullest, mean);
        let queued = fullest.saturating_sub(working);
        let welcome = QUEUED_LEAST.max(self.limit.isqrt());
        let full = fullest >= self.limit;
        let grew = fullest > self.fullest_before.saturating_add(welcome);
        self.fullest_before = fullest;
        if grew {
            // The latency lags behind the number: such a window says nothing of what a step down would bring.
        } else if full && self.remeasure_at.is_zero() {
            // The base is that of the start. What looks like half of too much may be a queue as long as all of it.
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

    /// How many are under way while the latency without a queue is measured.
    fn measuring(&self) -> usize {
        (self.limit / REMEASURE_PART).max(1)
    }

    fn lower(&mut self, now: Duration, mean: Duration, limit: usize, remeasures: bool) {
        self.check = Some(Check {
            // One turn of the old queue later, the new one is seen.
            since: now.saturating_add(mean),
            limit_before: self.limit,
            mean_before: mean,
            remeasures,
        });
        self.limit = limit;
    }
}

/// `duration × times / parts`; nothing if there are no parts.
fn scale(duration: Duration, times: usize, parts: usize) -> Duration {
    let product = duration.as_nanos().saturating_mul(times as u128);
    let nanoseconds = product.checked_div(parts as u128).unwrap_or(0);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// `number × part / whole`, rounded down; nothing of no whole.
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

    /// Concurrent answers with `latency` for what is under way, for `turns` windows.
    fn answer(
        concurrency: &mut Concurrency,
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
    fn what_is_under_way_falls_when_latency_grows_with_it_and_only_then() {
        // A queue served at 100 a second behind 20 ms: 2 are worked on, 3 more are welcome, and Vegas's slack.
        let served = |under_way: usize| f64::max(0.02, under_way as f64 / 100.0);
        let mut queue = Concurrency::new(32);
        let mut now = 1.0;
        // The first burst goes into an empty queue.
        for place in 1..=32 {
            queue.sent(place);
            queue.answered(seconds(now + served(place)), seconds(served(place)));
        }
        answer(&mut queue, &mut now, 50, served);
        assert!((2..=8).contains(&queue.limit), "{}", queue.limit);
        // One that was full before shows itself when the latency is measured afresh.
        let mut queue = Concurrency::new(32);
        answer(&mut queue, &mut now, 100, served);
        assert!((2..=8).contains(&queue.limit), "{}", queue.limit);
        // The same latency whatever is under way; later three times as long.
        let mut slow = Concurrency::new(32);
        answer(&mut slow, &mut now, 50, |_| 0.02);
        assert_eq!(slow.limit, 32);
        answer(&mut slow, &mut now, 50, |_| 0.06);
        assert_eq!(slow.limit, 32);
    }
}
