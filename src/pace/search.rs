//! What the API bears: a pure calculator that finds an unknown rate limit and stays just below it.
//!
//! It owns two numbers, the requests a second and the requests under way at once, and the pause after a refusal. It
//! has no clock, never sleeps and does no I/O: the pacer tells it what happened and when, and asks what is allowed.
//!
//! # The rate
//!
//! The method is CUBIC's, the congestion control of TCP ([RFC 9438]), with the binary search of its predecessor BIC
//! (Xu, Harfoush, Rhee, 2004): after a refusal come down, return to the last known limit along a cubic that flattens
//! out there, stay, then probe upwards ever faster. AIMD (Chiu, Jain, 1989), of which both are a refinement, halves its
//! rate at each refusal and so averages three quarters of the limit. What this does better, for a limit on requests
//! rather than a queue of packets:
//!
//! - **It measures where to come down to.** Like BBR's delivery rate (Cardwell et al., 2016), but from recovery to
//!   recovery: from the first request accepted after one refusal to the first accepted after the next. A token bucket
//!   is as empty, and a fixed window as young, at the end as it was at the start, so that the count over the time *is*
//!   the limit: neither the burst of a full bucket nor a quota eaten early distorts it. So 3% is enough of a step down,
//!   where CUBIC needs 30%.
//! - **It knows what it doesn't know.** The measure is a lower bound (a bucket may have overflowed in the pause), the
//!   refused rate an upper one. While they are far apart, their geometric mean is tested; a test passed proves no more
//!   than the API can't have paid out of what it had saved up.
//! - **It probes within a budget.** How soon the next probe comes follows from what the last one cost, in time and in
//!   refusals, and from the share refused in the run so far. An API whose refusals are cheap is probed every 15 s,
//!   one that answers each with `Retry-After: 1` every 45 s or so.
//! - **It stops at once.** From the first refusal nothing is sent but, after the pause, a single request (a circuit
//!   breaker's half-open state); the rest follows when that one is accepted. So a refusal costs what was under way.
//!
//! # The requests under way
//!
//! Two other calculators own their number: `concurrency` for the queue that they make, `crowd` for an API that refuses
//! for the number itself.
//!
//! [RFC 9438]: https://www.rfc-editor.org/rfc/rfc9438

use std::time::Duration;

use super::concurrency::Concurrency;
use super::crowd::Crowd;

/// The gentle start, in requests a second (the project's goal).
const START_RATE: f64 = 10.0;

/// How often the gentle start doubles, in seconds (the project's goal).
const START_DOUBLES_EVERY: f64 = 0.25;

/// How often the rate doubles, in seconds, once it has outgrown a limit that it knew. Slower than at the start, because
/// most of these alarms are false (a bucket had saved up); three of the shortest windows that APIs count in (1 s), so that
/// one step is judged before the next.
const AGAIN_DOUBLES_EVERY: f64 = 3.0;

/// The step down after a refusal, as a share of the limit, and the resolution of everything else. The cubic averages a
/// quarter of it below the limit, so 3% costs 0.75% of the throughput; 1% would be lost in the jitter of windows of a
/// hundred requests, and 10% would cost half of the 5% that the goal allows.
const MARGIN: f64 = 0.03;

/// How many accepted requests make a measure: with so many, one more or less is within the margin.
const ENOUGH: f64 = 1.0 / MARGIN;

/// The share of its requests that a run may have refused: the goal's 1%, less a fifth for the refusals of the probe that
/// is under way when the sum is drawn.
const REFUSED_BUDGET: f64 = 0.008;

/// The share of its time that a run may lose in pauses. With the cubic's 0.75% and the usual shade of 1% it leaves the goal's
/// 5% whole; In the simulations 2% reached 2 points less of a limit that alternates, and 4% missed the goal in windows of 1 s.
const TIME_BUDGET: f64 = 0.03;

/// How many requests the share refused is remembered over: long enough to repay the discovery of the smallest limit
/// (20 refusals are 0.1%), short enough that an hour without refusals is no licence for a minute full of them.
const BUDGET_MEMORY: f64 = 20_000.0;

/// The shortest time from a refusal back to the limit, in seconds. A probe comes 1 to 1.4 times that after the last, so a
/// limit that rises is noticed within 17 s if refusals cost next to nothing, and no API is probed in every second.
const SHORTEST_CYCLE: f64 = 12.0;

/// The longest, in seconds: whatever a probe costs, a limit that has risen is noticed within 5 to 7 minutes.
pub(super) const LONGEST_CYCLE: f64 = 300.0;

/// How much faster the cubic runs above the limit than below. Below, time well spent; above, every second is either free
/// (the limit rose) or the refusal is near anyway.
const CLIMB: f64 = 3.0;

/// Accepted so far above the limit, it isn't the limit any more: one margin could be the measure's error.
const OUTGROWN: f64 = 1.0 + 2.0 * MARGIN;

/// A rise to less than this many times the known limit is first taken for a false alarm, a bucket that had saved up: then
/// only the neighbourhood of the known limit is tested. What has really risen further is found by the next probe.
const FALSE_ALARM: f64 = 1.5;

/// The bounds are one value if no further apart than this: the cubic covers that on its own.
const NARROW: f64 = 2.0 * MARGIN;

/// The same where a share is left to others: each test takes that share too, and to take somewhat less is no harm.
const NARROW_SHARED: f64 = 0.25;

/// The shortest and the longest test of a rate, in seconds: two of the shortest windows that APIs count in (1 s), and one
/// of the longest usual (60 s).
const SHORTEST_TEST: f64 = 2.0;
const LONGEST_TEST: f64 = 60.0;

/// Two measures over the same length of time can agree because both contain the same pause; over lengths this far apart
/// they agree only on the limit.
const INDEPENDENT: f64 = 1.5;

/// The part of a `Retry-After` that need not have been necessary, in seconds: it comes in whole seconds, rounded up.
const ROUNDED_UP: f64 = 1.0;

/// Without `Retry-After`: how much longer the pause gets with each refused trial. The pause then outlasts the need by a
/// sixth on average, and a window of 60 s costs about 20 trials; doubling would outlast it by a quarter.
const PAUSE_GROWTH: f64 = 0.5;

/// Without `Retry-After`: the longest pause, in seconds. Windows are a minute at most, usually; an API that refuses for hours
/// is asked as often as one whose limit may have risen.
const LONGEST_PAUSE: f64 = LONGEST_CYCLE;

/// Without `Retry-After`: the first pause, in requests at the refused rate. One token is back after one; the second is for
/// the jitter of the trial's way there.
const PAUSE_REQUESTS: f64 = 2.0;

/// How the distance kept from the limit learns, in shares of the limit: wider when refused before the limit was reached (a
/// small window, another client), narrower when not, at half the pace: so at most one probe in three comes early. Never
/// more than two margins: further down, the throughput lost is worth more than the refusals spared.
const SHADE_WIDENS: f64 = MARGIN / 3.0;
const SHADE_NARROWS: f64 = MARGIN / 6.0;
const SHADE_MOST: f64 = 2.0 * MARGIN;

/// With a share left to others, nothing is probed in passing; so the limit is looked for again after this many seconds.
const REPROBE: f64 = 600.0;

/// The slowest rate, in requests a second: the smallest limit of the goals is 5, and its share beside others may be less.
/// Slower APIs are paced by the pauses after their refusals.
const SLOWEST: f64 = 0.2;

/// How long the use of the rate is measured before it counts, in seconds and in requests due: longer than the ticks of a
/// timer, and enough requests to tell three quarters from all.
const USE_SECONDS: f64 = 0.05;
const USE_REQUESTS: f64 = 4.0;

/// How many requests the share of the rate that is used is remembered over: one more or less is half a margin.
const USE_MEMORY: f64 = 2.0 / MARGIN;

/// A rate used less than this isn't tested, so it doesn't grow (as a congestion window that isn't used, RFC 7661). Between
/// one half (demand halves) and all (jitter).
const USED: f64 = 0.75;

/// What the search is told before the run.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// Never more than this many requests a second; `None`: no ceiling.
    pub ceiling: Option<f64>,
    /// Start with 10 requests a second and double every quarter of a second. If not: start at the ceiling, or without
    /// any limit, and adapt once refused.
    pub gentle_start: bool,
    /// The share of the limit found that is used, over 0 up to 1; the rest is left to others.
    pub max_capacity: f64,
    /// Never more than this many requests under way; at least 1.
    pub most_at_once: usize,
}

/// What the rate follows at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// No limit known, none kept (but the ceiling).
    Unlimited,
    /// No limit known, or outgrown: doubles every `period` seconds.
    Doubling { from: f64, period: f64 },
    /// Between two bounds: `rate` is tested for `length` seconds, of which the API could pay `saved` from what it saved up.
    Narrowing { rate: f64, length: f64, saved: f64 },
    /// The limit is known: the cubic reaches it after `cycle` seconds.
    Cruising { limit: f64, cycle: f64 },
}

/// Sends nothing (until the pause is over), then one (until it is accepted).
#[derive(Debug, Clone)]
struct Hold {
    /// When the first refusal arrived.
    began: f64,
    /// When the trial may go.
    until: f64,
    /// When the last refusal arrived: so far, the pause was certainly necessary.
    last_refusal: f64,
    /// The rate that was refused.
    refused_rate: f64,
    /// Whether the API said how long to wait.
    told: bool,
    /// Requests under way since before the hold.
    stragglers: usize,
    /// When the trial under way was sent.
    trial: Option<f64>,
}

/// What is known of the limit, in requests a second.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The best estimate from below.
    low: f64,
    /// What was refused, or is too much by other evidence.
    high: f64,
    /// What was refused, while `high` is lower because that was taken for a false alarm; else 0.
    doubted: f64,
    /// What was certainly accepted for longer than any savings can explain; 0: nothing.
    proven: f64,
    /// The limit of the last cruise; 0: none yet.
    settled: f64,
}

/// The accepted requests since a recovery.
#[derive(Debug, Clone, Copy)]
struct Measure {
    since: f64,
    accepted: f64,
}

/// A finished measure: requests a second, over seconds.
#[derive(Debug, Clone, Copy)]
struct Measured {
    rate: f64,
    over: f64,
}

/// What the last probe cost, and what the whole run did.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    /// Seconds lost since the last cruise began.
    time: f64,
    /// Requests refused since the last cruise began.
    refused: f64,
    /// Requests sent, over the memory of the budget.
    all_sent: f64,
    /// Requests refused, over the memory of the budget.
    all_refused: f64,
}

/// How much of the allowed rate is used.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    since: f64,
    last_sent: f64,
    sent: f64,
    due: f64,
    /// Requests a second in the last span measured.
    rate: f64,
    /// Of about the last [`USE_MEMORY`] requests: those sent, and those due.
    recent: (f64, f64),
}

/// Finds the rate and the number of requests under way that the API bears. Times count from the start of the run.
#[derive(Debug, Clone)]
pub struct Search {
    ceiling: f64,
    max_capacity: f64,
    phase: Phase,
    /// When the phase began; moved on by the time in which the rate wasn't used.
    phase_began: f64,
    /// Allowed now; infinite: no limit.
    rate: f64,
    bounds: Bounds,
    /// How far the cruise keeps from the limit, as a share of it.
    shade: f64,
    hold: Option<Hold>,
    hold_until: Option<Duration>,
    /// When the last trial that was accepted had been sent.
    recovered: f64,
    /// Whether a limit was ever found.
    discovered: bool,
    measure: Measure,
    /// The last measure, if it is one to compare with.
    previous: Option<Measured>,
    costs: Costs,
    usage: Usage,
    under_way: usize,
    concurrency: Concurrency,
    crowd: Crowd,
}

impl Search {
    /// A search that knows nothing yet.
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
            ceiling: options
                .ceiling
                .filter(|ceiling| *ceiling > 0.0)
                .unwrap_or(f64::INFINITY),
            max_capacity: if options.max_capacity > 0.0 {
                options.max_capacity.min(1.0)
            } else {
                1.0
            },
            phase,
            phase_began: 0.0,
            rate: f64::INFINITY,
            bounds: Bounds {
                low: 0.0,
                high: f64::INFINITY,
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
            concurrency: Concurrency::new(options.most_at_once),
            crowd: Crowd::new(),
        };
        search.rate = search.rate_at(0.0);
        search
    }

    /// Requests a second allowed now; `None`: no limit. Changes with each [`sent`](Self::sent) and each answer.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate.is_finite().then_some(self.rate)
    }

    /// Requests allowed under way now, those that are included; at least 1.
    #[must_use]
    pub fn at_once(&self) -> usize {
        match &self.hold {
            Some(hold) => hold.stragglers.saturating_add(1),
            None => self.lowered_to().unwrap_or(self.concurrency.most()),
        }
    }

    /// The requests that may be under way, if they are fewer than was asked for; a pause aside.
    #[must_use]
    pub fn lowered_to(&self) -> Option<usize> {
        let limit = self.concurrency.limit().min(self.crowd.most());
        (limit < self.concurrency.most()).then_some(limit)
    }

    /// Nothing goes before this, counted from the start of the run; nor may a pacer save up requests until then. It may
    /// lie in the past.
    #[must_use]
    pub fn hold_until(&self) -> Option<Duration> {
        self.hold_until
    }

    /// A request went out at `now`.
    pub fn sent(&mut self, now: Duration) {
        let now = now.as_secs_f64();
        self.under_way = self.under_way.saturating_add(1);
        self.concurrency.sent(self.under_way);
        self.crowd.sent(now, self.under_way);
        self.costs.sent();
        if let Some(hold) = &mut self.hold {
            // A microsecond: what is lost between durations and seconds.
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

    /// A request sent `latency` ago was answered at `now`, with any status but 429.
    pub fn answered(&mut self, now: Duration, latency: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        self.concurrency.answered(now, latency);
        self.crowd.answered(latency);
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
        // After the recovery: the trial opens the next measure.
        self.measure.accepted += 1.0;
    }

    /// A request sent `latency` ago, beside so many others that were under way then, was refused with 429 at `now`, with
    /// its `Retry-After` if any.
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
                self.crowd.refused_too(others);
            }
            hold.last_refusal = now;
            hold.until = hold.until.max(until);
            until = hold.until;
        } else if sent >= self.recovered {
            let mut refused_rate = self.rate_at(sent);
            if refused_rate.is_infinite() {
                let span = (now - self.measure.since).max(USE_SECONDS);
                // The last span's, or that of a burst just now: what went before it, one by one, was not refused.
                let burst = self.usage.sent / (now - self.usage.since).max(USE_SECONDS);
                let whole = self.costs.all_sent / span;
                refused_rate = self.usage.rate.max(burst).max(whole).max(SLOWEST);
            }
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
            self.crowd.refused(sent, others, self.under_way);
            self.rate = refused_rate;
        }
        // A refusal from before the recovery says nothing new, but its pause counts.
        let until = Duration::try_from_secs_f64(until).unwrap_or(Duration::MAX);
        self.hold_until = self.hold_until.max(Some(until));
    }

    /// The request that was told to go last, at `now` or shortly before, was not sent after all.
    pub fn unsent(&mut self, now: Duration) {
        self.costs.all_sent = (self.costs.all_sent - 1.0).max(0.0);
        self.usage.sent = (self.usage.sent - 1.0).max(0.0);
        self.lost(now);
    }

    /// A request got no answer: it timed out, or its connection was lost, at `now`.
    pub fn lost(&mut self, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(hold) = &mut self.hold {
            // Which one it was isn't known. A trial is never older than the stragglers.
            if hold.stragglers > 0 {
                hold.stragglers -= 1;
            } else {
                hold.trial = None;
                hold.until = hold.until.max(now.as_secs_f64());
            }
        }
    }

    /// The rate that the phase allows at `at`, in requests a second.
    fn rate_at(&self, at: f64) -> f64 {
        let elapsed = (at - self.phase_began).max(0.0);
        let rate = match self.phase {
            Phase::Unlimited => f64::INFINITY,
            Phase::Doubling { from, period } => from * (elapsed / period).floor().exp2(),
            Phase::Narrowing { rate, .. } => rate,
            Phase::Cruising { limit, .. } if self.is_shared() => limit * self.max_capacity,
            Phase::Cruising { limit, cycle } => {
                let x = elapsed / cycle - 1.0;
                let x = if x > 0.0 { CLIMB * x } else { x };
                limit * (1.0 + MARGIN * x * x * x)
            }
        };
        rate.min(self.ceiling).max(SLOWEST.min(self.ceiling))
    }

    /// Ends the phase if it is over at `now`, and allows what its time allows.
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
                    // What was really sent is what was tested. Without a share to keep to, judging by it did as many of the
                    // simulated limits harm as good.
                    let used = if self.is_shared() {
                        self.usage.share()
                    } else {
                        1.0
                    };
                    let tested = rate * used;
                    self.bounds.proven = self.bounds.proven.max(tested * length / (length + saved));
                    self.bounds.low = self.bounds.low.max(tested);
                    if used < 1.0 {
                        // Something else holds it back, the number of requests under way mostly; a share of what can be had is
                        // less than the limit's.
                        self.lower_high(tested * (1.0 + MARGIN));
                    } else {
                        // No false alarm, then.
                        self.bounds.high = self.bounds.high.max(self.bounds.doubted);
                    }
                    // The savings were spent on the way, or the rate was below the limit; half of them is the middle.
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
                // The cubic's, not the ceiling's: so that beyond a ceiling nothing is left to climb.
                let x = CLIMB * (elapsed / cycle - 1.0).max(0.0);
                let climbed = 1.0 + MARGIN * x * x * x;
                if climbed > OUTGROWN {
                    self.double(now, limit * climbed);
                }
            }
        }
        self.rate = self.rate_at(now);
    }

    /// The known limit doesn't hold any more, or must be looked for again: doubles.
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

    /// The trial of `hold`, sent at `sent`, was accepted at `now`: the hold is over, and the limit known better.
    fn recover(&mut self, hold: &Hold, now: f64, sent: f64) {
        let pause = now - hold.began;
        let cycle = self.costs.cycle(self.bounds.settled.max(SLOWEST));
        if self.crowd.takes_back(now, cycle.max(pause / TIME_BUDGET)) {
            self.phase_began += pause;
            self.measure.since += pause;
            self.resume(now, sent);
            self.rate = self.rate_at(now);
            return;
        }
        // Nanoseconds can't be lost here: a hold lasts at least a round trip.
        let over = (sent - self.measure.since).max(1e-6);
        let accepted = self.measure.accepted;
        let measured = accepted / over;
        let paused = sent - hold.began;
        // The part of the pause that may have been for nothing: while it lasted, a bucket may have overflowed.
        let idle =
            (sent - hold.last_refusal).min(if hold.told { ROUNDED_UP } else { f64::INFINITY });
        let exploring = matches!(self.phase, Phase::Doubling { .. } | Phase::Unlimited);
        let enough = accepted >= ENOUGH;

        self.learn_shade(hold, exploring);

        // Two measures of a narrowing that agree can only agree on the limit, if they are independent.
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

        // Refused what was proven, or it took longer, even without the idle time: the limit fell, or the proof was wrong (a
        // test shorter than a window proves nothing).
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

        // A pause isn't lost if the rest of the time made up for it; what its rounding wastes, the measure doesn't show.
        self.costs.time += (now - hold.began)
            .min(ROUNDED_UP)
            .max(over - accepted / self.bounds.low);
        if !self.discovered {
            // The discovery is made once: no probe will cost as much.
            self.discovered = true;
            self.costs.time = 0.0;
            self.costs.refused = 0.0;
        }

        if agrees {
            self.lower_high(self.bounds.low * (1.0 + MARGIN));
        }
        // Mostly paused, and by necessity: a window whose quota was eaten early, however fast.
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
        self.crowd
            .recovered(now, self.bounds.low, self.costs.cycle(self.bounds.low));
        self.choose(now, paused, over);
        self.rate = self.rate_at(now);
    }

    /// The hold is over; its trial was sent at `sent`.
    fn resume(&mut self, now: f64, sent: f64) {
        self.recovered = sent;
        // What a pacer saved up in the hold would be a burst into an empty bucket.
        self.hold_until = Some(Duration::try_from_secs_f64(now).unwrap_or(Duration::MAX));
        self.usage.restart(now);
        self.usage.last_sent = now;
    }

    /// Keeps further from the limit if refused before it was reached, less far if not.
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

    /// Whether others are to have a share of the limit.
    const fn is_shared(&self) -> bool {
        self.max_capacity < 1.0
    }

    /// The limit is at most `high`, but not below the lower bound.
    fn lower_high(&mut self, high: f64) {
        self.bounds.high = self.bounds.high.min(high).max(self.bounds.low);
    }

    /// Tests between the bounds if they are far apart, cruises if not. The API could save up for `saved` seconds, and was
    /// last measured over `span` seconds.
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
            // Above the limit by half the gap, the savings last for two gaps; as long again to be sure. But in windows
            // (for which there are no savings) twice the last measure holds one in full.
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

impl Hold {
    /// A request sent at `sent` is back: whether it is the trial. Nothing is sent between the refusal and the trial, so the
    /// middle tells them apart, however the latency was rounded.
    fn returns(&mut self, sent: f64) -> bool {
        let trial = self
            .trial
            .is_some_and(|trial| sent >= f64::midpoint(self.began, trial));
        if trial {
            self.trial = None;
        } else {
            self.stragglers = self.stragglers.saturating_sub(1);
        }
        trial
    }
}

impl Costs {
    fn sent(&mut self) {
        self.all_sent += 1.0;
        if self.all_sent > BUDGET_MEMORY {
            self.all_sent /= 2.0;
            self.all_refused /= 2.0;
        }
    }

    fn refused(&mut self) {
        self.refused += 1.0;
        self.all_refused += 1.0;
    }

    /// The seconds after which a probe like the last one may be paid for, at `rate` requests a second.
    fn cycle(&self, rate: f64) -> f64 {
        let earns = REFUSED_BUDGET * rate;
        let debt = self.all_refused - REFUSED_BUDGET * self.all_sent;
        (self.time / TIME_BUDGET)
            .max(self.refused / earns)
            .max(debt / earns)
            .clamp(SHORTEST_CYCLE, LONGEST_CYCLE)
    }
}

impl Usage {
    /// Counts a request sent at `now`, `rate` requests a second being allowed before. True: enough to judge.
    fn sent(&mut self, now: f64, rate: f64) -> bool {
        self.sent += 1.0;
        if rate.is_finite() {
            let due = (now - self.last_sent) * rate;
            self.due += due;
            let kept = 1.0 - 1.0 / USE_MEMORY;
            self.recent = (self.recent.0 * kept + 1.0, self.recent.1 * kept + due);
        }
        self.last_sent = now;
        now - self.since >= USE_SECONDS && (self.due >= USE_REQUESTS || rate.is_infinite())
    }

    /// Whether the rate was used. One request more or less is the phase of the span.
    fn is_used(&self) -> bool {
        self.sent + 1.0 >= USED * self.due
    }

    /// The share of the rate that was used of late; less than a margin below all of it is jitter.
    fn share(&self) -> f64 {
        let (sent, due) = self.recent;
        if sent >= (1.0 - MARGIN) * due {
            1.0
        } else {
            sent / due
        }
    }

    fn restart(&mut self, now: f64) {
        if now > self.since && self.sent > 0.0 {
            self.rate = self.sent / (now - self.since);
        }
        self.since = now;
        self.sent = 0.0;
        self.due = 0.0;
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "test-only arithmetic on small numbers"
)]
mod tests {
    use super::*;

    const AUTO: SearchOptions = SearchOptions {
        ceiling: None,
        gentle_start: true,
        max_capacity: 1.0,
        most_at_once: 32,
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Sends at the rate allowed from `from` to `to`, each answered after 10 ms; the time of the last one.
    fn drive(search: &mut Search, from: f64, to: f64) -> f64 {
        let mut now = from;
        while now < to {
            search.sent(seconds(now));
            now += (1.0 / search.rate().unwrap_or(1000.0)).max(0.0001);
            search.answered(seconds(now), seconds(0.01));
        }
        now
    }

    /// Sends `count` requests at `now`.
    fn send(search: &mut Search, now: f64, count: usize) {
        for _ in 0..count {
            search.sent(seconds(now));
        }
    }

    #[track_caller]
    fn assert_close(left: Option<f64>, right: f64) {
        assert!(
            left.is_some_and(|left| (left - right).abs() < 1e-6 * right),
            "{left:?} isn't {right}"
        );
    }

    #[test]
    fn gentle_start_doubles_every_quarter_of_a_second_up_to_the_ceiling() {
        for (ceiling, at, rate) in [
            (None, 0.1, 10.0),
            (None, 0.35, 20.0),
            (None, 0.6, 40.0),
            (None, 1.2, 160.0),
            (None, 2.1, 2560.0),
            (Some(7.0), 0.1, 7.0),
            (Some(7.0), 9.0, 7.0),
            (Some(50.0), 0.6, 40.0),
            (Some(50.0), 9.0, 50.0),
        ] {
            let mut search = Search::new(&SearchOptions { ceiling, ..AUTO });
            drive(&mut search, 0.0, at);
            assert_close(search.rate(), rate);
        }
    }

    #[test]
    fn without_a_gentle_start_there_is_only_the_ceiling_until_refused() {
        for (ceiling, before) in [(None, None), (Some(500.0), Some(500.0))] {
            let mut search = Search::new(&SearchOptions {
                ceiling,
                gentle_start: false,
                ..AUTO
            });
            assert_eq!(search.rate(), before);
            let now = drive(&mut search, 0.0, 2.0);
            assert_eq!(search.rate(), before);
            send(&mut search, now, 1);
            search.refused(seconds(now + 0.01), seconds(0.01), 0, None);
            assert!(search.rate().is_some());
        }
    }

    #[test]
    fn what_a_burst_is_refused_for_is_not_the_pace_before_it() {
        let mut search = Search::new(&SearchOptions {
            gentle_start: false,
            ..AUTO
        });
        // A listing, page by page, and then all rows that may go at once.
        for page in 0..20_u32 {
            search.sent(seconds(f64::from(page) * 0.1));
            search.answered(seconds(f64::from(page + 1) * 0.1), seconds(0.1));
        }
        send(&mut search, 2.0, 32);
        search.refused(seconds(2.001), seconds(0.001), 31, None);
        assert!(search.rate() >= Some(200.0), "{:?}", search.rate());
    }

    #[test]
    fn an_unused_rate_does_not_grow() {
        let mut search = Search::new(&AUTO);
        let mut now = 0.0;
        while now < 10.0 {
            search.sent(seconds(now));
            search.answered(seconds(now + 0.01), seconds(0.01));
            now += 0.1;
        }
        // 10 a second are sent, so it is no use to allow much more than twice that.
        assert!(search.rate() <= Some(20.0), "{:?}", search.rate());
    }

    #[test]
    fn a_refusal_holds_everything_for_as_long_as_told() {
        for (told, pause) in [
            (Some(3.0), 3.0),
            (Some(0.0), 2.0 / 10.0),
            (None, 2.0 / 10.0),
        ] {
            let mut search = Search::new(&AUTO);
            send(&mut search, 0.1, 3);
            search.refused(seconds(0.2), seconds(0.1), 2, told.map(seconds));
            assert_close(
                search.hold_until().map(|until| until.as_secs_f64()),
                0.2 + pause,
            );
            // Two stragglers, and one that may go after the hold.
            assert_eq!(search.at_once(), 3);
        }
    }

    #[test]
    fn each_refusal_may_prolong_the_hold_but_not_shorten_it() {
        let mut search = Search::new(&AUTO);
        send(&mut search, 0.1, 4);
        for (now, told, until) in [(0.2, 1.0, 1.2), (0.3, 5.0, 5.3), (0.4, 1.0, 5.3)] {
            search.refused(seconds(now), seconds(now - 0.1), 3, Some(seconds(told)));
            assert_close(search.hold_until().map(|until| until.as_secs_f64()), until);
        }
    }

    #[test]
    fn after_the_hold_one_request_tries_and_opens() {
        let mut search = Search::new(&AUTO);
        send(&mut search, 0.1, 1);
        search.refused(seconds(0.2), seconds(0.1), 0, Some(seconds(1.0)));
        assert_eq!(search.at_once(), 1);
        search.sent(seconds(1.2));
        assert_eq!(search.at_once(), 1);
        search.answered(seconds(1.25), seconds(0.05));
        assert_eq!(search.at_once(), 32);
        assert!(search.rate() < Some(10.0));
        // What a pacer saved up in the hold is gone.
        assert_eq!(search.hold_until(), Some(seconds(1.25)));
    }

    #[test]
    fn refused_trials_wait_ever_longer() {
        let mut search = Search::new(&AUTO);
        send(&mut search, 0.0, 1);
        search.refused(seconds(0.1), seconds(0.1), 0, None);
        let mut pause = 0.0;
        let mut now = 0.1;
        for _ in 0..10 {
            let until = search.hold_until().unwrap_or_default().as_secs_f64();
            assert!(until - now > pause * 1.2, "{until} - {now} after {pause}");
            pause = until - now;
            search.sent(seconds(until));
            now = until + 0.01;
            search.refused(seconds(now), seconds(0.01), 0, None);
            assert_eq!(search.at_once(), 1);
            pause = if pause < 0.25 { 0.0 } else { pause };
        }
    }

    #[test]
    fn a_lost_trial_is_followed_by_another() {
        let mut search = Search::new(&AUTO);
        send(&mut search, 0.0, 1);
        search.refused(seconds(0.1), seconds(0.1), 0, Some(seconds(1.0)));
        search.sent(seconds(1.1));
        search.lost(seconds(31.1));
        search.sent(seconds(31.1));
        search.answered(seconds(31.2), seconds(0.1));
        assert_eq!(search.at_once(), 32);
    }

    #[test]
    fn the_stragglers_of_a_hold_are_one_refusal() {
        let mut search = Search::new(&AUTO);
        let now = drive(&mut search, 0.0, 2.0);
        send(&mut search, now, 20);
        search.refused(seconds(now + 0.1), seconds(0.1), 19, None);
        let rate = search.rate();
        for _ in 1..20 {
            search.refused(seconds(now + 0.1), seconds(0.1), 19, None);
        }
        assert_eq!(search.rate(), rate);
        assert_eq!(search.at_once(), 1);
    }

    #[test]
    fn no_order_of_events_breaks_it() {
        for seed in 1..20_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let mut search = Search::new(&SearchOptions {
                ceiling: [None, Some(0.0), Some(3.0), Some(1e9)][random(4) as usize],
                gentle_start: random(2) == 0,
                max_capacity: [1.0, 0.5, 0.0, f64::NAN][random(4) as usize],
                most_at_once: random(40) as usize,
            });
            let mut now = Duration::ZERO;
            for _ in 0..5_000 {
                now += Duration::from_micros(random(300_000));
                let latency = Duration::from_micros(random(2_000_000));
                match random(5) {
                    0 | 1 => search.sent(now),
                    2 => search.answered(now, latency),
                    3 => search.refused(
                        now,
                        latency,
                        random(40) as usize,
                        [None, Some(Duration::MAX), Some(latency)][random(3) as usize],
                    ),
                    _ => search.lost(now),
                }
                assert!(search.at_once() >= 1);
                assert!(
                    search.rate().is_none_or(|rate| rate > 0.0),
                    "{:?}",
                    search.rate()
                );
            }
        }
    }
}
