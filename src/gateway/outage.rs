//! Waiting for the breaker: how a request is held while the API has trouble, how it probes, and how a failure is found to
//! be about everybody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::breaker::{Breaker, CallHealth, Gate, Outage, ProbeResult, RequestClass, Trouble};
use super::{FailureCause, Gateway, UnderWay};
use crate::sigma::{
    ApiResponse, AttemptError, ListingVersion, MemberFilter, Request, is_transient,
};
use crate::stop::StopReason;

/// How long an update that was refused waits for others to show whether they are refused too: a moment, and longer while
/// others are still on their way. (Those that were answered with 401 try fresh tokens, which are a second apart.)
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);
const LONGEST_WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);

/// The breaker that all requests share.
#[derive(Debug)]
pub(super) struct SharedBreaker {
    state: Mutex<Breaker>,
    /// Notified when it opens or closes, and when an update succeeds.
    changed: Notify,
    /// Updates that wait for others to show whether they fail too.
    waiting_for_others: AtomicUsize,
    /// What holds all requests, for those who announce it.
    announced: watch::Sender<Option<Outage>>,
    /// Held by the request that finds out whether a failure is about everybody.
    suspicion: tokio::sync::Mutex<()>,
}

impl SharedBreaker {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            state: Mutex::new(Breaker::new(limit)),
            changed: Notify::new(),
            waiting_for_others: AtomicUsize::new(0),
            announced: watch::Sender::new(None),
            suspicion: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Breaker> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the health of a new request.
    pub(super) fn enter(&self, class: RequestClass) -> CallHealth {
        self.state().enter(class)
    }

    /// Records that the API answered a request that was sent at `sent_at`.
    pub(super) fn answered(&self, class: Option<RequestClass>, sent_at: Instant) {
        self.state().answered(class, sent_at);
        if class == Some(RequestClass::Update) {
            self.changed.notify_waiters();
        }
    }

    /// Returns whether requests of this class must wait.
    pub(super) fn holds(&self, class: RequestClass) -> bool {
        self.state().holds(class)
    }

    /// Returns whether the API has ever answered.
    pub(super) fn is_armed(&self) -> bool {
        self.state().is_armed()
    }

    /// Returns a channel of what holds the requests.
    pub(super) fn announcements(&self) -> watch::Receiver<Option<Outage>> {
        self.announced.subscribe()
    }

    /// Returns what holds the requests, for the display.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.state().outage(Instant::now())
    }
}

/// How a request may go on.
#[derive(Debug)]
pub(super) enum Admission {
    /// It may be sent. `has_waited` says whether it was held.
    Pass { has_waited: bool },
    /// It probes: by itself, or by a harmless request.
    Probe { is_neutral: bool },
}

/// Takes a request out of the queue of probes, also if its task is dropped.
struct Waiting<'a>(&'a SharedBreaker, CallHealth);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().leave(&self.1);
    }
}

/// Ends a probe, also if its task is dropped.
pub(super) struct Probing<'a> {
    gateway: &'a Gateway,
    call: CallHealth,
    is_told: bool,
}

impl Probing<'_> {
    /// Reports how the probe ended.
    pub(super) fn end(mut self, result: ProbeResult<'_>) {
        self.is_told = true;
        self.tell(result);
    }

    fn tell(&self, result: ProbeResult<'_>) {
        let breaker = &self.gateway.breaker;
        let closed = breaker.state().probed(&self.call, result, Instant::now());
        if let Some((trouble, lasted)) = closed {
            let seconds = lasted.as_secs();
            tracing::info!(seconds, trouble = trouble.name(), "the API answers again");
            breaker.announced.send_replace(None);
            self.gateway.pacer.go_on(trouble == Trouble::Banned);
        }
        breaker.changed.notify_waiters();
    }
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(ProbeResult::Abandoned);
        }
    }
}

impl Gateway {
    /// Returns the guard of a request that probes.
    pub(super) fn probing(&self, call: &CallHealth) -> Probing<'_> {
        Probing {
            gateway: self,
            call: *call,
            is_told: false,
        }
    }

    /// Waits until the breaker lets the request go, or gives it the turn to probe.
    ///
    /// # Errors
    /// If the trouble has lasted for too long, which stops the run.
    pub(super) async fn admitted(&self, call: &CallHealth) -> Result<Admission, FailureCause> {
        let mut waiting = None;
        loop {
            let changed = self.breaker.changed.notified();
            let gate = self.breaker.state().gate(call, Instant::now());
            match gate {
                Gate::Pass => {
                    let has_waited = waiting.is_some();
                    return Ok(Admission::Pass { has_waited });
                }
                Gate::Probe { is_neutral } => return Ok(Admission::Probe { is_neutral }),
                Gate::Wait(until) => {
                    waiting.get_or_insert_with(|| Waiting(&self.breaker, *call));
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(until) => {}
                    }
                }
                Gate::GiveUp { trouble, why } => {
                    self.give_up(trouble, why);
                    return Err(FailureCause::Stopped);
                }
            }
        }
    }

    fn give_up(&self, trouble: Trouble, why: String) {
        let reason = match trouble {
            Trouble::Unreachable | Trouble::Banned => StopReason::Outage,
            Trouble::Blocked => StopReason::Blocked,
            Trouble::Refused(_) => StopReason::Refused,
        };
        if !self.stop.is_raised() {
            tracing::error!(trouble = trouble.name(), why, "the run stops");
        }
        self.stop.raise_because(reason, why);
    }

    /// Sends a harmless request, and returns the trouble that it meets, if any.
    pub(super) async fn neutral_probe(&self) -> Option<(Trouble, AttemptError)> {
        let bearer = self.token.get()?;
        let request = if self.has_whoami() {
            Request::Whoami
        } else {
            Request::List {
                version: ListingVersion::V2,
                filter: MemberFilter::All,
                page: None,
                limit: Some(1),
            }
        };
        let permit = self.pacer.acquire().await;
        let sent_at = Instant::now();
        let result = self.attempt(request, &bearer.header).await;
        self.report_result(permit, result.as_ref().map(|r| r.status), false);
        self.note_answer(request, sent_at, &result);
        let error = result.err()?;
        Some((Trouble::of(&error, Request::Whoami)?, error))
    }

    /// Records an answer that shows that the API can be reached, and whether it carries out requests of this kind: it does
    /// if it judges one by its content.
    pub(super) fn note_answer(
        &self,
        request: Request<'_>,
        sent_at: Instant,
        result: &Result<ApiResponse, AttemptError>,
    ) {
        let is_judged = match result {
            Ok(_) => true,
            Err(AttemptError::Status(error)) => match Trouble::of_status(error, request) {
                None => !is_transient(error.status),
                Some(Trouble::Refused(_)) => false,
                Some(_) => return,
            },
            Err(_) => return,
        };
        let class = RequestClass::of(request);
        let class = Some(class).filter(|_| is_judged && request.concerns_members());
        self.breaker.answered(class, sent_at);
    }

    /// Finds out whether the trouble of a request is alike for everybody, and opens the breaker if it is. Returns whether
    /// the request must wait. `gives_up` says that the request would not be sent again.
    pub(super) async fn is_for_everybody(
        &self,
        call: &mut CallHealth,
        trouble: Trouble,
        error: &AttemptError,
        gives_up: bool,
    ) -> bool {
        let class = call.class();
        let (why, failed_at) = (error.to_string(), Instant::now());
        let is_alike = self.breaker.state().failed(call, trouble, failed_at);
        let asks = match trouble {
            // A second failure may still be chance, and costs nothing but a harmless request.
            Trouble::Unreachable => {
                is_alike || gives_up || (call.failures() >= 2 && !call.is_cleared)
            }
            Trouble::Blocked => is_alike || !call.is_cleared,
            Trouble::Refused(_) => false,
            Trouble::Banned => {
                self.trip(trouble, None, &why);
                false
            }
        };
        if asks && self.breaker.is_armed() && !self.breaker.holds(class) {
            self.suspect(call, failed_at).await;
        }
        if is_alike && !self.breaker.holds(class) {
            self.trip(trouble, Some(class), &why);
        }
        if gives_up && class == RequestClass::Update && !self.breaker.holds(class) {
            self.wait_for_others(call).await;
        }
        self.breaker.holds(class)
    }

    /// Opens the breaker for the requests of a class, or for all, and says so.
    pub(super) fn trip(&self, trouble: Trouble, class: Option<RequestClass>, why: &str) {
        let opened = {
            let mut state = self.breaker.state();
            let now = Instant::now();
            let was_open = state.outage(now).is_some();
            state.trip(trouble, class, why, now);
            state.outage(now).filter(|_| !was_open)
        };
        if let Some(outage) = opened {
            tracing::info!(
                trouble = outage.trouble.name(),
                why = outage.why,
                "all requests wait"
            );
            self.breaker.announced.send_replace(Some(outage));
            self.pacer.suspend();
            self.breaker.changed.notify_waiters();
        }
    }

    /// Asks the API something harmless, unless a request was answered that was sent since this one failed.
    async fn suspect(&self, call: &mut CallHealth, failed_at: Instant) {
        let _one = self.breaker.suspicion.lock().await;
        if self.breaker.holds(RequestClass::Read) {
            return;
        }
        if !self.breaker.state().has_answered_since(failed_at)
            && let Some((trouble, error)) = self.neutral_probe().await
        {
            self.trip(trouble, None, &error.to_string());
            return;
        }
        call.is_cleared = true;
    }

    /// Waits for other updates that are in flight: if one of them succeeds, the request itself is at fault, and if all of
    /// them fail alike, it is not.
    async fn wait_for_others(&self, call: &CallHealth) {
        // With one request at a time, there are no others. Otherwise the next rows may be about to be sent.
        if self.options.concurrency <= 1 {
            return;
        }
        let _waiting = UnderWay::new(&self.breaker.waiting_for_others);
        self.breaker.changed.notify_waiters();
        let decided = async |or_all_wait: bool| {
            loop {
                let changed = self.breaker.changed.notified();
                let waiting = self.breaker.waiting_for_others.load(Ordering::Relaxed);
                let all_wait = self.updates_in_flight() <= waiting;
                {
                    let mut state = self.breaker.state();
                    let is_decided = state.is_at_fault(call) || state.holds(RequestClass::Update);
                    if is_decided || (or_all_wait && all_wait) {
                        return;
                    }
                }
                changed.await;
            }
        };
        // Even if all wait now, the next row may be about to be sent.
        if timeout(WAIT_FOR_OTHERS, decided(false)).await.is_err() {
            let _ = timeout(LONGEST_WAIT_FOR_OTHERS, decided(true)).await;
        }
    }
}
