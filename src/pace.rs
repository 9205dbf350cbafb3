//! When the next request may go.
//!
//! The rate is governor's (GCRA: requests evenly spaced, late ones caught up within a bound), and a pause is one
//! for all workers. governor's own waiting uses a timer of its own, which tokio's paused time can't drive: its
//! clock is tokio's here, and so is the sleep, so that an hour of pacing is tested in a moment.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::{Instant, sleep_until};

/// Late requests are caught up within this part of a second's requests: no burst is larger.
const BURST_SECONDS: f64 = 0.1;

/// tokio's time, as governor sees it.
#[derive(Clone, Copy, Debug, Default)]
struct TokioClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl std::ops::Add<Nanos> for TokioInstant {
    type Output = Self;
    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Clock for TokioClock {
    type Instant = TokioInstant;
    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>;

/// A limiter for `rate` requests a second that has no burst in store.
fn limiter(rate: f64) -> Option<Limiter> {
    let period = Duration::try_from_secs_f64(1.0 / rate).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and a cast from a float saturates"
    )]
    let burst = NonZeroU32::new((rate * BURST_SECONDS) as u32).unwrap_or(NonZeroU32::MIN);
    let limiter =
        Limiter::direct_with_clock(Quota::with_period(period)?.allow_burst(burst), TokioClock);
    // A full bucket would make the first second faster than the rest: only the first request goes at once.
    if let Some(stored) = NonZeroU32::new(burst.get() - 1) {
        let _ = limiter.check_n(stored);
    }
    Some(limiter)
}

/// Lets requests go, one after another.
#[derive(Debug)]
pub struct Pacer {
    /// Requests a second; none is no limit.
    rate: Option<f64>,
    limiter: Option<Limiter>,
    /// Only ever raised: one late success must not cut a pause short.
    not_before: Mutex<Instant>,
    /// Who waits for a turn waits in line: the first to come is the first to go.
    line: tokio::sync::Mutex<()>,
}

impl Pacer {
    /// A pacer that lets `rate` requests a second go; none, or 0, is no limit.
    #[must_use]
    pub fn new(rate: Option<f64>) -> Self {
        let rate = rate.filter(|rate| *rate > 0.0);
        Self {
            rate,
            limiter: rate.and_then(limiter),
            not_before: Mutex::new(Instant::now()),
            line: tokio::sync::Mutex::new(()),
        }
    }

    /// Waits until the next request may go.
    pub async fn turn(&self) {
        let _first = self.line.lock().await;
        loop {
            let now = Instant::now();
            let not_before = *self
                .not_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if not_before > now {
                sleep_until(not_before).await;
                continue;
            }
            match self.limiter.as_ref().map(Limiter::check) {
                None | Some(Ok(())) => return,
                Some(Err(not_until)) => {
                    sleep_until(now + not_until.wait_time_from(TokioInstant(now))).await;
                }
            }
        }
    }

    /// Lets nothing go for `wait` from now; a longer pause that is in force stays.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut not_before = self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *not_before = until.max(*not_before);
    }

    /// How long the pause in force still lasts.
    #[must_use]
    pub fn paused_for(&self) -> Option<Duration> {
        let not_before = *self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(not_before.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// The rate in force, in requests a second; none if there is no limit.
    #[must_use]
    pub const fn rate(&self) -> Option<f64> {
        self.rate
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
mod tests {
    use super::*;

    /// The times, in seconds from the start, at which `count` requests go.
    async fn times(pacer: &Pacer, count: usize) -> Vec<f64> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            pacer.turn().await;
            times.push(start.elapsed().as_secs_f64());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn over_ten_seconds_the_rate_is_right_and_the_first_second_is_no_faster() {
        for rate in [0.5_f64, 5.0, 20.0, 333.0, 2000.0] {
            let pacer = Pacer::new(Some(rate));
            let times = times(&pacer, (rate * 30.0) as usize).await;
            assert!(times[0] < 0.001, "{rate}: the first one waits for nothing");
            let within = |from: f64, to: f64| {
                times.iter().filter(|t| **t > from && **t <= to).count() as f64
            };
            for from in [0.0, 3.3, 10.0, 19.9] {
                let got = within(from, from + 10.0);
                assert!(
                    (got - rate * 10.0).abs() <= (rate * 0.1).max(1.0),
                    "{rate}: {got} from {from}"
                );
            }
            assert!(
                within(-1.0, 1.0) <= rate.max(1.0) * 1.01 + 1.0,
                "{rate}: the first second is faster"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_idling_no_burst_is_larger_than_a_tenth_of_a_second() {
        let pacer = Pacer::new(Some(100.0));
        tokio::time::advance(Duration::from_secs(60)).await;
        let times = times(&pacer, 50).await;
        let at_once = times.iter().filter(|time| **time < 0.001).count();
        assert!(at_once <= 11, "{at_once} at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_all_and_is_never_cut_short() {
        let pacer = Pacer::new(None);
        pacer.pause(Duration::from_secs(12));
        pacer.pause(Duration::from_secs(1));
        assert_eq!(pacer.paused_for(), Some(Duration::from_secs(12)));
        let times = times(&pacer, 3).await;
        assert!(
            times.iter().all(|time| (12.0..12.01).contains(time)),
            "{times:?}"
        );
        assert_eq!(pacer.paused_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_comes_while_waiting_holds_too() {
        let pacer = std::sync::Arc::new(Pacer::new(Some(1.0)));
        pacer.turn().await;
        let waiting = tokio::spawn({
            let pacer = std::sync::Arc::clone(&pacer);
            async move { times(&pacer, 1).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        pacer.pause(Duration::from_secs(5));
        let times = waiting.await.expect("no panic");
        assert!((5.4..5.6).contains(&times[0]), "{times:?}");
    }
}
