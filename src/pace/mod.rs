//! Decides when the next request may be sent. All workers wait in one first-in, first-out queue.
//!
//! The worker at the head of the queue waits for three things: the end of a pause, a free in-flight slot, and
//! the rate. [`search`] is a pure calculator that finds the limits from what happened. Only this module
//! sleeps.
//!
//! The rate limiter is governor's (GCRA). Governor waits on a timer that tokio's paused time can't drive, so
//! this module gives it tokio's clock and does the sleeping itself. Tests thus cover an hour of pacing in a
//! moment.

mod inflight_limit;
mod latency_limit;
pub(crate) mod search;
#[cfg(test)]
mod simulation;

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use search::{Search, SearchOptions};

/// The unit of the quota. The rate changes during a run, but a governor quota is fixed. The quota therefore
/// counts time in units of 100 ns, and the rate sets how many units a request costs. A request at 2,000 per
/// second costs 5,000 units, exact to 0.02%.
const UNIT: Duration = Duration::from_nanos(100);
/// The number of units in a second.
const UNITS: f64 = 1e7;
/// The largest burst, in units: late requests catch up by at most a tenth of a second's worth.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

/// Tokio's clock, adapted for governor.
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

/// A token bucket that fills with elapsed time and pays for requests.
#[derive(Debug)]
struct TokenBucket(RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>);

impl TokenBucket {
    /// Returns an empty bucket, so that the first second is no faster than the rest.
    fn new() -> Self {
        let quota = Quota::with_period(UNIT)
            .unwrap_or(Quota::per_second(BURST))
            .allow_burst(BURST);
        let bucket = Self(RateLimiter::direct_with_clock(quota, TokioClock));
        bucket.empty();
        bucket
    }

    /// Drains the bucket. It takes each power-of-two part at most once, because tokens keep arriving
    /// meanwhile.
    fn empty(&self) {
        let mut part = BURST.get();
        while let Some(units) = NonZeroU32::new(part) {
            let _ = self.0.check_n(units);
            part /= 2;
        }
    }

    /// Pays for the share `owed` of a request at `rate` requests per second, at most one burst at a time.
    /// Returns the share still owed, and the time to wait for if the bucket holds too little.
    fn pay(&self, owed: f64, rate: f64, now: Instant) -> (f64, Option<Instant>) {
        let price = UNITS / rate;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive, and a cast from a float saturates"
        )]
        let units = ((owed * price).round() as u32).min(BURST.get());
        let Some(units) = NonZeroU32::new(units) else {
            return (0.0, None);
        };
        match self.0.check_n(units) {
            Ok(Ok(())) => {
                let left = owed - f64::from(units.get()) / price;
                // A remainder below one unit is a rounding error.
                (if left * price < 1.0 { 0.0 } else { left }, None)
            }
            Ok(Err(not_until)) => (
                owed,
                Some(now + not_until.wait_time_from(TokioInstant(now))),
            ),
            // Unreachable: the quota allows a full burst.
            Err(_) => (0.0, None),
        }
    }
}

/// The state shared by all workers. Its lock is only held briefly.
#[derive(Debug)]
struct PacerState {
    search: Search,
    under_way: usize,
    /// The end of the pause. It only moves later, so that a late success can't cut a pause short.
    not_before: Instant,
    /// Whether the last request was not sent after all. The next one then does not pay for it.
    is_given_back: bool,
    /// Since when the search does not count the time, because nothing but probes is sent.
    suspended_at: Option<Instant>,
    /// The time that the search has not counted.
    skipped: Duration,
}

impl PacerState {
    /// Returns the time from the start of the run as the search counts it.
    fn search_time(&self, epoch: Instant, now: Instant) -> Duration {
        let until = self.suspended_at.unwrap_or(now);
        (until - epoch).saturating_sub(self.skipped)
    }
}

/// Admits requests one after another, within the rate and the in-flight limit.
#[derive(Debug)]
pub(crate) struct Pacer {
    epoch: Instant,
    state: Mutex<PacerState>,
    bucket: TokenBucket,
    /// What the previous request still owes, as a share of a request. The worker that holds this lock is at
    /// the head of the queue.
    line: tokio::sync::Mutex<f64>,
    /// Notified when a request ends.
    ended: Notify,
}

/// What the worker at the head of the queue waits for.
enum Wait {
    Until(Instant),
    /// A pause that ends at this time. No tokens may accumulate during it.
    Pause(Instant),
    Ended,
}

impl Pacer {
    /// Returns a pacer that starts as `options` specify.
    pub(crate) fn new(options: &SearchOptions) -> Self {
        let epoch = Instant::now();
        let state = PacerState {
            search: Search::new(options),
            under_way: 0,
            not_before: epoch,
            is_given_back: false,
            suspended_at: None,
            skipped: Duration::ZERO,
        };
        Self {
            epoch,
            state: Mutex::new(state),
            bucket: TokenBucket::new(),
            line: tokio::sync::Mutex::new(0.0),
            ended: Notify::new(),
        }
    }

    /// Waits until the next request may be sent. The caller reports the outcome through the [`Permit`].
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        let mut owed = self.line.lock().await;
        loop {
            let wait = match self.try_acquire(&mut owed) {
                Ok(permit) => return permit,
                Err(wait) => wait,
            };
            match wait {
                Wait::Until(at) => sleep_until(at).await,
                Wait::Pause(at) => {
                    sleep_until(at).await;
                    // The pause pays for the previous request. Drop the tokens it accumulated, so that no
                    // burst follows.
                    *owed = 0.0;
                    self.bucket.empty();
                }
                Wait::Ended => self.ended.notified().await,
            }
        }
    }

    fn try_acquire(&self, owed: &mut f64) -> Result<Permit<'_>, Wait> {
        let mut state = self.state();
        let now = Instant::now();
        let pause = self.pause_of(&state);
        if pause > now {
            return Err(Wait::Pause(pause));
        }
        if state.under_way >= state.search.inflight_limit() {
            return Err(Wait::Ended);
        }
        if std::mem::take(&mut state.is_given_back) {
            *owed = 0.0;
        }
        if let Some(rate) = state.search.rate() {
            while *owed > 0.0 {
                let (left, until) = self.bucket.pay(*owed, rate, now);
                *owed = left;
                if let Some(until) = until {
                    return Err(Wait::Until(until));
                }
            }
        }
        // This request goes now and the next one pays for it, so the very first request never waits.
        *owed = 1.0;
        let others = state.under_way;
        state.under_way += 1;
        let time = state.search_time(self.epoch, now);
        state.search.sent(time);
        Ok(Permit {
            pacer: self,
            sent_at: now,
            others,
            is_told: false,
        })
    }

    /// Holds all requests for `wait` from now. A longer pause that is already in force stays.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        state.not_before = until.max(state.not_before);
    }

    /// Stops the search's clock: from now on nothing but probes is sent, which says nothing about the rate.
    pub(crate) fn suspend(&self) {
        self.state().suspended_at.get_or_insert_with(Instant::now);
    }

    /// Lets the search go on where it was. After a ban for the rate, it stays below the rate that led to it.
    pub(crate) fn go_on(&self, is_after_ban: bool) {
        let mut state = self.state();
        if let Some(at) = state.suspended_at.take() {
            state.skipped += at.elapsed();
        }
        if is_after_ban {
            let time = state.search_time(self.epoch, Instant::now());
            state.search.banned(time);
        }
    }

    /// Returns the remaining time of the pause in force, if any.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        let pause = self.pause_of(&self.state());
        Some(pause.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Returns the current rate in requests per second, or `None` if there is no limit.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.state().search.rate()
    }

    /// Returns the in-flight limit if it is below the configured maximum.
    pub(crate) fn lowered_inflight_limit(&self) -> Option<usize> {
        self.state().search.lowered_inflight_limit()
    }

    fn pause_of(&self, state: &PacerState) -> Instant {
        let hold = state
            .search
            .hold_until()
            .and_then(|hold| self.epoch.checked_add(hold + state.skipped));
        hold.map_or(state.not_before, |hold| hold.max(state.not_before))
    }

    fn state(&self) -> MutexGuard<'_, PacerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, tell: impl FnOnce(&mut Search, Duration)) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        let time = state.search_time(self.epoch, Instant::now());
        tell(&mut state.search, time);
        drop(state);
        self.ended.notify_one();
    }
}

/// The permission to send one request, held while the request is in flight. Dropping it reports the request
/// as lost.
#[derive(Debug)]
#[must_use = "a request that is not sent gives its permit back at once"]
pub(crate) struct Permit<'p> {
    pacer: &'p Pacer,
    sent_at: Instant,
    /// The number of other requests in flight when this permit was issued.
    others: usize,
    is_told: bool,
}

impl Permit<'_> {
    /// Reports an answer with any status but 429.
    pub(crate) fn answered(mut self) {
        self.is_told = true;
        let latency = self.sent_at.elapsed();
        self.pacer.end(|search, now| search.answered(now, latency));
    }

    /// Returns the permit unused. The next request may go in its place.
    pub(crate) fn give_back(mut self) {
        self.is_told = true;
        self.pacer.state().is_given_back = true;
        self.pacer.end(Search::unsent);
    }

    /// Reports a 429, with the time to wait if the API named one.
    pub(crate) fn refused(mut self, retry_after: Option<Duration>) {
        self.is_told = true;
        let (latency, others) = (self.sent_at.elapsed(), self.others);
        self.pacer
            .end(|search, now| search.refused(now, latency, others, retry_after));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.pacer.end(Search::lost);
        }
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
    use std::sync::Arc;

    use super::*;

    fn pacer(rate: Option<f64>) -> Pacer {
        Pacer::new(&SearchOptions {
            ceiling: rate,
            gentle_start: false,
            max_capacity: 1.0,
            max_inflight: 32,
        })
    }

    /// Sends `count` requests that are answered immediately. Returns their send times in seconds from the
    /// start.
    async fn times(pacer: &Pacer, count: usize) -> Vec<f64> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            pacer.acquire().await.answered();
            times.push(start.elapsed().as_secs_f64());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn rate_holds_over_ten_seconds_without_an_initial_burst() {
        for rate in [0.5_f64, 5.0, 20.0, 333.0, 2000.0] {
            let pacer = pacer(Some(rate));
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
    async fn burst_after_idling_is_at_most_a_tenth_of_a_second() {
        let pacer = pacer(Some(100.0));
        times(&pacer, 1).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let times = times(&pacer, 50).await;
        let at_once = times.iter().filter(|time| **time < 0.001).count();
        assert!(at_once <= 11, "{at_once} at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_returned_permit_costs_nothing() {
        let pacer = pacer(Some(1.0));
        let start = Instant::now();
        pacer.acquire().await.answered();
        for _ in 0..32 {
            pacer.acquire().await.give_back();
        }
        pacer.acquire().await.answered();
        // The first request costs one second, and the returned permits cost nothing.
        let took = start.elapsed().as_secs_f64();
        assert!((0.9..1.1).contains(&took), "{took}");
        assert_eq!(times(&pacer, 1).await.len(), 1);
        assert!(start.elapsed().as_secs_f64() > 1.9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_all_requests_and_is_never_shortened() {
        let pacer = pacer(None);
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

    /// The time of a ban is not measured, and the rate that led to it is not used again.
    #[tokio::test(start_paused = true)]
    async fn rate_after_a_ban_is_just_below_the_one_before() {
        for rate in [Some(20.0), None] {
            let pacer = pacer(rate);
            let send = async |requests: u32| {
                let start = Instant::now();
                for _ in 0..requests {
                    let permit = pacer.acquire().await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    permit.answered();
                }
                f64::from(requests) / start.elapsed().as_secs_f64()
            };
            let before = send(2000).await;
            for share in [AFTER_BAN_RANGE, ANOTHER_BAN_RANGE] {
                drop(pacer.acquire().await);
                pacer.suspend();
                tokio::time::sleep(Duration::from_secs(60)).await;
                pacer.go_on(true);
                let after = send(600).await / before;
                assert!(share.contains(&after), "{rate:?}: {after} of {before}");
            }
        }
    }

    /// The shares of the rate that are left by a ban, and by another one soon after it.
    const AFTER_BAN_RANGE: std::ops::Range<f64> = 0.85..0.95;
    const ANOTHER_BAN_RANGE: std::ops::Range<f64> = 0.55..0.7;

    #[tokio::test(start_paused = true)]
    async fn a_new_pause_also_holds_a_request_already_waiting() {
        let pacer = Arc::new(pacer(Some(1.0)));
        pacer.acquire().await.answered();
        let waiting = tokio::spawn({
            let pacer = Arc::clone(&pacer);
            async move { times(&pacer, 1).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        pacer.pause(Duration::from_secs(5));
        let times = waiting.await.expect("no panic");
        assert!((5.4..5.6).contains(&times[0]), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn inflight_limit_holds_and_waiters_go_in_fifo_order() {
        let pacer = Arc::new(pacer(None));
        let mut under_way: Vec<Permit<'_>> = Vec::new();
        for _ in 0..32 {
            under_way.push(pacer.acquire().await);
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..3 {
            let (pacer, order) = (Arc::clone(&pacer), Arc::clone(&order));
            tokio::spawn(async move {
                let permit = pacer.acquire().await;
                order.lock().expect("no panic").push(n);
                tokio::time::sleep(Duration::from_secs(1)).await;
                permit.answered();
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(order.lock().expect("no panic").is_empty());
        drop(under_way.pop());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*order.lock().expect("no panic"), [0]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(*order.lock().expect("no panic"), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_holds_all_requests() {
        let pacer = pacer(None);
        let first = pacer.acquire().await;
        first.refused(Some(Duration::from_secs(7)));
        assert_eq!(pacer.paused_for(), Some(Duration::from_secs(7)));
        let times = times(&pacer, 1).await;
        assert!((7.0..7.01).contains(&times[0]), "{times:?}");
        assert!(pacer.rate().is_some(), "it is careful from now on");
    }
}
