//! What goes wrong, and when. [`Faults`] says what may go wrong and how often; the injector turns
//! it, a seed and the order of arrivals into one verdict for each request. Nothing here sleeps,
//! answers or knows HTTP's types: the clock comes in as an argument, and acting on a verdict is
//! `routes`' part. The rate limiter is deliberately plain code of its own, so that it shares no
//! mistake with the client's pacing.

use std::time::{Duration, Instant};

use jiff::{Timestamp, fmt::rfc2822};
use serde::Serialize;

/// The endpoints, as the faults and the statistics tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /v2/auth/token`
    Token,
    /// `GET /v2/whoami`
    Whoami,
    /// `GET /v2/members` and `GET /v2.1/members`
    ListMembers,
    /// `GET /v2/members/{id}`
    GetMember,
    /// `PATCH /v2/members/{id}`
    UpdateMember,
    /// `GET /v2/accountTypes`
    AccountTypes,
    /// Anything else, which answers 404.
    Other,
}

/// What goes wrong. Everything is off by default.
///
/// The probabilities (0.0 to 1.0) exclude one another: one number is drawn for each request, and
/// each fault owns a slice of 0..1 as wide as its probability, in the order of the fields. Should
/// they add up to more than 1, the last ones get less than they ask for.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The same seed and the same order of arrivals give the same faults.
    pub seed: u64,
    /// How long every answer takes.
    pub latency: Duration,
    /// Up to this much more, evenly spread.
    pub latency_jitter: Duration,
    /// 429 above a rate.
    pub rate_limit: Option<RateLimit>,
    /// 429 when more than this many requests are under way.
    pub max_concurrent: Option<usize>,
    /// Answers `fail_status` and changes nothing.
    pub fail_before: f64,
    /// Closes the connection without an answer and changes nothing.
    pub close_before: f64,
    /// Never answers and changes nothing.
    pub hang: f64,
    /// 502 with a proxy's HTML page; changes nothing.
    pub html: f64,
    /// 500 with a body of 10 MB; changes nothing.
    pub huge_error: f64,
    /// 307 to itself, or to `redirect_to`; changes nothing.
    pub redirect: f64,
    /// Applies the request, then answers `fail_status`.
    pub fail_after: f64,
    /// Applies the request, then closes the connection without an answer.
    pub close_after: f64,
    /// Applies the request and never answers.
    pub hang_after: f64,
    /// Applies the request, then answers 200 with a body that isn't JSON.
    pub garbage: f64,
    /// Applies the request, then sends half of the body it announced and closes.
    pub truncate: f64,
    /// Applies the request, then lets the body trickle over `slow_body_over`.
    pub slow_body: f64,
    /// How long a trickling body takes.
    pub slow_body_over: Duration,
    /// The status of `fail_before` and `fail_after`.
    pub fail_status: u16,
    /// The scheme and host that a redirect leads to; `None` leads to the same address again.
    pub redirect_to: Option<String>,
    /// Every PATCH answers this status. A 2xx is applied and answers the member; everything else
    /// changes nothing. A status that can't end an exchange (below 200) is answered as 500.
    pub forced: Option<u16>,
    /// The `Retry-After` that goes with `forced`, `fail_before`, `fail_after` and
    /// `max_concurrent`.
    pub retry_after_header: Option<String>,
    /// Only these endpoints are concerned, if given.
    pub only: Option<Vec<Endpoint>>,
    /// So many faults (the rate limits and the latency aside), then no more.
    pub max_faults: Option<u64>,
    /// Signing in suffers too. It's spared otherwise, unless `only` names it.
    pub token_faults: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            latency: Duration::ZERO,
            latency_jitter: Duration::ZERO,
            rate_limit: None,
            max_concurrent: None,
            fail_before: 0.0,
            close_before: 0.0,
            hang: 0.0,
            html: 0.0,
            huge_error: 0.0,
            redirect: 0.0,
            fail_after: 0.0,
            close_after: 0.0,
            hang_after: 0.0,
            garbage: 0.0,
            truncate: 0.0,
            slow_body: 0.0,
            slow_body_over: Duration::from_secs(2),
            fail_status: 503,
            redirect_to: None,
            forced: None,
            retry_after_header: None,
            only: None,
            max_faults: None,
            token_faults: false,
        }
    }
}

impl Faults {
    fn concern(&self, endpoint: Endpoint) -> bool {
        match &self.only {
            Some(only) => only.contains(&endpoint),
            None => endpoint != Endpoint::Token || self.token_faults,
        }
    }

    /// Every fault with its probability, in the order of their slices.
    fn slices(&self) -> [(f64, Effect, Stage); 12] {
        use Stage::{After, Before};
        let fail = Effect::Status(self.fail_status);
        [
            (self.fail_before, fail, Before),
            (self.close_before, Effect::Close, Before),
            (self.hang, Effect::Hang, Before),
            (self.html, Effect::Html, Before),
            (self.huge_error, Effect::HugeError, Before),
            (self.redirect, Effect::Redirect, Before),
            (self.fail_after, fail, After),
            (self.close_after, Effect::Close, After),
            (self.hang_after, Effect::Hang, After),
            (self.garbage, Effect::Garbage, After),
            (self.truncate, Effect::Truncate, After),
            (self.slow_body, Effect::SlowBody, After),
        ]
    }
}

/// A limit on the rate of requests: above it, 429.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// How the requests are counted.
    pub kind: RateLimitKind,
    /// What the 429 says about when to come back.
    pub retry_after: RetryAfter,
}

/// The two usual ways to count requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimitKind {
    /// A bucket that starts full with `burst` tokens and refills steadily.
    TokenBucket {
        /// What the bucket holds; at least 1.
        burst: f64,
    },
    /// A quota for each stretch of time, the first of which starts with the first request.
    FixedWindow {
        /// The length of a stretch.
        window: Duration,
    },
}

/// What a 429 says about when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// Nothing, as is often so in practice.
    #[default]
    None,
    /// Whole seconds.
    Seconds,
    /// An HTTP date.
    HttpDate,
}

impl RetryAfter {
    /// The header's value, rounded up to the whole second: a client that obeys must not come
    /// early.
    pub(super) fn value(self, wait: Duration, now: Timestamp) -> Option<String> {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match self {
            Self::None => None,
            Self::Seconds => Some(seconds.max(1).to_string()),
            Self::HttpDate => {
                // The date has no fraction, so the rest of the current second is added first.
                let due = now.checked_add(wait + Duration::from_nanos(999_999_999));
                due.ok().and_then(|due| {
                    let printer = rfc2822::DateTimePrinter::new();
                    printer.timestamp_to_rfc9110_string(&due).ok()
                })
            }
        }
    }
}

/// Whether the fault strikes before the request takes effect, or hides that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Before,
    After,
}

/// What the client gets to see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An error of this status; after a request that took effect and a 2xx, its answer under this
    /// status.
    Status(u16),
    Close,
    Hang,
    Html,
    HugeError,
    Redirect,
    Garbage,
    Truncate,
    SlowBody,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// 429: too fast. Back in `wait`.
    TooFast { wait: Duration, hint: RetryAfter },
    /// 429: too many at once.
    TooMany,
    /// It goes on after `delay`, to its end or to a fault.
    Go {
        delay: Duration,
        fault: Option<(Stage, Effect)>,
    },
}

/// Deals out the verdicts.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    dice: fastrand::Rng,
    limiter: Option<Limiter>,
    struck: u64,
}

impl Injector {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            dice: fastrand::Rng::with_seed(faults.seed),
            limiter: faults.rate_limit.as_ref().map(Limiter::new),
            faults,
            struck: 0,
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Decides about a request that arrives `now`, as one of `in_flight` (itself included).
    pub(super) fn decide(&mut self, endpoint: Endpoint, in_flight: usize, now: Instant) -> Verdict {
        if !self.faults.concern(endpoint) {
            return Verdict::Go {
                delay: Duration::ZERO,
                fault: None,
            };
        }
        if (self.faults.max_concurrent).is_some_and(|most| in_flight > most) {
            return Verdict::TooMany;
        }
        if let Some(limiter) = &mut self.limiter
            && let Err(wait) = limiter.admit(now)
        {
            return Verdict::TooFast {
                wait,
                hint: limiter.hint,
            };
        }
        let fault = self.draw(endpoint);
        if fault.is_some() {
            self.struck += 1;
        }
        Verdict::Go {
            delay: self.delay(),
            fault,
        }
    }

    fn draw(&mut self, endpoint: Endpoint) -> Option<(Stage, Effect)> {
        if (self.faults.max_faults).is_some_and(|most| self.struck >= most) {
            return None;
        }
        if let Some(status) = self.faults.forced
            && endpoint == Endpoint::UpdateMember
        {
            let stage = if (200..300).contains(&status) {
                Stage::After
            } else {
                Stage::Before
            };
            return Some((stage, Effect::Status(status)));
        }
        let drawn = self.dice.f64();
        let mut reached = 0.0;
        self.faults
            .slices()
            .into_iter()
            .find_map(|(width, effect, stage)| {
                reached += width;
                (drawn < reached).then_some((stage, effect))
            })
    }

    fn delay(&mut self) -> Duration {
        let jitter = self.faults.latency_jitter;
        if jitter.is_zero() {
            self.faults.latency
        } else {
            self.faults.latency + jitter.mul_f64(self.dice.f64())
        }
    }
}

/// Counts requests against a [`RateLimit`].
#[derive(Debug)]
struct Limiter {
    meter: Meter,
    hint: RetryAfter,
}

#[derive(Debug)]
enum Meter {
    Bucket {
        per_second: f64,
        burst: f64,
        tokens: f64,
        /// When `tokens` was right.
        at: Option<Instant>,
    },
    Window {
        quota: f64,
        length: Duration,
        used: f64,
        start: Option<Instant>,
    },
}

impl Limiter {
    fn new(limit: &RateLimit) -> Self {
        // A limit of nothing at all would turn every wait into infinity.
        let per_second = limit.per_second.max(f64::MIN_POSITIVE);
        let meter = match limit.kind {
            RateLimitKind::TokenBucket { burst } => {
                let burst = burst.max(1.0);
                Meter::Bucket {
                    per_second,
                    burst,
                    tokens: burst,
                    at: None,
                }
            }
            RateLimitKind::FixedWindow { window } => {
                let length = window.max(Duration::from_millis(1));
                Meter::Window {
                    quota: (per_second * length.as_secs_f64()).round().max(1.0),
                    length,
                    used: 0.0,
                    start: None,
                }
            }
        };
        Self {
            meter,
            hint: limit.retry_after,
        }
    }

    /// Lets a request in, or says how long until the next one may come.
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match &mut self.meter {
            Meter::Bucket {
                per_second,
                burst,
                tokens,
                at,
            } => {
                let since = at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
                *tokens = (*tokens + since.as_secs_f64() * *per_second).min(*burst);
                *at = Some(now);
                if *tokens >= 1.0 {
                    *tokens -= 1.0;
                    return Ok(());
                }
                let wait = (1.0 - *tokens) / *per_second;
                Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
            }
            Meter::Window {
                quota,
                length,
                used,
                start,
            } => {
                let began = *start.get_or_insert(now);
                let mut into = now.saturating_duration_since(began);
                if into >= *length {
                    // The windows follow one another without a gap, also over a silence.
                    let rest = into.as_nanos() % length.as_nanos();
                    into = Duration::from_nanos(u64::try_from(rest).unwrap_or_default());
                    *start = now.checked_sub(into);
                    *used = 0.0;
                }
                if *used < *quota {
                    *used += 1.0;
                    Ok(())
                } else {
                    Err(length.saturating_sub(into))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: f64, kind: RateLimitKind) -> Limiter {
        Limiter::new(&RateLimit {
            per_second,
            kind,
            retry_after: RetryAfter::None,
        })
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_the_rate() {
        let mut limiter = limiter(10.0, RateLimitKind::TokenBucket { burst: 3.0 });
        let start = Instant::now();
        let admitted = |limiter: &mut Limiter, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..10).filter(|_| limiter.admit(now).is_ok()).count()
        };
        assert_eq!(admitted(&mut limiter, 0), 3);
        assert_eq!(admitted(&mut limiter, 99), 0);
        assert_eq!(admitted(&mut limiter, 101), 1);
        assert_eq!(
            admitted(&mut limiter, 60_000),
            3,
            "a silence fills the bucket, no more"
        );
        let wait = limiter.admit(start + Duration::from_secs(60));
        assert_eq!(wait, Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_window_gives_its_quota_at_once_and_starts_anew() {
        let window = Duration::from_secs(2);
        let mut limiter = limiter(2.0, RateLimitKind::FixedWindow { window });
        let start = Instant::now();
        let admitted = |limiter: &mut Limiter, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..10).filter(|_| limiter.admit(now).is_ok()).count()
        };
        assert_eq!(admitted(&mut limiter, 0), 4);
        assert_eq!(
            limiter.admit(start + Duration::from_millis(1500)),
            Err(Duration::from_millis(500))
        );
        assert_eq!(admitted(&mut limiter, 2000), 4);
        // Seven seconds on lie in the window that began at six.
        assert_eq!(admitted(&mut limiter, 7000), 4);
        assert_eq!(
            limiter.admit(start + Duration::from_secs(7)),
            Err(Duration::from_secs(1))
        );
    }

    #[test]
    fn retry_after_never_invites_too_early() {
        let now = Timestamp::UNIX_EPOCH;
        let wait = Duration::from_millis(1200);
        assert_eq!(RetryAfter::None.value(wait, now), None);
        assert_eq!(RetryAfter::Seconds.value(wait, now).as_deref(), Some("2"));
        assert_eq!(
            RetryAfter::HttpDate.value(wait, now).as_deref(),
            Some("Thu, 01 Jan 1970 00:00:02 GMT")
        );
    }

    #[test]
    fn faults_follow_their_probabilities_their_seed_and_their_bounds() {
        let faults = Faults {
            seed: 7,
            fail_before: 0.2,
            close_after: 0.1,
            ..Faults::default()
        };
        let draw = |faults: &Faults| {
            let mut injector = Injector::new(faults.clone());
            let now = Instant::now();
            (0..10_000)
                .map(|_| injector.decide(Endpoint::UpdateMember, 1, now))
                .collect::<Vec<_>>()
        };
        let struck = |verdicts: &[Verdict], stage| {
            let hit = |verdict: &&Verdict| matches!(verdict, Verdict::Go { fault: Some((at, _)), .. } if *at == stage);
            verdicts.iter().filter(hit).count()
        };
        let first = draw(&faults);
        assert_eq!(first, draw(&faults));
        assert!((1_800..2_200).contains(&struck(&first, Stage::Before)));
        assert!((850..1_150).contains(&struck(&first, Stage::After)));

        let two = draw(&Faults {
            forced: Some(404),
            max_faults: Some(2),
            ..Faults::default()
        });
        assert_eq!(struck(&two, Stage::Before), 2);

        let elsewhere = draw(&Faults {
            only: Some(vec![Endpoint::ListMembers]),
            ..faults
        });
        assert_eq!(struck(&elsewhere, Stage::Before), 0);
    }
}
