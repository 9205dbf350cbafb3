//! The circuit breaker: whether requests can be sent at all.
//!
//! A failure that is alike for everybody is not about a row. While the API is gone, blocks this client or bans it,
//! everybody waits and nobody's tries are used up; one probe at a time finds out when it is over.
//!
//! ```text
//!           alike for everybody                  probe_at
//!  Closed ─────────────────────► Open, waiting ──────────► Open, probing ── the probe is answered ──► Closed
//!                                   ▲    │                    │
//!                                   └────┼── it fails too ────┘
//!                                        └── longer than the limit ──► the run stops
//! ```
//!
//! What is alike for everybody:
//!
//! | trouble | evidence | probe |
//! |---|---|---|
//! | unreachable, blocked | a harmless request (whoami), sent because of the failure, has trouble too | whoami, and one of those that wait, by turns |
//! | any, for reads or updates alone | [`ALIKE`] requests of that class in a row, none of which was refused before another succeeded | one of those that wait |
//! | banned | one answer says so (Cloudflare's error 1015) | whoami, and one of those that wait, by turns |
//!
//! This module is a calculator: it is told what happened and when, and never sends or sleeps.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::sigma::error::ApiError;
use crate::sigma::{AttemptError, Origin, Request, is_transient};

/// So many requests in a row that fail alike are about everybody. A few members may well have the same trouble.
const ALIKE: usize = 8;
/// The first time between two probes. It doubles up to the longest.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LONGEST_PROBE: Duration = Duration::from_secs(30);
/// How long the edge's ban is waited for between two probes, at least and at most. A shorter wait may prolong the ban.
const BAN_SECONDS: std::ops::Range<f64> = 30.0..60.0;
/// How long something that blocks everybody is waited for. It seldom goes away without a person.
const BLOCKED_LIMIT: Duration = Duration::from_secs(30);

/// The requests that may have trouble of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestClass {
    /// Those that read.
    Read,
    /// Those that change a member.
    Update,
}

impl RequestClass {
    pub(super) const fn of(request: Request<'_>) -> Self {
        if request.is_update() {
            Self::Update
        } else {
            Self::Read
        }
    }
}

/// What a failed attempt says about more than its own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing answers, or only something that says that the API does not.
    Unreachable,
    /// Something in front of the API answers: a firewall, a login, a challenge.
    Blocked,
    /// The API refuses the credentials, with this status.
    Refused(u16),
    /// The edge has banned this client for its rate.
    Banned,
}

impl Trouble {
    /// Returns the trouble that an error is a sign of, if it is one.
    pub(super) fn of(error: &AttemptError, request: Request<'_>) -> Option<Self> {
        match error {
            AttemptError::Connect(_) | AttemptError::Timeout(_) | AttemptError::Lost(_) => {
                Some(Self::Unreachable)
            }
            AttemptError::Page { .. } => Some(Self::Blocked),
            AttemptError::Status(error) => Self::of_status(error, request),
            _ => None,
        }
    }

    /// Returns the trouble that an answer is a sign of, if it is one.
    pub(super) fn of_status(error: &ApiError, request: Request<'_>) -> Option<Self> {
        if error.is_ban {
            return Some(Self::Banned);
        }
        match (error.status, error.origin) {
            (_, Origin::Challenge) => Some(Self::Blocked),
            (500.., _) if is_transient(error.status) => Some(Self::Unreachable),
            (408 | 425 | 429, _) => None,
            (_, Origin::Redirect | Origin::Page) => Some(Self::Blocked),
            // What the credentials may not read, such as the account types, is not asked for again. An organization may not
            // let members be read by id; then they are asked for by email.
            (401 | 403, Origin::Api)
                if request.concerns_members() && !matches!(request, Request::Member { .. }) =>
            {
                Some(Self::Refused(error.status))
            }
            _ => None,
        }
    }

    /// Returns what people see.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "API unreachable",
            Self::Blocked => "API blocked",
            Self::Refused(_) => "API refuses the credentials",
            Self::Banned => "banned by the API's edge (error 1015)",
        }
    }

    /// Returns how long it is waited for, if an outage is waited for as long as `limit`.
    fn limit(self, limit: Duration) -> Duration {
        match self {
            Self::Unreachable | Self::Banned => limit,
            Self::Blocked | Self::Refused(_) => limit.min(BLOCKED_LIMIT),
        }
    }
}

/// What one request has met so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallHealth {
    id: u64,
    class: RequestClass,
    /// Failures that were signs of trouble.
    failures: u32,
    /// When the first of them arrived.
    first_failed_at: Option<Instant>,
    /// Whether a probe has shown since then that the API answers others.
    pub(super) is_cleared: bool,
}

impl CallHealth {
    /// Returns the class of the request.
    pub(super) const fn class(&self) -> RequestClass {
        self.class
    }

    /// Returns how often the request has met trouble.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }
}

/// The requests of a class that fail alike, as long as none that was sent later succeeds.
#[derive(Debug, Default)]
struct Streak {
    trouble: Option<Trouble>,
    /// Each request, and when its first failure arrived.
    failing: Vec<(u64, Instant)>,
    /// When the last request was sent that succeeded.
    success_sent_at: Option<Instant>,
}

impl Streak {
    /// Returns whether a request that was sent after this time has succeeded.
    fn has_succeeded_since(&self, failed_at: Instant) -> bool {
        self.success_sent_at
            .is_some_and(|sent_at| sent_at > failed_at)
    }

    fn succeeded(&mut self, sent_at: Instant) {
        self.success_sent_at = self.success_sent_at.max(Some(sent_at));
        // Those that failed before are at fault themselves.
        self.failing.retain(|(_, failed_at)| *failed_at >= sent_at);
    }

    /// Counts a failure, and returns how many requests fail alike.
    fn failed(&mut self, id: u64, failed_at: Instant, trouble: Trouble) -> usize {
        if self.trouble.replace(trouble) != Some(trouble) {
            self.failing.clear();
        }
        if !self.failing.iter().any(|(other, _)| *other == id) {
            self.failing.push((id, failed_at));
        }
        self.failing.len()
    }
}

/// The open breaker.
#[derive(Debug)]
struct Open {
    trouble: Trouble,
    /// The class that has the trouble; `None` if all have.
    class: Option<RequestClass>,
    /// The last failure, for the message.
    why: String,
    since: Instant,
    probe_at: Instant,
    interval: Duration,
    is_probing: bool,
    probes: u32,
    /// The requests that wait, in the order in which they may probe.
    queue: VecDeque<u64>,
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may be sent.
    Pass,
    /// It is this request's turn to probe: by itself, or by a harmless request if all requests have the trouble.
    Probe {
        /// Whether the probe is a harmless request.
        is_neutral: bool,
    },
    /// It waits until this time, or until something changes.
    Wait(Instant),
    /// The trouble has lasted for too long.
    GiveUp {
        /// The trouble.
        trouble: Trouble,
        /// What happened, for people.
        why: String,
    },
}

/// What the progress display shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// The trouble.
    pub trouble: Trouble,
    /// How long it has lasted.
    pub lasts: Duration,
    /// How long it is waited for.
    pub limit: Duration,
    /// The last failure.
    pub why: String,
}

/// The state of the breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: Duration,
    open: Option<Open>,
    /// When the last request was sent that was answered.
    answer_sent_at: Option<Instant>,
    reads: Streak,
    updates: Streak,
    next_id: u64,
    dice: fastrand::Rng,
}

impl Breaker {
    /// Returns a closed breaker that waits for an outage for as long as `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            open: None,
            answer_sent_at: None,
            reads: Streak::default(),
            updates: Streak::default(),
            next_id: 0,
            dice: fastrand::Rng::new(),
        }
    }

    /// Returns the health of a new request.
    pub(super) const fn enter(&mut self, class: RequestClass) -> CallHealth {
        self.next_id += 1;
        CallHealth {
            id: self.next_id,
            class,
            failures: 0,
            first_failed_at: None,
            is_cleared: false,
        }
    }

    /// Records that the API answered a request that was sent at `sent_at`. `class` is the class whose requests it carries
    /// out, as the answer shows.
    pub(super) fn answered(&mut self, class: Option<RequestClass>, sent_at: Instant) {
        self.answer_sent_at = self.answer_sent_at.max(Some(sent_at));
        if let Some(class) = class {
            self.streak(class).succeeded(sent_at);
        }
    }

    const fn streak(&mut self, class: RequestClass) -> &mut Streak {
        match class {
            RequestClass::Read => &mut self.reads,
            RequestClass::Update => &mut self.updates,
        }
    }

    /// Returns whether the API has answered a request that was sent after this time.
    pub(super) fn has_answered_since(&self, failed_at: Instant) -> bool {
        self.answer_sent_at
            .is_some_and(|sent_at| sent_at > failed_at)
    }

    /// Returns whether the API has ever answered. Before that, nothing says that it would come back.
    pub(super) const fn is_armed(&self) -> bool {
        self.answer_sent_at.is_some()
    }

    /// Records that a request has met trouble. Returns whether so many requests of its class fail alike that the trouble is
    /// that of the class.
    pub(super) fn failed(&mut self, call: &mut CallHealth, trouble: Trouble, now: Instant) -> bool {
        call.failures += 1;
        let first_failed_at = *call.first_failed_at.get_or_insert(now);
        let is_armed = self.is_armed();
        let streak = self.streak(call.class);
        is_armed
            && !streak.has_succeeded_since(first_failed_at)
            && streak.failed(call.id, first_failed_at, trouble) >= ALIKE
    }

    /// Returns whether another request of the class, sent after this one failed for the first time, has succeeded.
    pub(super) fn is_at_fault(&mut self, call: &CallHealth) -> bool {
        let streak = self.streak(call.class);
        (call.first_failed_at).is_some_and(|failed_at| streak.has_succeeded_since(failed_at))
    }

    /// Opens, because `trouble` is alike for all requests, or for those of one class. An open breaker stays as it is.
    pub(super) fn trip(
        &mut self,
        trouble: Trouble,
        class: Option<RequestClass>,
        why: &str,
        now: Instant,
    ) {
        if let Some(open) = &mut self.open {
            // What all requests have, those of one class have too.
            if class.is_none() && open.class.is_some() {
                open.class = None;
                open.trouble = trouble;
                why.clone_into(&mut open.why);
            }
            return;
        }
        let interval = self.first_interval(trouble);
        self.open = Some(Open {
            trouble,
            class,
            why: why.to_owned(),
            since: now,
            probe_at: now + interval,
            interval,
            is_probing: false,
            probes: 0,
            queue: VecDeque::new(),
        });
    }

    fn first_interval(&mut self, trouble: Trouble) -> Duration {
        if trouble == Trouble::Banned {
            let share = self.dice.f64();
            let seconds = BAN_SECONDS.start + share * (BAN_SECONDS.end - BAN_SECONDS.start);
            Duration::from_secs_f64(seconds)
        } else {
            FIRST_PROBE
        }
    }

    /// Returns whether requests of this class must wait.
    pub(super) fn holds(&self, class: RequestClass) -> bool {
        (self.open.as_ref()).is_some_and(|open| open.class.is_none_or(|held| held == class))
    }

    /// Returns what a request may do now. One that waits is put into the queue of probes.
    pub(super) fn gate(&mut self, call: &CallHealth, now: Instant) -> Gate {
        let holds = self.holds(call.class);
        let Some(open) = self.open.as_mut().filter(|_| holds) else {
            return Gate::Pass;
        };
        let ends_at = open.since + open.trouble.limit(self.limit);
        if now >= ends_at {
            return Gate::GiveUp {
                trouble: open.trouble,
                why: open.why.clone(),
            };
        }
        if !open.queue.contains(&call.id) {
            open.queue.push_back(call.id);
        }
        let is_first = open.queue.front() == Some(&call.id);
        if is_first && !open.is_probing && now >= open.probe_at {
            open.is_probing = true;
            open.probes += 1;
            // The harmless request may be the only one that has trouble, and so may one that waits.
            return Gate::Probe {
                is_neutral: open.class.is_none() && open.probes % 2 == 1,
            };
        }
        Gate::Wait(if open.probe_at > now {
            open.probe_at.min(ends_at)
        } else {
            ends_at
        })
    }

    /// Records that a request no longer waits.
    pub(super) fn leave(&mut self, call: &CallHealth) {
        if let Some(open) = &mut self.open {
            open.queue.retain(|id| *id != call.id);
        }
    }

    /// Records how a request's probe ended: with this trouble, with none, or with nothing at all because it was given
    /// up. Returns how long the breaker was open if it is closed by it, and what for.
    pub(super) fn probed(
        &mut self,
        call: &CallHealth,
        result: ProbeResult<'_>,
        now: Instant,
    ) -> Option<(Trouble, Duration)> {
        let open = self.open.as_mut()?;
        open.is_probing = false;
        open.queue.retain(|id| *id != call.id);
        match result {
            ProbeResult::Abandoned => None,
            ProbeResult::Answered => {
                let closed = (open.trouble, now - open.since);
                self.open = None;
                // What was counted before says nothing any more.
                self.reads.failing.clear();
                self.updates.failing.clear();
                Some(closed)
            }
            ProbeResult::Trouble(trouble, why) => {
                open.trouble = trouble;
                why.clone_into(&mut open.why);
                let interval = (open.interval * 2).min(LONGEST_PROBE);
                let interval = if trouble == Trouble::Banned {
                    self.first_interval(trouble)
                } else {
                    interval
                };
                if let Some(open) = &mut self.open {
                    open.interval = interval;
                    open.probe_at = now + interval;
                }
                None
            }
        }
    }

    /// Returns what holds the requests, for the display.
    pub(super) fn outage(&self, now: Instant) -> Option<Outage> {
        self.open.as_ref().map(|open| Outage {
            trouble: open.trouble,
            lasts: now - open.since,
            limit: open.trouble.limit(self.limit),
            why: open.why.clone(),
        })
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProbeResult<'a> {
    /// The API answered.
    Answered,
    /// The trouble lasts, or has become another.
    Trouble(Trouble, &'a str),
    /// It was not sent, or its answer was not waited for.
    Abandoned,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker that has seen an answer.
    fn armed() -> Breaker {
        let mut breaker = Breaker::new(LIMIT);
        breaker.answered(None, Instant::now());
        breaker
    }

    fn update() -> Request<'static> {
        Request::Update {
            id: "m",
            changes: &[],
        }
    }

    #[test]
    fn every_error_is_a_sign_of_its_trouble() {
        use Trouble::{Banned, Blocked, Refused, Unreachable};
        let status = |status, origin| {
            AttemptError::Status(ApiError {
                status,
                origin,
                ..ApiError::default()
            })
        };
        let ban = AttemptError::Status(ApiError {
            status: 429,
            is_ban: true,
            ..ApiError::default()
        });
        let page = AttemptError::Page {
            status: 200,
            what: String::new(),
        };
        for (error, expected) in [
            (AttemptError::Connect(String::new()), Some(Unreachable)),
            (AttemptError::Lost(String::new()), Some(Unreachable)),
            (AttemptError::Timeout(LIMIT), Some(Unreachable)),
            (status(503, Origin::Api), Some(Unreachable)),
            (status(522, Origin::Page), Some(Unreachable)),
            (status(503, Origin::Challenge), Some(Blocked)),
            (status(403, Origin::Challenge), Some(Blocked)),
            (status(403, Origin::Page), Some(Blocked)),
            (status(404, Origin::Page), Some(Blocked)),
            (status(302, Origin::Redirect), Some(Blocked)),
            (page, Some(Blocked)),
            (status(403, Origin::Api), Some(Refused(403))),
            (status(401, Origin::Api), Some(Refused(401))),
            (ban, Some(Banned)),
            (status(429, Origin::Page), None),
            (status(404, Origin::Api), None),
            (status(409, Origin::Api), None),
            (status(501, Origin::Api), None),
            (AttemptError::NotProcessed, None),
        ] {
            assert_eq!(Trouble::of(&error, update()), expected, "{error:?}");
        }
        for request in [
            Request::AccountTypes { page: None },
            Request::Member { id: "m" },
            Request::Whoami,
        ] {
            assert_eq!(Trouble::of(&status(403, Origin::Api), request), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_that_always_fails_never_opens() {
        let mut breaker = armed();
        let mut poison = breaker.enter(RequestClass::Update);
        for _ in 0..100 {
            assert!(!breaker.failed(&mut poison, Trouble::Unreachable, Instant::now()));
        }
        // Many of them do not open it either, if others succeed after each one's first failure.
        let mut many: Vec<_> = (0..100)
            .map(|_| breaker.enter(RequestClass::Update))
            .collect();
        for call in &mut many {
            assert!(!breaker.failed(call, Trouble::Unreachable, Instant::now()));
            tokio::time::advance(Duration::from_millis(1)).await;
            breaker.answered(Some(RequestClass::Update), Instant::now());
        }
        for call in &mut many {
            assert!(breaker.is_at_fault(call));
            assert!(!breaker.failed(call, Trouble::Unreachable, Instant::now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_alike_open_for_their_class_alone() {
        let mut breaker = armed();
        for number in 1..=ALIKE {
            let mut call = breaker.enter(RequestClass::Update);
            let is_alike = breaker.failed(&mut call, Trouble::Refused(403), Instant::now());
            assert_eq!(is_alike, number == ALIKE, "{number}");
        }
        let update = Some(RequestClass::Update);
        breaker.trip(Trouble::Refused(403), update, "", Instant::now());
        assert!(breaker.holds(RequestClass::Update));
        assert!(!breaker.holds(RequestClass::Read));
    }

    /// When trouble begins, requests that were sent before are still answered.
    #[tokio::test(start_paused = true)]
    async fn a_success_that_was_sent_before_a_failure_proves_nothing() {
        let mut breaker = armed();
        let sent_at = Instant::now();
        tokio::time::advance(second(1)).await;
        for number in 1..=ALIKE {
            let mut call = breaker.enter(RequestClass::Update);
            let is_alike = breaker.failed(&mut call, Trouble::Refused(403), Instant::now());
            assert_eq!(is_alike, number == ALIKE, "{number}");
            breaker.answered(Some(RequestClass::Update), sent_at);
            assert!(!breaker.is_at_fault(&call));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_one_at_a_time_at_growing_intervals_by_turns() {
        let mut breaker = armed();
        let calls: Vec<_> = (0..3)
            .map(|_| breaker.enter(RequestClass::Update))
            .collect();
        breaker.trip(Trouble::Unreachable, None, "down", Instant::now());
        let start = Instant::now();
        let (mut times, mut turns) = (Vec::new(), Vec::new());
        while start.elapsed() < second(100) {
            for (number, call) in calls.iter().enumerate() {
                if let Gate::Probe { is_neutral } = breaker.gate(call, Instant::now()) {
                    assert_eq!(is_neutral, times.len() % 2 == 0);
                    times.push(start.elapsed().as_secs());
                    turns.push(number);
                    let failed = ProbeResult::Trouble(Trouble::Unreachable, "down");
                    assert_eq!(breaker.probed(call, failed, Instant::now()), None);
                }
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(times, [1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(turns[..4], [0, 1, 2, 0]);
        tokio::time::advance(second(30)).await;
        let is_probe = |gate| matches!(gate, Gate::Probe { .. });
        let prober = calls
            .iter()
            .find(|call| is_probe(breaker.gate(call, Instant::now())));
        let closed = breaker.probed(prober.expect("one"), ProbeResult::Answered, Instant::now());
        assert_eq!(
            closed.map(|(trouble, _)| trouble),
            Some(Trouble::Unreachable)
        );
        assert_eq!(breaker.gate(&calls[0], Instant::now()), Gate::Pass);
    }

    #[tokio::test(start_paused = true)]
    async fn each_trouble_is_waited_for_as_long_as_it_may_last() {
        for (trouble, limit) in [
            (Trouble::Unreachable, LIMIT),
            (Trouble::Banned, LIMIT),
            (Trouble::Blocked, BLOCKED_LIMIT),
            (Trouble::Refused(403), BLOCKED_LIMIT),
        ] {
            let mut breaker = armed();
            let call = breaker.enter(RequestClass::Update);
            breaker.trip(trouble, None, "why", Instant::now());
            let just_before = Instant::now() + limit - Duration::from_millis(1);
            let gives_up = |gate| matches!(gate, Gate::GiveUp { .. });
            assert!(!gives_up(breaker.gate(&call, just_before)), "{trouble:?}");
            assert!(
                gives_up(breaker.gate(&call, Instant::now() + limit)),
                "{trouble:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_is_probed_after_half_a_minute_at_the_earliest() {
        let mut breaker = armed();
        let call = breaker.enter(RequestClass::Read);
        breaker.trip(Trouble::Banned, None, "1015", Instant::now());
        assert!(breaker.holds(RequestClass::Read) && breaker.holds(RequestClass::Update));
        for _ in 0..5 {
            let Gate::Wait(until) = breaker.gate(&call, Instant::now()) else {
                panic!("it waits")
            };
            let wait = until - Instant::now();
            assert!((second(30)..=second(60)).contains(&wait), "{wait:?}");
            tokio::time::advance(wait).await;
            let gate = breaker.gate(&call, Instant::now());
            assert!(matches!(gate, Gate::Probe { .. }), "{gate:?}");
            let again = ProbeResult::Trouble(Trouble::Banned, "1015");
            breaker.probed(&call, again, Instant::now());
        }
    }
}
