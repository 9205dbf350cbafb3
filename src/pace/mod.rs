//! When the next request may go: one line for all workers, first come, first gone.
//!
//! Whoever is first in the line waits for three things: for a pause to end, for fewer requests to be under way than
//! the API bears, and for the rate. How much the API bears is [`search`]'s business, a calculator that is told what
//! happened; here is what sleeps. The rate is governor's (GCRA), whose own waiting uses a timer that tokio's paused
//! time can't drive: its clock is tokio's here, and so is the sleep, so that an hour of pacing is tested in a moment.

mod concurrency;
mod crowd;
pub mod search;
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

/// The rate changes while the run goes on, and a quota does not: so the quota is time itself, in units of 100 ns, and
/// a request costs as many of them as its rate says. A request at 2,000 a second costs 5,000, exact to 0.02%.
const UNIT: Duration = Duration::from_nanos(100);
/// Units in a second.
const UNITS: f64 = 1e7;
/// Late requests are caught up within a tenth of a second's requests: no burst is larger.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

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

/// Pays requests out of the time that has passed.
#[derive(Debug)]
struct Purse(RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>);

impl Purse {
    /// An empty one: the first second is no faster than the rest.
    fn new() -> Self {
        let quota = Quota::with_period(UNIT)
            .unwrap_or(Quota::per_second(BURST))
            .allow_burst(BURST);
        let purse = Self(RateLimiter::direct_with_clock(quota, TokioClock));
        purse.empty();
        purse
    }

    /// Takes away what was saved up: its binary digits, each once, for time goes on meanwhile.
    fn empty(&self) {
        let mut part = BURST.get();
        while let Some(units) = NonZeroU32::new(part) {
            let _ = self.0.check_n(units);
            part /= 2;
        }
    }

    /// Pays so much of a request at `rate` requests a second as there is, at most a burst at a time; answers what is
    /// left to pay, as a share of a request, and until when to wait for more.
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
                // Less than a unit is a rounding.
                (if left * price < 1.0 { 0.0 } else { left }, None)
            }
            Ok(Err(not_until)) => (
                owed,
                Some(now + not_until.wait_time_from(TokioInstant(now))),
            ),
            // A burst is what the quota allows, so that this never is.
            Err(_) => (0.0, None),
        }
    }
}

/// What the line knows; held for a moment only.
#[derive(Debug)]
struct State {
    search: Search,
    under_way: usize,
    /// Only ever raised: one late success must not cut a pause short.
    not_before: Instant,
    /// The last request was not sent after all: the next one does not pay for it.
    is_given_back: bool,
}

/// Lets requests go, one after another.
#[derive(Debug)]
pub struct Pacer {
    epoch: Instant,
    state: Mutex<State>,
    purse: Purse,
    /// What the request before the next one still owes, as a share of a request. Who holds it is first in the line.
    line: tokio::sync::Mutex<f64>,
    /// A request has ended.
    ended: Notify,
}

/// What the one who is first in the line waits for.
enum Wait {
    Until(Instant),
    /// A pause ends then, and nothing may be saved up in it.
    Pause(Instant),
    Ended,
}

impl Pacer {
    /// A pacer that begins as `options` say.
    #[must_use]
    pub fn new(options: &SearchOptions) -> Self {
        let epoch = Instant::now();
        let state = State {
            search: Search::new(options),
            under_way: 0,
            not_before: epoch,
            is_given_back: false,
        };
        Self {
            epoch,
            state: Mutex::new(state),
            purse: Purse::new(),
            line: tokio::sync::Mutex::new(0.0),
            ended: Notify::new(),
        }
    }

    /// Waits until the next request may go. What became of it is told to the [`Leave`].
    pub async fn turn(&self) -> Leave<'_> {
        let mut owed = self.line.lock().await;
        loop {
            let wait = match self.try_turn(&mut owed) {
                Ok(leave) => return leave,
                Err(wait) => wait,
            };
            match wait {
                Wait::Until(at) => sleep_until(at).await,
                Wait::Pause(at) => {
                    sleep_until(at).await;
                    // The pause has paid for the request before, and saves nothing up for those behind.
                    *owed = 0.0;
                    self.purse.empty();
                }
                Wait::Ended => self.ended.notified().await,
            }
        }
    }

    fn try_turn(&self, owed: &mut f64) -> Result<Leave<'_>, Wait> {
        let mut state = self.state();
        let now = Instant::now();
        let pause = self.pause_of(&state);
        if pause > now {
            return Err(Wait::Pause(pause));
        }
        if state.under_way >= state.search.at_once() {
            return Err(Wait::Ended);
        }
        if std::mem::take(&mut state.is_given_back) {
            *owed = 0.0;
        }
        if let Some(rate) = state.search.rate() {
            while *owed > 0.0 {
                let (left, until) = self.purse.pay(*owed, rate, now);
                *owed = left;
                if let Some(until) = until {
                    return Err(Wait::Until(until));
                }
            }
        }
        // It goes now, and the next one pays for it: so the first one waits for nothing.
        *owed = 1.0;
        let others = state.under_way;
        state.under_way += 1;
        state.search.sent(now - self.epoch);
        Ok(Leave {
            pacer: self,
            sent_at: now,
            others,
            is_told: false,
        })
    }

    /// Lets nothing go for `wait` from now; a longer pause that is in force stays.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        state.not_before = until.max(state.not_before);
    }

    /// How long the pause in force still lasts.
    #[must_use]
    pub fn paused_for(&self) -> Option<Duration> {
        let pause = self.pause_of(&self.state());
        Some(pause.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// The rate in force, in requests a second; none if there is no limit.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.state().search.rate()
    }

    /// The requests that may be under way, if they are fewer than was asked for.
    #[must_use]
    pub fn lowered_to(&self) -> Option<usize> {
        self.state().search.lowered_to()
    }

    fn pause_of(&self, state: &State) -> Instant {
        let hold = state
            .search
            .hold_until()
            .and_then(|hold| self.epoch.checked_add(hold));
        hold.map_or(state.not_before, |hold| hold.max(state.not_before))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, tell: impl FnOnce(&mut Search, Duration)) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        tell(&mut state.search, self.epoch.elapsed());
        drop(state);
        self.ended.notify_one();
    }
}

/// A request that may go, or is under way. One that is dropped is taken to be lost.
#[derive(Debug)]
#[must_use = "a request that is not sent gives its leave back at once"]
pub struct Leave<'p> {
    pacer: &'p Pacer,
    sent_at: Instant,
    /// The requests that were under way when it was given.
    others: usize,
    is_told: bool,
}

impl Leave<'_> {
    /// It was answered, and not refused for being too much.
    pub fn answered(mut self) {
        self.is_told = true;
        let latency = self.sent_at.elapsed();
        self.pacer.end(|search, now| search.answered(now, latency));
    }

    /// Nothing is sent by it: the next one may go in its place.
    pub fn give_back(mut self) {
        self.is_told = true;
        self.pacer.state().is_given_back = true;
        self.pacer.end(Search::unsent);
    }

    /// It was refused for being too much (429), with the time to wait if the API named one.
    pub fn refused(mut self, retry_after: Option<Duration>) {
        self.is_told = true;
        let (latency, others) = (self.sent_at.elapsed(), self.others);
        self.pacer
            .end(|search, now| search.refused(now, latency, others, retry_after));
    }
}

impl Drop for Leave<'_> {
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
            most_at_once: 32,
        })
    }

    /// The times, in seconds from the start, at which `count` requests go that are answered at once.
    async fn times(pacer: &Pacer, count: usize) -> Vec<f64> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            pacer.turn().await.answered();
            times.push(start.elapsed().as_secs_f64());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn over_ten_seconds_the_rate_is_right_and_the_first_second_is_no_faster() {
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
    async fn after_idling_no_burst_is_larger_than_a_tenth_of_a_second() {
        let pacer = pacer(Some(100.0));
        times(&pacer, 1).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let times = times(&pacer, 50).await;
        let at_once = times.iter().filter(|time| **time < 0.001).count();
        assert!(at_once <= 11, "{at_once} at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_given_back_costs_nothing() {
        let pacer = pacer(Some(1.0));
        let start = Instant::now();
        pacer.turn().await.answered();
        for _ in 0..32 {
            pacer.turn().await.give_back();
        }
        pacer.turn().await.answered();
        // One second for the first request, and none for what was not sent.
        let took = start.elapsed().as_secs_f64();
        assert!((0.9..1.1).contains(&took), "{took}");
        assert_eq!(times(&pacer, 1).await.len(), 1);
        assert!(start.elapsed().as_secs_f64() > 1.9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_all_and_is_never_cut_short() {
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

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_comes_while_waiting_holds_too() {
        let pacer = Arc::new(pacer(Some(1.0)));
        pacer.turn().await.answered();
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
    async fn no_more_are_under_way_than_are_allowed_and_the_first_to_come_is_the_first_to_go() {
        let pacer = Arc::new(pacer(None));
        let mut under_way: Vec<Leave<'_>> = Vec::new();
        for _ in 0..32 {
            under_way.push(pacer.turn().await);
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..3 {
            let (pacer, order) = (Arc::clone(&pacer), Arc::clone(&order));
            tokio::spawn(async move {
                let leave = pacer.turn().await;
                order.lock().expect("no panic").push(n);
                tokio::time::sleep(Duration::from_secs(1)).await;
                leave.answered();
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
    async fn a_refusal_holds_all_for_as_long_as_the_api_says() {
        let pacer = pacer(None);
        let first = pacer.turn().await;
        first.refused(Some(Duration::from_secs(7)));
        assert_eq!(pacer.paused_for(), Some(Duration::from_secs(7)));
        let times = times(&pacer, 1).await;
        assert!((7.0..7.01).contains(&times[0]), "{times:?}");
        assert!(pacer.rate().is_some(), "it is careful from now on");
    }
}
