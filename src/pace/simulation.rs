//! Simulates hours of a run in virtual time: the search and a pacer against APIs of every kind. The
//! simulation is deterministic and driven by discrete events.
//!
//! `cargo test --release simulation -- --ignored --nocapture` prints the tables. `RUN` sets the length of the
//! run in seconds, and `JITTER` sets the share by which latencies vary.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "test-only arithmetic on small numbers; the tables are printed"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::search::{LONGEST_CYCLE, Search, SearchOptions};
use crate::report::estimate::Estimate;

/// An xorshift64* generator.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a uniform value around `mean`, off by up to the share `jitter`.
    fn around(&mut self, mean: f64, jitter: f64) -> f64 {
        mean * (1.0 + jitter * (2.0 * self.unit() - 1.0))
    }
}

/// A limit over the run, in requests per second.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Steady(f64),
    /// Changes at this second, from one value to the other.
    Step(f64, f64, f64),
    /// Alternates between two values, with this many seconds for each.
    Alternating(f64, f64, f64),
}

impl Limit {
    fn at(self, time: f64) -> f64 {
        match self {
            Self::Steady(limit) => limit,
            Self::Step(at, before, after) => {
                if time < at {
                    before
                } else {
                    after
                }
            }
            Self::Alternating(every, one, other) => {
                if ((time / every) as u64).is_multiple_of(2) {
                    one
                } else {
                    other
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A token bucket that holds this many seconds' worth of tokens.
    Bucket(f64),
    /// A token bucket that holds one token.
    Strict,
    /// A fixed window of this many seconds.
    Window(f64),
    /// A limit on concurrent requests, each of which takes the scenario's `work`.
    AtOnce(usize),
    /// Refuses nothing.
    Free,
}

impl Kind {
    /// Returns the attainable rate under `limit`, in requests per second. A window accepts only whole
    /// requests.
    fn offers(self, limit: f64) -> f64 {
        match self {
            Self::Window(length) => (length * limit + 1e-9).floor() / length,
            _ => limit,
        }
    }
}

const KINDS: [(&str, Kind); 5] = [
    ("bucket of 1 s", Kind::Bucket(1.0)),
    ("bucket of 10 s", Kind::Bucket(10.0)),
    ("window of 1 s", Kind::Window(1.0)),
    ("window of 10 s", Kind::Window(10.0)),
    ("window of 60 s", Kind::Window(60.0)),
];

const LIMITS: [f64; 7] = [5.0, 20.0, 50.0, 100.0, 333.0, 1000.0, 2000.0];

#[derive(Debug, Clone)]
struct Scenario {
    limit: Limit,
    kind: Kind,
    retry_after: bool,
    /// The round-trip latency in seconds.
    latency: f64,
    /// The share by which the latency of each direction varies.
    jitter: f64,
    /// The share of the limit that another client requests.
    other: f64,
    /// The processing time within the API in seconds. It varies by up to `jitter`.
    work: f64,
    /// The requests per second that one queue serves, with exponential service times.
    service: Option<f64>,
    /// Seconds.
    run: f64,
    options: SearchOptions,
}

impl Scenario {
    /// Returns a scenario that allows twice the requests in flight that the limit needs, and at least the
    /// default.
    fn new(limit: f64, kind: Kind, retry_after: bool, latency: f64) -> Self {
        let max_inflight = 32.max((limit * latency * 2.0) as usize);
        Self {
            limit: Limit::Steady(limit),
            kind,
            retry_after,
            latency,
            jitter: 0.1,
            other: 0.0,
            work: 0.0,
            service: None,
            run: 3600.0,
            options: SearchOptions {
                ceiling: None,
                gentle_start: true,
                max_capacity: 1.0,
                max_inflight,
            },
        }
    }

    /// Returns a scenario without a rate limit. With `service`, one queue bounds the throughput.
    fn free(service: Option<f64>, latency: f64, max_inflight: usize, jitter: f64) -> Self {
        let free = Self::new(1e9, Kind::Free, false, latency);
        let options = SearchOptions {
            max_inflight,
            ..free.options
        };
        Self {
            service,
            jitter,
            run: 600.0,
            options,
            ..free
        }
    }
}

struct Api {
    kind: Kind,
    /// The number of requests being processed.
    active: usize,
    tokens: f64,
    filled: f64,
    window: u64,
    used: f64,
}

impl Api {
    /// Accepts one request, or returns the seconds until it would.
    fn take(&mut self, now: f64, limit: f64) -> Result<(), f64> {
        let burst = match self.kind {
            Kind::AtOnce(most) if self.active >= most => return Err(0.0),
            Kind::AtOnce(_) | Kind::Free => return Ok(()),
            Kind::Window(length) => {
                let window = (now / length) as u64;
                if window != self.window {
                    self.window = window;
                    self.used = 0.0;
                }
                if self.used + 1.0 > length * limit + 1e-9 {
                    return Err((window + 1) as f64 * length - now);
                }
                self.used += 1.0;
                return Ok(());
            }
            Kind::Bucket(seconds) => (seconds * limit).max(1.0),
            Kind::Strict => 1.0,
        };
        self.tokens = (self.tokens + (now - self.filled) * limit).min(burst);
        self.filled = now;
        if self.tokens < 1.0 - 1e-9 {
            return Err((1.0 - self.tokens) / limit);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Outcome {
    sent: u64,
    accepted: u64,
    refused: u64,
    /// The number of requests that the API would have accepted in the run.
    capacity: f64,
    /// Seconds.
    mean_latency: f64,
    mean_at_once: f64,
}

impl Outcome {
    /// Percent.
    fn reached(&self) -> f64 {
        100.0 * self.accepted as f64 / self.capacity
    }

    /// Percent.
    fn refused(&self) -> f64 {
        100.0 * self.refused as f64 / (self.sent as f64).max(1.0)
    }

    #[track_caller]
    fn assert(&self, reached: f64, refused: f64, what: &str) {
        assert!(
            self.reached() >= reached,
            "{what}: reached {:.1}% of {reached}%",
            self.reached()
        );
        assert!(
            self.refused() <= refused,
            "{what}: refused {:.2}% of {refused}%",
            self.refused()
        );
    }
}

/// What decides when the next request may go: the search, or a simpler method to compare it with.
trait Controller {
    /// Requests a second; `None` is no limit.
    fn rate(&self) -> Option<f64>;
    fn inflight_limit(&self) -> usize;
    /// Nothing is sent before this.
    fn hold_until(&self) -> Option<Duration>;
    fn sent(&mut self, now: Duration);
    fn answered(&mut self, now: Duration, latency: Duration);
    fn refused(&mut self, now: Duration, latency: Duration, others: usize, wait: Option<Duration>);
}

impl Controller for Search {
    fn rate(&self) -> Option<f64> {
        self.rate()
    }
    fn inflight_limit(&self) -> usize {
        self.inflight_limit()
    }
    fn hold_until(&self) -> Option<Duration> {
        self.hold_until()
    }
    fn sent(&mut self, now: Duration) {
        self.sent(now);
    }
    fn answered(&mut self, now: Duration, latency: Duration) {
        self.answered(now, latency);
    }
    fn refused(&mut self, now: Duration, latency: Duration, others: usize, wait: Option<Duration>) {
        self.refused(now, latency, others, wait);
    }
}

/// Additive increase, multiplicative decrease (Chiu, Jain, 1989): a step down of 10% at a refusal, which is made up for
/// in 30 s. It starts as the search does, and a refusal pauses it for `Retry-After`, or for two requests.
struct Aimd {
    rate: f64,
    /// When the rate was last set.
    since: f64,
    /// The rate at the last refusal, and when the step down was made.
    refused: Option<(f64, f64)>,
    max_inflight: usize,
    hold_until: f64,
}

impl Aimd {
    const fn new(max_inflight: usize) -> Self {
        Self {
            rate: 10.0,
            since: 0.0,
            refused: None,
            max_inflight,
            hold_until: 0.0,
        }
    }

    fn rate_at(&self, now: f64) -> f64 {
        let elapsed = (now - self.since).max(0.0);
        match self.refused {
            None => self.rate * (elapsed / 0.25).floor().exp2(),
            Some((refused, _)) => self.rate + 0.1 * refused * elapsed / 30.0,
        }
    }
}

impl Controller for Aimd {
    fn rate(&self) -> Option<f64> {
        Some(self.rate)
    }
    fn inflight_limit(&self) -> usize {
        self.max_inflight
    }
    fn hold_until(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.hold_until))
    }
    fn sent(&mut self, now: Duration) {
        let now = now.as_secs_f64();
        let rate = self.rate_at(now);
        if rate > self.rate || self.refused.is_some() {
            self.rate = rate;
            self.since = now;
        }
    }
    fn answered(&mut self, _: Duration, _: Duration) {}
    fn refused(&mut self, now: Duration, latency: Duration, _: usize, wait: Option<Duration>) {
        let now = now.as_secs_f64();
        let pause = wait.map_or(2.0 / self.rate, |wait| wait.as_secs_f64());
        self.hold_until = self.hold_until.max(now + pause);
        // Requests that were sent before the step down say nothing about the lower rate.
        let is_new = (self.refused).is_none_or(|(_, at)| now - latency.as_secs_f64() >= at);
        if is_new {
            self.refused = Some((self.rate, now));
            self.rate = (self.rate * 0.9).max(0.2);
            self.since = now;
        }
    }
}

/// Five requests in flight and no rate limit. A refusal pauses it for `Retry-After`, or for a second.
struct FiveAtOnce {
    hold_until: Duration,
}

impl Controller for FiveAtOnce {
    fn rate(&self) -> Option<f64> {
        None
    }
    fn inflight_limit(&self) -> usize {
        5
    }
    fn hold_until(&self) -> Option<Duration> {
        Some(self.hold_until)
    }
    fn sent(&mut self, _: Duration) {}
    fn answered(&mut self, _: Duration, _: Duration) {}
    fn refused(&mut self, now: Duration, _: Duration, _: usize, wait: Option<Duration>) {
        let pause = wait.unwrap_or(Duration::from_secs(1));
        self.hold_until = self.hold_until.max(now + pause);
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Event {
    Arrives {
        sent: u64,
        others: usize,
    },
    /// The API has finished processing a request.
    Ends,
    Answers {
        sent: u64,
        others: usize,
        refused: bool,
        retry_after: u64,
    },
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn run(scenario: &Scenario) -> Outcome {
    watch(scenario, Search::new(&scenario.options), |_, _| {})
}

/// Runs the scenario with a controller, and passes that to `look` about once a second.
fn watch<C: Controller>(
    scenario: &Scenario,
    mut search: C,
    mut look: impl FnMut(f64, &C),
) -> Outcome {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut api = Api {
        kind: scenario.kind,
        active: 0,
        tokens: f64::INFINITY,
        filled: 0.0,
        window: 0,
        used: 0.0,
    };
    let mut events: BinaryHeap<Reverse<(u64, u64, Event)>> = BinaryHeap::new();
    let mut outcome = Outcome::default();
    let end = nanoseconds(scenario.run);
    let (mut now, mut due, mut number, mut under_way) = (0_u64, 0_u64, 0_u64, 0_usize);
    let mut other_next = if scenario.other > 0.0 {
        0.0
    } else {
        f64::INFINITY
    };
    let (mut other_taken, mut offered, mut served_until, mut latencies, mut looked) =
        (0.0, 0.0, 0.0_f64, 0.0, 0.0);
    let (mut answered, mut inflight_limit) = (0_u64, 0.0);
    loop {
        let sends_at = (under_way < search.inflight_limit()).then(|| {
            due = due.max(
                search
                    .hold_until()
                    .map_or(0, |until| until.as_nanos() as u64),
            );
            due.max(now)
        });
        let happens_at = events.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
        let next = sends_at.unwrap_or(u64::MAX).min(happens_at).min(end);
        offered += scenario.kind.offers(scenario.limit.at(seconds(now))) * seconds(next - now);
        inflight_limit += search.inflight_limit() as f64 * seconds(next - now);
        now = next;
        if now == end {
            break;
        }
        let time = seconds(now);
        if time >= looked {
            look(time, &search);
            looked = time + 1.0;
        }
        number += 1;
        if sends_at == Some(now) {
            // GCRA: at most 0.1 s of lateness is caught up.
            let gap = search.rate().map_or(0, |rate| nanoseconds(1.0 / rate));
            due = due.max(now.saturating_sub(100_000_000)) + gap;
            let others = under_way;
            under_way += 1;
            outcome.sent += 1;
            search.sent(Duration::from_nanos(now));
            let there = nanoseconds(random.around(scenario.latency / 2.0, scenario.jitter));
            let arrives = Event::Arrives { sent: now, others };
            events.push(Reverse((now + there, number, arrives)));
            continue;
        }
        let Some(Reverse((_, _, event))) = events.pop() else {
            break;
        };
        match event {
            Event::Arrives { sent, others } => {
                let limit = scenario.limit.at(time);
                while other_next <= time {
                    other_taken += f64::from(u8::from(api.take(other_next, limit).is_ok()));
                    other_next += random.around(1.0 / (scenario.other * limit), 0.5);
                }
                let back = random.around(scenario.latency / 2.0, scenario.jitter);
                let (done, event) = match api.take(time, limit) {
                    Ok(()) => {
                        outcome.accepted += 1;
                        api.active += 1;
                        let work = random.around(scenario.work, scenario.jitter);
                        events.push(Reverse((now + nanoseconds(work), number, Event::Ends)));
                        if let Some(service) = scenario.service {
                            served_until =
                                served_until.max(time) - random.unit().max(1e-9).ln() / service;
                        }
                        (
                            served_until.max(time + work),
                            Event::Answers {
                                sent,
                                others,
                                refused: false,
                                retry_after: 0,
                            },
                        )
                    }
                    Err(wait) => {
                        outcome.refused += 1;
                        let retry_after = if scenario.retry_after {
                            wait.ceil().max(1.0) as u64
                        } else {
                            0
                        };
                        (
                            time,
                            Event::Answers {
                                sent,
                                others,
                                refused: true,
                                retry_after,
                            },
                        )
                    }
                };
                events.push(Reverse((nanoseconds(done + back), number, event)));
            }
            Event::Ends => api.active -= 1,
            Event::Answers {
                sent,
                others,
                refused,
                retry_after,
            } => {
                under_way -= 1;
                let latency = Duration::from_nanos(now - sent);
                if refused {
                    let retry_after = (retry_after > 0).then(|| Duration::from_secs(retry_after));
                    search.refused(Duration::from_nanos(now), latency, others, retry_after);
                } else {
                    latencies += latency.as_secs_f64();
                    answered += 1;
                    search.answered(Duration::from_nanos(now), latency);
                }
            }
        }
    }
    let max_inflight = match scenario.kind {
        Kind::AtOnce(most) => most.min(scenario.options.max_inflight),
        _ => scenario.options.max_inflight,
    };
    // An `AtOnce` API doesn't count requests in transit.
    let most = max_inflight as f64
        / match scenario.kind {
            Kind::AtOnce(_) => scenario.work,
            _ => scenario.latency + scenario.work,
        };
    let served = scenario.service.unwrap_or(f64::INFINITY).min(most) * scenario.run;
    outcome.capacity = (offered - other_taken).min(served);
    outcome.mean_latency = latencies / answered.max(1) as f64;
    outcome.mean_at_once = inflight_limit / scenario.run;
    outcome
}

fn named(kind: &str, retry_after: bool) -> String {
    format!("{kind}{}", if retry_after { ", told" } else { "" })
}

/// Returns an hour, or the time that `requests` take if that is shorter, to keep the tests quick.
fn length(limit: f64, requests: f64) -> f64 {
    f64::min(3600.0, requests / limit)
}

/// The search, and the number of requests that were answered.
struct Counting {
    search: Search,
    answered: u64,
}

impl Controller for Counting {
    fn rate(&self) -> Option<f64> {
        self.search.rate()
    }
    fn inflight_limit(&self) -> usize {
        self.search.inflight_limit()
    }
    fn hold_until(&self) -> Option<Duration> {
        self.search.hold_until()
    }
    fn sent(&mut self, now: Duration) {
        self.search.sent(now);
    }
    fn answered(&mut self, now: Duration, latency: Duration) {
        self.answered += 1;
        self.search.answered(now, latency);
    }
    fn refused(&mut self, now: Duration, latency: Duration, others: usize, wait: Option<Duration>) {
        self.search.refused(now, latency, others, wait);
    }
}

/// From a fifth of the rows on, the time left that the bar shows is off by at most a fifth, and 3 s where that is less. Where
/// the API counts in windows of 10 s or more, it may be off by 30% or one window, once two windows are over.
/// Jobs take from two and a half minutes to twenty. (Of a shorter one, the burst that some APIs serve at first is so large a
/// part that nobody can know the rest.)
#[test]
fn time_left_is_honest() {
    for (kind, api) in KINDS {
        for retry_after in [false, true] {
            for (limit, rows) in [
                (20.0, 4_000_u32),
                (100.0, 15_000),
                (100.0, 100_000),
                (333.0, 50_000),
            ] {
                let scenario = Scenario {
                    run: length(limit, f64::from(rows)) * 2.0,
                    ..Scenario::new(limit, api, retry_after, 0.05)
                };
                let counting = Counting {
                    search: Search::new(&scenario.options),
                    answered: 0,
                };
                let mut moments = Vec::new();
                watch(&scenario, counting, |time, counting| {
                    moments.push((time, counting.answered));
                });
                let rows = u64::from(rows);
                let end = moments.iter().find(|(_, done)| *done >= rows);
                let end = end.expect("the run is long enough").0;
                let mut estimate = Estimate::default();
                for (time, done) in moments.into_iter().take_while(|(time, _)| *time < end) {
                    estimate.add(time, done);
                    let (share, slack, from) = match api {
                        Kind::Window(length) if length >= 10.0 => (0.3, length, 2.0 * length),
                        _ => (0.2, 3.0, 0.0),
                    };
                    if done * 5 < rows || time < from {
                        continue;
                    }
                    let left = estimate.seconds_left(time, done, rows - done);
                    let (left, truth) = (left.expect("rows have ended"), end - time);
                    assert!(
                        (left - truth).abs() <= (truth * share).max(slack),
                        "{}, {limit}/s, {rows} rows: {left:.0} s at {time:.0} s, and it was {truth:.0} s",
                        named(kind, retry_after)
                    );
                }
            }
        }
    }
}

/// The goal is at least 95% of an unknown limit, with at most 1% of requests refused.
#[test]
fn reaches_an_unknown_limit_with_few_refusals() {
    for (kind, api) in KINDS {
        for retry_after in [false, true] {
            for (limit, requests) in [
                (5.0, 18e3),
                (20.0, 36e3),
                (100.0, 60e3),
                (333.0, 100e3),
                (1000.0, 300e3),
            ] {
                let scenario = Scenario {
                    run: length(limit, requests),
                    ..Scenario::new(limit, api, retry_after, 0.05)
                };
                let outcome = run(&scenario);
                outcome.assert(94.0, 1.0, &format!("{}, {limit}", named(kind, retry_after)));
            }
        }
    }
}

/// Returns the seconds from the change of the limit, at 600 s, until the rate is (and stays for 10 s) between
/// 85% and 105% of the new limit.
fn adapts(api: Kind, retry_after: bool, before: f64, after: f64, within: f64) -> f64 {
    let limit = Limit::Step(600.0, before, after);
    let scenario = Scenario {
        limit,
        run: 630.0 + within,
        ..Scenario::new(before.max(after), api, retry_after, 0.05)
    };
    let mut since = None;
    let search = Search::new(&scenario.options);
    watch(&scenario, search, |time, search| {
        let near = search
            .rate()
            .is_some_and(|rate| (0.85 * after..=1.05 * after).contains(&rate));
        if time < 600.0 {
            return;
        }
        since = if near {
            since.or(Some(time))
        } else {
            since.filter(|since| time - since > 10.0)
        };
    });
    since.map_or(f64::INFINITY, |since| since - 600.0)
}

#[test]
fn follows_a_limit_that_changes() {
    // When the limit falls, every second above it is refused, so a window or two are enough. When it rises,
    // the next probe finds it. The probe waits until the budget allows it, but never longer than the longest
    // cycle.
    for (before, after, within) in [
        (100.0, 50.0, 90.0),
        (50.0, 100.0, LONGEST_CYCLE),
        (20.0, 200.0, LONGEST_CYCLE),
    ] {
        for (kind, api) in KINDS {
            // With windows of a minute, each step of the search takes one window.
            let within = if matches!(api, Kind::Window(60.0)) {
                within + 720.0
            } else {
                within
            };
            for retry_after in [false, true] {
                let took = adapts(api, retry_after, before, after, within);
                println!(
                    "{before} to {after}, {}: {took:.0} s",
                    named(kind, retry_after)
                );
                assert!(
                    took <= within,
                    "{before} to {after}, {}: {took:.0} s",
                    named(kind, retry_after)
                );
            }
        }
    }
}

/// Windows of 1 s are left out, because they pass on all of the other client's jitter; see the table.
#[test]
fn uses_the_capacity_that_another_client_leaves() {
    for (kind, api) in KINDS
        .into_iter()
        .filter(|(_, api)| !matches!(api, Kind::Window(1.0)))
    {
        for retry_after in [false, true] {
            let scenario = Scenario {
                other: 0.3,
                run: 900.0,
                ..Scenario::new(50.0, api, retry_after, 0.05)
            };
            run(&scenario).assert(93.0, 1.0, &named(kind, retry_after));
        }
    }
}

#[test]
fn each_rate_option_reaches_its_rate() {
    let auto = SearchOptions {
        ceiling: None,
        gentle_start: true,
        max_capacity: 1.0,
        max_inflight: 32,
    };
    for (name, options, least, most) in [
        (
            "--rate 50",
            SearchOptions {
                ceiling: Some(50.0),
                ..auto.clone()
            },
            49.5,
            50.1,
        ),
        (
            "--rate 200",
            SearchOptions {
                ceiling: Some(200.0),
                ..auto.clone()
            },
            94.0,
            106.0,
        ),
        (
            "--rate 0",
            SearchOptions {
                gentle_start: false,
                ..auto.clone()
            },
            94.0,
            106.0,
        ),
        (
            "--max-capacity 60%",
            SearchOptions {
                max_capacity: 0.6,
                ..auto
            },
            50.0,
            70.0,
        ),
    ] {
        for (kind, api) in KINDS {
            for retry_after in [false, true] {
                let scenario = Scenario::new(100.0, api, retry_after, 0.05);
                let outcome = run(&Scenario {
                    options: options.clone(),
                    run: 600.0,
                    ..scenario
                });
                outcome.assert(least, 1.0, &format!("{name}, {}", named(kind, retry_after)));
                assert!(
                    outcome.reached() <= most,
                    "{name}, {}: {:.1}%",
                    named(kind, retry_after),
                    outcome.reached()
                );
            }
        }
    }
}

#[test]
fn lowers_the_inflight_limit_only_for_a_queue() {
    // Requests served per second, additional latency in seconds, maximum in flight, jitter, and the highest
    // mean in-flight limit expected.
    for (service, latency, max_inflight, jitter, inflight_limit) in [
        (None, 0.05, 32, 0.0, 32.0),
        (None, 0.05, 32, 0.5, 32.0),
        (None, 0.005, 32, 0.9, 32.0),
        (None, 0.1, 256, 0.9, 256.0),
        (Some(10.0), 0.05, 32, 0.5, 12.0),
        (Some(100.0), 0.005, 32, 0.1, 12.0),
        (Some(100.0), 0.05, 32, 0.1, 16.0),
        (Some(1000.0), 0.02, 256, 0.1, 150.0),
    ] {
        let scenario = Scenario {
            run: if service == Some(10.0) { 1200.0 } else { 120.0 },
            ..Scenario::free(service, latency, max_inflight, jitter)
        };
        let outcome = run(&scenario);
        let what = format!("{service:?} {latency} {max_inflight} {jitter}");
        println!(
            "{what}: {:.1}%, {:.1} at once, {:.0} ms",
            outcome.reached(),
            outcome.mean_at_once,
            outcome.mean_latency * 1e3
        );
        outcome.assert(95.0, 0.0, &what);
        assert!(
            outcome.mean_at_once <= inflight_limit,
            "{what}: {:.1} at once",
            outcome.mean_at_once
        );
    }
}

/// Some APIs limit the number of requests in flight, whatever their rate.
#[test]
fn stays_below_a_limit_on_requests_in_flight() {
    for (most, work, latency, jitter, gentle_start) in [
        (5, 0.05, 0.002, 0.0, true),
        (5, 0.05, 0.002, 0.3, true),
        (5, 0.05, 0.002, 0.9, true),
        (5, 0.2, 0.01, 0.3, true),
        (5, 0.05, 0.002, 0.3, false),
        (20, 0.1, 0.002, 0.3, true),
        (2, 0.1, 0.002, 0.3, true),
    ] {
        let api = Scenario::new(1e9, Kind::AtOnce(most), false, latency);
        let outcome = run(&Scenario {
            work,
            jitter,
            run: 300.0,
            options: SearchOptions {
                gentle_start,
                max_inflight: 32,
                ..api.options
            },
            ..api
        });
        let what = format!("{most} at once, {work} {latency} {jitter} {gentle_start}");
        println!(
            "{what}: {:.1}%, {:.2}% refused, {:.1} at once",
            outcome.reached(),
            outcome.refused(),
            outcome.mean_at_once
        );
        outcome.assert(85.0, 1.0, &what);
    }
}

fn env(name: &str, default: f64) -> f64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn row(name: &str, build: impl Fn(f64) -> Scenario) {
    print!("{name:38}");
    for limit in LIMITS {
        let scenario = build(limit);
        let outcome = run(&Scenario {
            jitter: env("JITTER", 0.1),
            run: env("RUN", 3600.0),
            ..scenario
        });
        print_cell(&outcome);
    }
    println!();
}

fn print_cell(outcome: &Outcome) {
    let is_met = outcome.reached() >= 95.0 && outcome.refused() <= 1.0;
    print!(
        " {:5.1} {:5.2}{}",
        outcome.reached(),
        outcome.refused(),
        if is_met { ' ' } else { '!' }
    );
}

#[test]
#[ignore = "prints the table"]
fn table_of_limits() {
    println!(
        "{:38}{}",
        "reached %, refused %; ! = goal missed",
        LIMITS.map(|limit| format!("{limit:>13}")).concat()
    );
    for (kind, api) in KINDS.into_iter().chain([("burst of 1", Kind::Strict)]) {
        for retry_after in [false, true] {
            for latency in [0.005, 0.05, 0.2] {
                row(
                    &format!("{}, {} ms", named(kind, retry_after), latency * 1e3),
                    |limit| Scenario::new(limit, api, retry_after, latency),
                );
            }
        }
    }
    for (kind, api) in KINDS {
        for retry_after in [false, true] {
            row(
                &format!("other client 30%, {}", named(kind, retry_after)),
                |limit| Scenario {
                    other: 0.3,
                    ..Scenario::new(limit, api, retry_after, 0.05)
                },
            );
        }
    }
}

#[test]
#[ignore = "prints the table"]
fn table_of_changes() {
    type Change = fn(f64) -> Limit;
    let changes: [(&str, Change); 4] = [
        ("halves after 10 min", |limit| {
            Limit::Step(600.0, limit, limit / 2.0)
        }),
        ("doubles after 10 min", |limit| {
            Limit::Step(600.0, limit / 2.0, limit)
        }),
        ("tenfold after 10 min", |limit| {
            Limit::Step(600.0, limit / 10.0, limit)
        }),
        ("halves for 5 of 10 min", |limit| {
            Limit::Alternating(300.0, limit, limit / 2.0)
        }),
    ];
    println!(
        "{:38}{}",
        "reached %, refused %; ! = goal missed",
        LIMITS.map(|limit| format!("{limit:>13}")).concat()
    );
    for (change, limits) in changes {
        for (kind, api) in KINDS {
            for retry_after in [false, true] {
                row(
                    &format!("{change}, {}", named(kind, retry_after)),
                    |limit| Scenario {
                        limit: limits(limit),
                        ..Scenario::new(limit, api, retry_after, 0.05)
                    },
                );
            }
        }
    }
}

/// The search beside two simpler methods, over the same hours.
#[test]
#[ignore = "prints the table"]
fn table_of_baselines() {
    println!(
        "{:38}{}",
        "reached %, refused %; ! = goal missed",
        LIMITS.map(|limit| format!("{limit:>13}")).concat()
    );
    let compare = |name: &str, build: &dyn Fn(f64) -> Scenario| {
        for method in ["search", "AIMD", "5 at once"] {
            print!("{:38}", format!("{name}: {method}"));
            for limit in LIMITS {
                let scenario = Scenario {
                    run: env("RUN", 3600.0),
                    ..build(limit)
                };
                let max_inflight = scenario.options.max_inflight;
                let outcome = match method {
                    "AIMD" => watch(&scenario, Aimd::new(max_inflight), |_, _| {}),
                    "5 at once" => {
                        let five = FiveAtOnce {
                            hold_until: Duration::ZERO,
                        };
                        watch(&scenario, five, |_, _| {})
                    }
                    _ => run(&scenario),
                };
                print_cell(&outcome);
            }
            println!();
        }
    };
    for (kind, api) in KINDS {
        for retry_after in [false, true] {
            compare(&named(kind, retry_after), &|limit| {
                Scenario::new(limit, api, retry_after, 0.05)
            });
        }
    }
    for (kind, api) in KINDS {
        compare(&format!("halves, {kind}"), &|limit| Scenario {
            limit: Limit::Step(600.0, limit, limit / 2.0),
            ..Scenario::new(limit, api, false, 0.05)
        });
    }
    compare("5 at once", &|_| Scenario {
        work: 0.05,
        options: SearchOptions {
            max_inflight: 32,
            ..Scenario::new(1e9, Kind::AtOnce(5), false, 0.002).options
        },
        ..Scenario::new(1e9, Kind::AtOnce(5), false, 0.002)
    });
}
