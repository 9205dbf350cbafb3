//! Fault injection. [`Faults`] configures which faults occur and how often. The injector decides on one
//! verdict per request from that configuration, a seed and the order of arrivals. This module doesn't
//! sleep, send responses or use HTTP types: it takes the time as an argument, and `routes` acts on the
//! verdict. The rate limiter deliberately shares no code with the client's pacing, so that it can't
//! share its bugs.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Serialize;

/// The endpoints that the faults and the statistics distinguish.
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
    /// Any other endpoint, which is answered with 404.
    Other,
}

/// The faults to inject. All faults are off by default.
///
/// A request gets at most one of the faults with a probability (0.0 to 1.0). One number is drawn per
/// request, and each fault owns a slice of 0..1 as wide as its probability, in field order. If the
/// probabilities add up to more than 1, the last faults occur less often than configured.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The seed. The same seed and the same order of arrivals produce the same faults.
    pub seed: u64,
    /// The time that every response takes.
    pub latency: Duration,
    /// The maximum additional time per response, uniformly distributed.
    pub latency_jitter: Duration,
    /// The rate above which requests are answered with 429.
    pub rate_limit: Option<RateLimit>,
    /// The number of requests in flight above which requests are answered with 429.
    pub max_concurrent: Option<usize>,
    /// Responds with `fail_status` and changes nothing.
    pub fail_before: f64,
    /// Closes the connection without a response and changes nothing.
    pub close_before: f64,
    /// Never responds and changes nothing.
    pub hang: f64,
    /// Responds with `html_status` and a proxy's HTML page, and changes nothing.
    pub html: f64,
    /// Responds with 403 and the edge's challenge page (`cf-mitigated: challenge`), and changes nothing.
    pub challenge: f64,
    /// Responds with 200 and the HTML page of a login, and changes nothing.
    pub login: f64,
    /// Responds with 500 and a body of 10 MB, and changes nothing.
    pub huge_error: f64,
    /// Responds with a 307 to the same address or to `redirect_to`, and changes nothing.
    pub redirect: f64,
    /// Applies an update, but shows the member's old values for `late_by`, and responds as `late_answer` says.
    pub late: f64,
    /// How long a late update stays invisible.
    pub late_by: Duration,
    /// The response to a late update.
    pub late_answer: LateAnswer,
    /// Applies the request, then responds with `fail_status`.
    pub fail_after: f64,
    /// Applies the request, then closes the connection without a response.
    pub close_after: f64,
    /// Applies the request and never responds.
    pub hang_after: f64,
    /// Applies the request, then responds with 200 and a body that isn't JSON.
    pub garbage: f64,
    /// Applies the request, then sends half of the announced body and closes the connection.
    pub truncate: f64,
    /// Applies the request, then sends the body slowly, over `slow_body_over`.
    pub slow_body: f64,
    /// The time that a slow body takes.
    pub slow_body_over: Duration,
    /// The status of `fail_before` and `fail_after`.
    pub fail_status: u16,
    /// The status of `html`.
    pub html_status: u16,
    /// How long a member that is read by id shows the values before a change.
    pub read_lag: Duration,
    /// The same for listings.
    pub listing_lag: Duration,
    /// A ban by the edge.
    pub ban: Option<Ban>,
    /// The ids of members for whom every update is answered with `fail_status`.
    pub poisoned: Vec<String>,
    /// A text that a firewall does not let pass: an update that holds it is answered with 403 and an HTML page.
    pub firewall: Option<String>,
    /// The scheme and host that a redirect points to. `None` redirects to the same address.
    pub redirect_to: Option<String>,
    /// The status with which every PATCH request is answered. A 2xx applies the request and returns the
    /// member; any other status changes nothing. A status below 200 can't be final, so 500 replaces it.
    pub forced: Option<u16>,
    /// The `Retry-After` header sent with `forced`, `fail_before`, `fail_after` and `max_concurrent`.
    pub retry_after_header: Option<String>,
    /// The endpoints that the faults are limited to, if given.
    pub only: Option<Vec<Endpoint>>,
    /// The maximum number of faults, not counting the rate and concurrency limits and the latency.
    pub max_faults: Option<u64>,
    /// Whether faults also apply to token requests. Otherwise they do only if `only` names that endpoint.
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
            challenge: 0.0,
            login: 0.0,
            huge_error: 0.0,
            redirect: 0.0,
            late: 0.0,
            late_by: Duration::from_secs(2),
            late_answer: LateAnswer::OldMember(200),
            fail_after: 0.0,
            close_after: 0.0,
            hang_after: 0.0,
            garbage: 0.0,
            truncate: 0.0,
            slow_body: 0.0,
            slow_body_over: Duration::from_secs(2),
            fail_status: 503,
            html_status: 502,
            read_lag: Duration::ZERO,
            listing_lag: Duration::ZERO,
            ban: None,
            poisoned: Vec::new(),
            firewall: None,
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

    /// Returns every fault with its probability, in slice order.
    fn slices(&self) -> [(f64, FaultEffect, Stage); 15] {
        use Stage::{After, Before};
        let fail = FaultEffect::Status(self.fail_status);
        [
            (self.fail_before, fail, Before),
            (self.close_before, FaultEffect::Close, Before),
            (self.hang, FaultEffect::Hang, Before),
            (self.html, FaultEffect::Html(self.html_status), Before),
            (self.challenge, FaultEffect::Challenge, Before),
            (self.login, FaultEffect::Html(200), Before),
            (self.huge_error, FaultEffect::HugeError, Before),
            (self.redirect, FaultEffect::Redirect, Before),
            (self.late, FaultEffect::Late, After),
            (self.fail_after, fail, After),
            (self.close_after, FaultEffect::Close, After),
            (self.hang_after, FaultEffect::Hang, After),
            (self.garbage, FaultEffect::Garbage, After),
            (self.truncate, FaultEffect::Truncate, After),
            (self.slow_body, FaultEffect::SlowBody, After),
        ]
    }
}

/// The response to an update that becomes visible later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateAnswer {
    /// This status with the member as it was.
    OldMember(u16),
    /// 200 with `{"success": true}`.
    Success,
    /// An error with this status, as a gateway gives it whose server is still at work.
    Error(u16),
}

/// A ban by the edge: for some time every request is answered with 429 and a page with the error 1015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The number of requests after which it begins.
    pub after: u64,
    /// How long it lasts.
    pub lasts: Duration,
    /// By how much each request during the ban prolongs it.
    pub grows_by: Duration,
}

/// A limit on the rate of requests. Requests above it are answered with 429.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// The average number of requests per second.
    pub per_second: f64,
    /// The way in which requests are counted.
    pub kind: RateLimitKind,
    /// The form of the `Retry-After` header in the 429.
    pub retry_after: RetryAfter,
}

/// The two common kinds of rate limiter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimitKind {
    /// A bucket that starts full with `burst` tokens and refills at a constant rate.
    TokenBucket {
        /// The capacity of the bucket, at least 1.
        burst: f64,
    },
    /// A quota for each time window. The first window starts with the first request.
    FixedWindow {
        /// The length of a window.
        window: Duration,
    },
}

/// The form of the `Retry-After` header in a 429.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// No header, which is common in practice.
    #[default]
    None,
    /// A number of whole seconds.
    Seconds,
    /// An HTTP date.
    HttpDate,
}

impl RetryAfter {
    /// Returns the header's value, rounded up to a whole second so that an obedient client never retries
    /// too early.
    pub(super) fn value(self, wait: Duration, now: Timestamp) -> Option<String> {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match self {
            Self::None => None,
            Self::Seconds => Some(seconds.max(1).to_string()),
            Self::HttpDate => {
                // An HTTP date has no fraction, so almost one second is added to round up.
                let due = now.checked_add(wait + Duration::from_nanos(999_999_999));
                due.ok().and_then(|due| {
                    let printer = rfc2822::DateTimePrinter::new();
                    printer.timestamp_to_rfc9110_string(&due).ok()
                })
            }
        }
    }
}

/// Whether a fault occurs before or after the request is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Before,
    After,
}

/// The effect of a fault that the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultEffect {
    /// An error with this status. If the request was applied and the status is a 2xx, the regular response
    /// with this status.
    Status(u16),
    Close,
    Hang,
    Html(u16),
    Challenge,
    HugeError,
    Redirect,
    Late,
    Garbage,
    Truncate,
    SlowBody,
}

/// The decision about one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultPlan {
    /// A 429 from the rate limit. The next request may come after `wait`.
    TooFast { wait: Duration, hint: RetryAfter },
    /// A 429 from the concurrency limit.
    TooMany,
    /// A 429 from the edge, which has banned the client.
    Banned,
    /// The request continues after `delay` and gets its regular response or the fault.
    Go {
        delay: Duration,
        fault: Option<(Stage, FaultEffect)>,
    },
}

/// Decides on a verdict for each request.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    dice: fastrand::Rng,
    limiter: Option<Limiter>,
    struck: u64,
    /// The requests so far, and the end of the ban once it has begun.
    seen: u64,
    banned_until: Option<Instant>,
}

impl Injector {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            dice: fastrand::Rng::with_seed(faults.seed),
            limiter: faults.rate_limit.as_ref().map(Limiter::new),
            faults,
            struck: 0,
            seen: 0,
            banned_until: None,
        }
    }

    /// Counts a request, and returns whether the edge answers it because of a ban.
    fn is_banned(&mut self, now: Instant) -> bool {
        let Some(ban) = self.faults.ban else {
            return false;
        };
        self.seen += 1;
        if self.seen <= ban.after {
            return false;
        }
        let until = *self.banned_until.get_or_insert(now + ban.lasts);
        let is_banned = now < until;
        if is_banned {
            self.banned_until = Some(until + ban.grows_by);
        }
        is_banned
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Returns the verdict for a request that arrives at `now`. `in_flight` includes this request. `patch` is the member
    /// id and the body of an update.
    pub(super) fn decide(
        &mut self,
        endpoint: Endpoint,
        in_flight: usize,
        patch: Option<(&str, &[u8])>,
        now: Instant,
    ) -> FaultPlan {
        if self.is_banned(now) {
            return FaultPlan::Banned;
        }
        if !self.faults.concern(endpoint) {
            return FaultPlan::Go {
                delay: Duration::ZERO,
                fault: None,
            };
        }
        if (self.faults.max_concurrent).is_some_and(|most| in_flight > most) {
            return FaultPlan::TooMany;
        }
        if let Some(limiter) = &mut self.limiter
            && let Err(wait) = limiter.admit(now)
        {
            return FaultPlan::TooFast {
                wait,
                hint: limiter.hint,
            };
        }
        let fault = self.of_member(patch).or_else(|| self.draw(endpoint));
        if fault.is_some() {
            self.struck += 1;
        }
        FaultPlan::Go {
            delay: self.delay(),
            fault,
        }
    }

    /// Returns the fault that an update of this member with this body always has.
    fn of_member(&self, patch: Option<(&str, &[u8])>) -> Option<(Stage, FaultEffect)> {
        let (member, body) = patch?;
        if self.faults.poisoned.iter().any(|id| id == member) {
            return Some((Stage::Before, FaultEffect::Status(self.faults.fail_status)));
        }
        let text = self.faults.firewall.as_ref()?;
        (String::from_utf8_lossy(body).contains(text))
            .then_some((Stage::Before, FaultEffect::Html(403)))
    }

    fn draw(&mut self, endpoint: Endpoint) -> Option<(Stage, FaultEffect)> {
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
            return Some((stage, FaultEffect::Status(status)));
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
        /// The time at which `tokens` was last updated.
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
        // A limit of zero would make every wait infinite.
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

    /// Admits a request, or returns the wait until the next one is admitted.
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
                    // Windows follow one another without gaps, even during periods without requests.
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
    fn token_bucket_allows_the_burst_and_then_the_rate() {
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
    fn fixed_window_allows_its_quota_and_then_resets() {
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
        // Second 7 lies in the window that began at second 6.
        assert_eq!(admitted(&mut limiter, 7000), 4);
        assert_eq!(
            limiter.admit(start + Duration::from_secs(7)),
            Err(Duration::from_secs(1))
        );
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
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
    fn faults_follow_their_probabilities_seed_and_limits() {
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
                .map(|_| injector.decide(Endpoint::UpdateMember, 1, None, now))
                .collect::<Vec<_>>()
        };
        let struck = |verdicts: &[FaultPlan], stage| {
            let hit = |verdict: &&FaultPlan| matches!(verdict, FaultPlan::Go { fault: Some((at, _)), .. } if *at == stage);
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
