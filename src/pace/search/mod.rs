//! A pure calculator that finds an unknown rate limit and stays just below it.
//!
//! It owns the rate in requests per second, the number of requests in flight, and the pause after a refusal
//! (429). It has no clock, never sleeps and does no I/O: the pacer reports what happened and when, and asks
//! what is allowed.
//!
//! # States
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Unlimited`, `Doubling` | refused, then accepted again | `Narrowing` or `Cruising` |
//! | `Narrowing` | test passed, or refused, then accepted again | `Narrowing` or `Cruising` |
//! | `Cruising` | refused, then accepted again | `Narrowing` or `Cruising` |
//! | `Cruising` | limit outgrown; with a shared limit, after `REPROBE` seconds | `Doubling` |
//!
//! The next state is `Narrowing` while the bounds of the limit are far apart, and `Cruising` otherwise.
//! Between a refusal and the next acceptance, a `Hold` suspends the state. If the refusal was for the number
//! of requests in flight, the state continues after the hold.
//!
//! # The rate
//!
//! The method is CUBIC's, the congestion control of TCP ([RFC 9438]), with the binary search of its
//! predecessor BIC (Xu, Harfoush, Rhee, 2004). After a refusal, the rate steps down, returns to the last
//! known limit along a cubic that flattens out there, stays, then probes upwards ever faster. AIMD (Chiu,
//! Jain, 1989), which both refine, halves its rate at each refusal and so averages three quarters of the
//! limit. For a limit on requests rather than a queue of packets, this search improves on them:
//!
//! - **It measures how far to step down.** The measurement resembles BBR's delivery rate (Cardwell et al.,
//!   2016), but runs from the first request accepted after one refusal to the first accepted after the next.
//!   A token bucket is as empty, and a fixed window as young, at the end as at the start. The count over the
//!   time therefore *is* the limit: neither the burst of a full bucket nor a quota used up early distorts it.
//!   So a step down of 3% is enough, where CUBIC needs 30%.
//! - **It tracks its uncertainty.** The measurement is a lower bound (a bucket may have overflowed in the
//!   pause), and the refused rate is an upper one. While they are far apart, their geometric mean is tested.
//!   A passed test proves only the part of the rate that the API's saved tokens can't explain.
//! - **It probes within a budget.** The time to the next probe depends on the cost of the last one, in time
//!   and in refusals, and on the share refused in the run so far. An API whose refusals are cheap is probed
//!   every 15 s, one that answers each with `Retry-After: 1` about every 45 s.
//! - **It stops at once.** After the first refusal, nothing is sent until the pause ends. Then a single trial
//!   request is sent (a circuit breaker's half-open state), and the rest follows when that one is accepted.
//!   So a refusal costs only the requests in flight.
//!
//! # The requests in flight
//!
//! Two other calculators own their number: `latency_limit` limits the queue that they cause, and
//! `inflight_limit` handles an API that refuses for the number itself.
//!
//! [RFC 9438]: https://www.rfc-editor.org/rfc/rfc9438

mod costs;
mod hold;
mod usage;

use std::time::Duration;

pub(super) use self::costs::LONGEST_CYCLE;
use self::costs::{Costs, TIME_BUDGET};
use self::hold::Hold;
use self::usage::{USE_SECONDS, Usage};
use super::inflight_limit::InflightLimit;
use super::latency_limit::LatencyLimit;

/// The first rate of the gentle start, in requests per second (a goal of the project).
const START_RATE: f64 = 10.0;

/// How often the gentle start doubles, in seconds (a goal of the project).
const START_DOUBLES_EVERY: f64 = 0.25;

/// How often the rate doubles, in seconds, once it has outgrown a known limit. This is slower than at the
/// start, because most of these alarms are false (a bucket had saved up tokens). It is three of the shortest
/// windows that APIs use (1 s), so that one step is judged before the next.
const AGAIN_DOUBLES_EVERY: f64 = 3.0;

/// The step down after a refusal, as a share of the limit, and the resolution of everything else. The cubic
/// averages a quarter of it below the limit, so 3% costs 0.75% of the throughput. 1% would be lost in the
/// jitter of windows of a hundred requests, and 10% would cost half of the 5% that the goal allows.
const MARGIN: f64 = 0.03;

/// The number of accepted requests that make a measurement. One more or less is then within the margin.
const ENOUGH: f64 = 1.0 / MARGIN;

/// How much faster the cubic runs above the limit than below. Time below the limit is well spent. Above it,
/// every second is either free (the limit rose), or the refusal is near anyway.
const CLIMB: f64 = 3.0;

/// A known limit no longer holds once this multiple of it is accepted. One margin could be a measurement
/// error.
const OUTGROWN: f64 = 1.0 + 2.0 * MARGIN;

/// A rise to less than this multiple of the known limit first counts as a false alarm: a bucket had saved up
/// tokens. Then only the neighbourhood of the known limit is tested. If the limit really rose further, the
/// next probe finds it.
const FALSE_ALARM: f64 = 1.5;

/// The bounds count as one value if they are no further apart than this. The cubic covers that range on its
/// own.
const NARROW: f64 = 2.0 * MARGIN;

/// The same where a share is left to others. Each test takes their share too, and using somewhat less does no
/// harm.
const NARROW_SHARED: f64 = 0.25;

/// The shortest and the longest test of a rate, in seconds: two of the shortest windows that APIs use (1 s),
/// and one of the longest common window (60 s).
const SHORTEST_TEST: f64 = 2.0;
const LONGEST_TEST: f64 = 60.0;

/// Two measurements over the same length of time can agree because both contain the same pause. If their
/// lengths differ by this factor, they can only agree on the limit.
const INDEPENDENT: f64 = 1.5;

/// The part of a `Retry-After` that may have been unnecessary, in seconds. The value is rounded up to whole
/// seconds.
const ROUNDED_UP: f64 = 1.0;

/// How much longer the pause gets with each refused trial, without `Retry-After`. The pause then outlasts the
/// need by a sixth on average, and a window of 60 s costs about 20 trials. Doubling would outlast it by a
/// quarter.
const PAUSE_GROWTH: f64 = 0.5;

/// The longest pause without `Retry-After`, in seconds. Windows are usually a minute at most. An API that
/// refuses for hours is asked as often as one whose limit may have risen.
const LONGEST_PAUSE: f64 = LONGEST_CYCLE;

/// The first pause without `Retry-After`, in requests at the refused rate. One token is back after one
/// request's time. The second covers the jitter of the trial's way to the API.
const PAUSE_REQUESTS: f64 = 2.0;

/// How the distance kept from the limit (the shade) adapts, in shares of the limit. It widens after a refusal
/// below the limit (a small window, another client), and otherwise narrows at half that pace, so at most one
/// probe in three comes early. It never exceeds two margins: further down, the lost throughput is worth more
/// than the refusals spared.
const SHADE_WIDENS: f64 = MARGIN / 3.0;
const SHADE_NARROWS: f64 = MARGIN / 6.0;
const SHADE_MOST: f64 = 2.0 * MARGIN;

/// The seconds after which the limit is searched for again if a share is left to others. Cruising doesn't
/// probe then.
const REPROBE: f64 = 600.0;

/// The share of the rate before a ban that is used after it, and the share of that after another ban soon. A ban comes
/// from a rate that is too high over some time, and 90% is back above 80% at once, which is a goal of the project.
const AFTER_BAN: f64 = 0.9;
const AFTER_ANOTHER_BAN: f64 = 0.7;

/// The seconds without a ban after which its rate may be tried again.
const BAN_MEMORY: f64 = 600.0;

/// The slowest rate, in requests per second. The smallest limit among the goals is 5, and a share of it
/// beside other clients may be less. Slower APIs are paced by the pauses after their refusals.
const SLOWEST: f64 = 0.2;

/// The configuration of a [`Search`].
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// The maximum rate in requests per second; `None` means no maximum.
    pub ceiling: Option<f64>,
    /// Whether to start with 10 requests per second and double every quarter of a second. Otherwise the
    /// search starts at the ceiling, or without any limit, and adapts once refused.
    pub gentle_start: bool,
    /// The share of the found limit to use, above 0 and at most 1. The rest is left to others.
    pub max_capacity: f64,
    /// The maximum number of requests in flight, at least 1.
    pub max_inflight: usize,
}

/// A rate that is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum AllowedRate {
    /// Any rate.
    Unlimited,
    /// This many requests a second.
    PerSecond(f64),
}

/// The rule that currently sets the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// No limit is known, and none but the ceiling applies.
    Unlimited,
    /// No limit is known, or the known one is outgrown. The rate doubles every `period` seconds.
    Doubling { from: f64, period: f64 },
    /// The limit lies between two bounds. `rate` is tested for `length` seconds, while the API may have
    /// `saved` seconds' worth of tokens.
    Narrowing { rate: f64, length: f64, saved: f64 },
    /// The limit is known. The cubic reaches it after `cycle` seconds.
    Cruising { limit: f64, cycle: f64 },
}

/// What is known about the limit, in requests per second.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The best estimate from below.
    low: f64,
    /// The rate that was refused, or that is too high by other evidence.
    high: f64,
    /// The refused rate while `high` is lower because of a suspected false alarm; otherwise 0.
    doubted: f64,
    /// The rate that was accepted for longer than saved tokens can explain; 0 if there is none.
    proven: f64,
    /// The limit of the last cruise; 0 before the first.
    settled: f64,
}

/// The accepted requests since a recovery.
#[derive(Debug, Clone, Copy)]
struct Measure {
    since: f64,
    accepted: f64,
}

/// A finished measurement: `rate` in requests per second, `over` in seconds.
#[derive(Debug, Clone, Copy)]
struct Measured {
    rate: f64,
    over: f64,
}

/// Finds the rate and the number of requests in flight that the API accepts. Times count from the start of
/// the run.
#[derive(Debug, Clone)]
pub struct Search {
    ceiling: Option<f64>,
    /// The rate that the last ban leaves, and when that was.
    after_ban: Option<(f64, f64)>,
    max_capacity: f64,
    phase: Phase,
    /// When the phase began, moved later by the time in which the rate wasn't used.
    phase_began: f64,
    /// The rate that is allowed now.
    rate: AllowedRate,
    bounds: Bounds,
    /// The distance that a cruise keeps from the limit, as a share of it.
    shade: f64,
    hold: Option<Hold>,
    hold_until: Option<Duration>,
    /// When the last accepted trial was sent.
    recovered: f64,
    /// Whether a limit was ever found.
    discovered: bool,
    measure: Measure,
    /// The last measurement, if the next one can be compared with it.
    previous: Option<Measured>,
    costs: Costs,
    usage: Usage,
    under_way: usize,
    latency_limit: LatencyLimit,
    refusal_limit: InflightLimit,
}

impl Search {
    /// Returns a search that knows no limit yet.
    #[must_use]
    pub fn new(options: &SearchOptions) -> Self {
        let phase = if options.gentle_start {
            Phase::Doubling {
                from: START_RATE,
                period: START_DOUBLES_EVERY,
            }
        } else {
            Phase::Unlimited
        };
        let mut search = Self {
            ceiling: options.ceiling.filter(|ceiling| *ceiling > 0.0),
            after_ban: None,
            max_capacity: if options.max_capacity > 0.0 {
                options.max_capacity.min(1.0)
            } else {
                1.0
            },
            phase,
            phase_began: 0.0,
            rate: AllowedRate::Unlimited,
            bounds: Bounds {
                low: 0.0,
                high: 0.0,
                doubted: 0.0,
                proven: 0.0,
                settled: 0.0,
            },
            shade: 0.0,
            hold: None,
            hold_until: None,
            recovered: 0.0,
            discovered: false,
            measure: Measure {
                since: 0.0,
                accepted: 0.0,
            },
            previous: None,
            costs: Costs::default(),
            usage: Usage::default(),
            under_way: 0,
            latency_limit: LatencyLimit::new(options.max_inflight),
            refusal_limit: InflightLimit::new(),
        };
        search.rate = search.rate_at(0.0);
        search
    }

    /// Returns the requests per second allowed now, or `None` if there is no limit. The value changes with
    /// each [`sent`](Self::sent) and each answer.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        match self.rate {
            AllowedRate::Unlimited => None,
            AllowedRate::PerSecond(rate) => Some(rate),
        }
    }

    /// Returns how many requests may be in flight now, including those that already are; at least 1.
    #[must_use]
    pub fn inflight_limit(&self) -> usize {
        match &self.hold {
            Some(hold) => hold.stragglers.saturating_add(1),
            None => self
                .lowered_inflight_limit()
                .unwrap_or(self.latency_limit.most()),
        }
    }

    /// Returns the in-flight limit if it is below the configured maximum. Ignores a pause.
    #[must_use]
    pub fn lowered_inflight_limit(&self) -> Option<usize> {
        let limit = self.refusal_limit.known().min(self.latency_limit.limit());
        (limit < self.latency_limit.most()).then_some(limit)
    }

    /// Returns the time before which nothing may be sent, counted from the start of the run. A pacer must not
    /// accumulate tokens until then. The time may lie in the past.
    #[must_use]
    pub fn hold_until(&self) -> Option<Duration> {
        self.hold_until
    }

    /// Records that a request was sent at `now`.
    pub fn sent(&mut self, now: Duration) {
        let now = now.as_secs_f64();
        self.under_way = self.under_way.saturating_add(1);
        self.latency_limit.sent(self.under_way);
        self.refusal_limit.sent(now, self.under_way);
        self.costs.sent();
        if let Some(hold) = &mut self.hold {
            // Tolerate a microsecond, which rounding between durations and seconds may lose.
            if hold.trial.is_none() && now + 1e-6 >= hold.until {
                hold.trial = Some(now);
            } else {
                hold.stragglers = hold.stragglers.saturating_add(1);
            }
            return;
        }
        if !self.usage.sent(now, self.rate) {
            return self.progress(now);
        }
        if !self.usage.is_used() {
            self.phase_began += now - self.usage.since;
        }
        self.usage.restart(now);
        self.progress(now);
    }

    /// Records that a request sent `latency` ago was answered at `now`, with any status but 429.
    pub fn answered(&mut self, now: Duration, latency: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        self.latency_limit.answered(now, latency);
        self.refusal_limit.answered(latency);
        let now = now.as_secs_f64();
        let sent = now - latency.as_secs_f64();
        if let Some(hold) = &mut self.hold
            && hold.returns(sent)
            && now >= hold.until
        {
            let hold = hold.clone();
            self.hold = None;
            self.recover(&hold, now, sent);
        }
        // Counted after the recovery, because the trial opens the next measurement.
        self.measure.accepted += 1.0;
    }

    /// Records that a request sent `latency` ago was refused with 429 at `now`. `others` is the number of
    /// other requests in flight when it was sent, and `retry_after` is the API's `Retry-After`, if any.
    pub fn refused(
        &mut self,
        now: Duration,
        latency: Duration,
        others: usize,
        retry_after: Option<Duration>,
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        self.costs.refused();
        let told = retry_after.filter(|pause| !pause.is_zero());
        let now = now.as_secs_f64();
        let sent = now - latency.as_secs_f64();
        let told = told.map(|pause| pause.as_secs_f64());
        let mut until = told.map_or(0.0, |pause| now + pause);
        if let Some(hold) = &mut self.hold {
            if hold.returns(sent) {
                until = until.max(if told.is_some() {
                    now
                } else {
                    now + (PAUSE_GROWTH * (now - hold.began)).min(LONGEST_PAUSE)
                });
            } else {
                self.refusal_limit.refused_too(others);
            }
            hold.last_refusal = now;
            hold.until = hold.until.max(until);
            until = hold.until;
        } else if sent >= self.recovered {
            let refused_rate = match self.rate_at(sent) {
                AllowedRate::PerSecond(rate) => rate,
                AllowedRate::Unlimited => {
                    let span = (now - self.measure.since).max(USE_SECONDS);
                    // Use the rate of the last span, or of a burst just now. The requests sent one by one before the
                    // burst were not refused.
                    let burst = self.usage.sent / (now - self.usage.since).max(USE_SECONDS);
                    let whole = self.costs.all_sent / span;
                    self.usage.rate.max(burst).max(whole).max(SLOWEST)
                }
            };
            until = until.max(if told.is_some() {
                now
            } else {
                now + PAUSE_REQUESTS / refused_rate
            });
            self.hold = Some(Hold {
                began: now,
                until,
                last_refusal: now,
                refused_rate,
                told: told.is_some(),
                stragglers: self.under_way,
                trial: None,
            });
            self.refusal_limit.refused(sent, others, self.under_way);
            self.rate = AllowedRate::PerSecond(refused_rate);
        }
        // A request sent before the recovery and refused later says nothing new, but its pause counts.
        let until = Duration::try_from_secs_f64(until).unwrap_or(Duration::MAX);
        self.hold_until = self.hold_until.max(Some(until));
    }

    /// Records that the request last reported as sent, at `now` or shortly before, was not sent after all.
    pub fn unsent(&mut self, now: Duration) {
        self.costs.all_sent = (self.costs.all_sent - 1.0).max(0.0);
        self.usage.sent = (self.usage.sent - 1.0).max(0.0);
        self.lost(now);
    }

    /// Records that a request got no answer: it timed out, or its connection was lost, at `now`.
    pub fn lost(&mut self, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(hold) = &mut self.hold {
            // It is unknown which request was lost. The stragglers are older than any trial, so they count
            // first.
            if hold.stragglers > 0 {
                hold.stragglers -= 1;
            } else {
                hold.trial = None;
                hold.until = hold.until.max(now.as_secs_f64());
            }
        }
    }

    /// Returns the rate that the phase allows at `at`, in requests per second.
    fn rate_at(&self, at: f64) -> AllowedRate {
        let elapsed = (at - self.phase_began).max(0.0);
        let rate = match self.phase {
            Phase::Unlimited => {
                return self
                    .ceiling_at(at)
                    .map_or(AllowedRate::Unlimited, AllowedRate::PerSecond);
            }
            Phase::Doubling { from, period } => from * (elapsed / period).floor().exp2(),
            Phase::Narrowing { rate, .. } => rate,
            Phase::Cruising { limit, .. } if self.is_shared() => limit * self.max_capacity,
            Phase::Cruising { limit, cycle } => {
                let x = elapsed / cycle - 1.0;
                let x = if x > 0.0 { CLIMB * x } else { x };
                limit * (1.0 + MARGIN * x * x * x)
            }
        };
        AllowedRate::PerSecond(match self.ceiling_at(at) {
            Some(ceiling) => rate.min(ceiling).max(SLOWEST.min(ceiling)),
            None => rate.max(SLOWEST),
        })
    }

    /// Returns the highest rate that is allowed at `now`, whatever the API accepts.
    fn ceiling_at(&self, now: f64) -> Option<f64> {
        let after_ban = self.after_ban.filter(|(_, at)| now - at < BAN_MEMORY);
        let ceilings = [self.ceiling, after_ban.map(|(rate, _)| rate)];
        ceilings.into_iter().flatten().reduce(f64::min)
    }

    /// Records that a ban for the rate has ended at `now`. The time of the ban itself must not have been counted.
    pub fn banned(&mut self, now: Duration) {
        let now = now.as_secs_f64();
        let before = self.usage.average(now);
        let rate = match self.after_ban.filter(|(_, at)| now - at < BAN_MEMORY) {
            Some((rate, _)) => rate.min(before) * AFTER_ANOTHER_BAN,
            None => before * AFTER_BAN,
        };
        self.after_ban = Some((rate.max(SLOWEST), now));
        self.rate = self.rate_at(now);
    }

    /// Ends the phase if it is over at `now`, and updates the allowed rate.
    fn progress(&mut self, now: f64) {
        let elapsed = now - self.phase_began;
        match self.phase {
            Phase::Unlimited | Phase::Doubling { .. } => {}
            Phase::Narrowing {
                rate,
                length,
                saved,
            } => {
                if elapsed >= length {
                    // Only the rate that was really sent was tested. Without a share left to others,
                    // correcting for that harmed as many of the simulated limits as it helped.
                    let used = if self.is_shared() {
                        self.usage.share()
                    } else {
                        1.0
                    };
                    let tested = rate * used;
                    self.bounds.proven = self.bounds.proven.max(tested * length / (length + saved));
                    self.bounds.low = self.bounds.low.max(tested);
                    if used < 1.0 {
                        // Something else holds the rate back, mostly the number of requests in flight. A
                        // share of the attainable rate is less than a share of the limit.
                        self.lower_high(tested * (1.0 + MARGIN));
                    } else {
                        // The rise was no false alarm.
                        self.bounds.high = self.bounds.high.max(self.bounds.doubted);
                    }
                    // Either the saved tokens were spent during the test, or the rate was below the limit.
                    // Half of the tokens is the middle of the two.
                    self.choose(now, saved / 2.0, 2.0 * length);
                }
            }
            Phase::Cruising { limit, .. } if self.is_shared() => {
                if elapsed > REPROBE {
                    self.double(now, limit);
                }
            }
            Phase::Cruising { limit, cycle } => {
                if elapsed > cycle {
                    self.bounds.proven = limit;
                }
                // Use the cubic's value, not the rate capped by the ceiling. So the climb ends beyond a
                // ceiling too.
                let x = CLIMB * (elapsed / cycle - 1.0).max(0.0);
                let climbed = 1.0 + MARGIN * x * x * x;
                if climbed > OUTGROWN {
                    self.double(now, limit * climbed);
                }
            }
        }
        self.rate = self.rate_at(now);
    }

    /// Starts doubling at `from`, because the known limit no longer holds or must be searched for again.
    fn double(&mut self, now: f64, from: f64) {
        self.bounds.proven = 0.0;
        self.phase = Phase::Doubling {
            from,
            period: AGAIN_DOUBLES_EVERY,
        };
        self.phase_began = now;
        self.measure = Measure {
            since: now,
            accepted: 0.0,
        };
    }

    /// Ends `hold` and updates the bounds of the limit. The trial, sent at `sent`, was accepted at `now`.
    fn recover(&mut self, hold: &Hold, now: f64, sent: f64) {
        let pause = now - hold.began;
        let cycle = self.costs.cycle(self.bounds.settled.max(SLOWEST));
        if self
            .refusal_limit
            .takes_back(now, cycle.max(pause / TIME_BUDGET))
        {
            self.phase_began += pause;
            self.measure.since += pause;
            self.resume(now, sent);
            self.rate = self.rate_at(now);
            return;
        }
        // The minimum distorts nothing, because a hold lasts at least a round trip.
        let over = (sent - self.measure.since).max(1e-6);
        let accepted = self.measure.accepted;
        let measured = accepted / over;
        let paused = sent - hold.began;
        // The part of the pause that may have been unnecessary. A bucket may have overflowed during it.
        let idle = {
            let idle = sent - hold.last_refusal;
            if hold.told {
                idle.min(ROUNDED_UP)
            } else {
                idle
            }
        };
        let exploring = matches!(self.phase, Phase::Doubling { .. } | Phase::Unlimited);
        let enough = accepted >= ENOUGH;

        self.learn_shade(hold, exploring);

        // If two independent measurements of a narrowing agree, they can only agree on the limit.
        let agrees = enough
            && matches!(self.phase, Phase::Narrowing { .. })
            && self.previous.is_some_and(|previous| {
                (measured / previous.rate - 1.0).abs() <= MARGIN
                    && (over >= INDEPENDENT * previous.over || idle <= MARGIN * over)
            });
        self.previous = (enough && !exploring).then_some(Measured {
            rate: measured,
            over,
        });

        // The API refused a proven rate, or accepted less than that even without the idle time. Either the
        // limit fell, or the proof was wrong (a test shorter than a window proves nothing).
        let active = accepted / (over - idle).max(1e-6);
        let disproved = enough && !exploring && active < self.bounds.proven * (1.0 - NARROW);
        if disproved || hold.refused_rate <= self.bounds.proven {
            self.bounds.proven = 0.0;
        }
        let floor = if self.bounds.proven > 0.0 || enough {
            self.bounds.proven
        } else if hold.refused_rate > self.bounds.settled {
            self.bounds.settled.max(hold.refused_rate / 2.0)
        } else {
            hold.refused_rate / 2.0
        };
        let floor = match self.phase {
            Phase::Cruising { cycle, .. } if hold.began - self.phase_began >= cycle => {
                floor.max(hold.refused_rate * (1.0 - MARGIN))
            }
            _ => floor,
        };
        self.bounds.low = measured
            .max(floor)
            .min(hold.refused_rate * (1.0 - MARGIN))
            .max(SLOWEST);
        self.bounds.high = hold.refused_rate.max(self.bounds.low);
        self.bounds.doubted = 0.0;

        // A pause costs nothing if the rest of the time made up for it. The measurement doesn't show what the
        // rounding of `Retry-After` wastes.
        self.costs.time += (now - hold.began)
            .min(ROUNDED_UP)
            .max(over - accepted / self.bounds.low);
        if !self.discovered {
            // The limit is discovered only once. No later probe costs as much.
            self.discovered = true;
            self.costs.time = 0.0;
            self.costs.refused = 0.0;
        }

        if agrees {
            self.lower_high(self.bounds.low * (1.0 + MARGIN));
        }
        // Most of the time was a necessary pause. So this is a window whose quota was used up early, at
        // whatever rate.
        if paused - idle > over / 2.0 {
            self.lower_high(active);
        }
        if exploring && self.bounds.low < FALSE_ALARM * self.bounds.settled {
            self.bounds.low = self
                .bounds
                .low
                .max(self.bounds.settled)
                .min(self.bounds.high);
            self.bounds.doubted = self.bounds.high;
            self.lower_high(self.bounds.low * (1.0 + 2.0 * NARROW));
        }

        if exploring || enough {
            self.measure = Measure {
                since: sent,
                accepted: 0.0,
            };
        }
        self.resume(now, sent);
        self.refusal_limit
            .recovered(now, self.bounds.low, self.costs.cycle(self.bounds.low));
        self.choose(now, paused, over);
        self.rate = self.rate_at(now);
    }

    /// Resumes sending after a hold whose trial was sent at `sent`.
    fn resume(&mut self, now: f64, sent: f64) {
        self.recovered = sent;
        // Tokens that a pacer accumulated in the hold would be a burst into an empty bucket.
        self.hold_until = Some(Duration::try_from_secs_f64(now).unwrap_or(Duration::MAX));
        self.usage.restart(now);
        self.usage.last_sent = now;
    }

    /// Keeps further from the limit if refused before reaching it, and closer otherwise.
    fn learn_shade(&mut self, hold: &Hold, exploring: bool) {
        match self.phase {
            Phase::Cruising { cycle, .. } if hold.began - self.phase_began < cycle => {
                self.shade = (self.shade + SHADE_WIDENS).min(SHADE_MOST);
            }
            Phase::Cruising { .. } => self.shade = (self.shade - SHADE_NARROWS).max(0.0),
            _ if exploring => self.shade = (self.shade - SHADE_NARROWS).max(0.0),
            _ => {}
        }
    }

    /// Returns whether a share of the limit is left to others.
    const fn is_shared(&self) -> bool {
        self.max_capacity < 1.0
    }

    /// Lowers the upper bound to `high`, but not below the lower bound.
    fn lower_high(&mut self, high: f64) {
        self.bounds.high = self.bounds.high.min(high).max(self.bounds.low);
    }

    /// Chooses the next phase: a test between the bounds if they are far apart, otherwise a cruise. The API
    /// could save up tokens for `saved` seconds, and was last measured over `span` seconds.
    fn choose(&mut self, now: f64, saved: f64, span: f64) {
        let Bounds { low, high, .. } = self.bounds;
        self.phase_began = now;
        let gap = high / low - 1.0;
        let narrow = if self.is_shared() {
            NARROW_SHARED
        } else {
            NARROW
        };
        if gap > narrow {
            // At half the gap above the limit, the saved tokens last `2 × saved / gap` seconds. The test
            // takes twice as long to be sure. Windows save no tokens, and twice the last measurement contains
            // a full one.
            let length = (4.0 * saved / gap)
                .min(2.0 * span)
                .clamp(SHORTEST_TEST, LONGEST_TEST);
            self.phase = Phase::Narrowing {
                rate: (low * high).sqrt(),
                length,
                saved,
            };
        } else {
            let cycle = self.costs.cycle(low);
            self.costs.time = 0.0;
            self.costs.refused = 0.0;
            self.bounds.settled = low;
            self.phase = Phase::Cruising {
                limit: low * (1.0 - self.shade),
                cycle,
            };
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "test-only arithmetic on small numbers"
)]
mod tests;
