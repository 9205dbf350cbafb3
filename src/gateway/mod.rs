//! The single path of every request to the API: breaker, token, permit, attempt, and retry.
//!
//! ```text
//!  call ─► breaker ─► token, permit ─► attempt ─┬─ answered ───────────────────────────────► Reply
//!   ▲      (open: wait, or probe)               ├─ trouble alike for everybody ─► breaker opens
//!   │                                           └─ else: the tries of this request ─ used up ─► Failure
//!   └──────────── again ◄───────────────────────────┘
//! ```
//!
//! A permit from the pacer allows one request in flight. Each try acquires a new permit, and so do token
//! requests, so `--concurrency` and `--rate` apply to everything that is sent. A task that holds a permit
//! never waits for a token, because the token request needs a permit itself.

mod breaker;
mod outage;
mod retry;
mod secrets;
mod statistics;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::breaker::{CallHealth, ProbeResult, RequestClass};
pub(crate) use self::breaker::{Outage, Trouble};
use self::outage::{Admission, Probing, SharedBreaker};
use self::retry::{Class, NextTry, Tries, classify};
pub(crate) use self::statistics::RequestStats;
use self::token::{Bearer, CurrentToken};
use crate::pace::{Pacer, Permit};
use crate::sigma::{ApiResponse, AttemptError, Client, Request, UnreadableBody, is_transient};
use crate::stop::Stop;

/// The minimum time between two token requests, as public clients space them.
const TOKEN_SPACING: Duration = Duration::from_secs(1);
/// How often one request may replace a refused token. The second token may have expired while the request
/// waited for a permit.
const FRESH_TOKENS: u32 = 2;
/// How often one request is sent again at once because the server said that it has not processed it. A server that says so
/// forever is not believed.
const UNPROCESSED: u32 = 10;
/// So many requests in a row that run into their time limit are taken as a sign that their connections are dead.
const TIMEOUTS_TO_RECONNECT: u32 = 2;
/// The time limit for reading a member after a stop, including pauses.
const READ_AFTER_STOP: Duration = Duration::from_secs(10);

/// The API credentials.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: SecretString,
}

/// Options for making requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatewayOptions {
    /// The number of tries after the first.
    pub retries: u32,
    /// How long an outage is waited for before the run stops.
    pub outage_limit: Duration,
    /// How many requests may be under way at once.
    pub concurrency: usize,
}

/// A request that was answered with 2xx.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The response.
    pub response: ApiResponse,
    /// How many tries the request took.
    pub attempts: u32,
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The reason.
    pub cause: FailureCause,
    /// How many times the request was sent.
    pub attempts: u32,
    /// Whether the API may have applied one of the tries.
    pub may_be_applied: bool,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FailureCause {
    /// The error of the last attempt.
    #[error("{0}")]
    Attempt(#[source] AttemptError),
    /// Signing in failed, so there is no token.
    #[error("signing in failed: {0}")]
    SignIn(#[source] AttemptError),
    /// The run stopped while the request was waiting.
    #[error("the run stopped")]
    Stopped,
}

impl FailureCause {
    /// Returns whether the API itself says that what was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Attempt(AttemptError::Status(error)) if error.is_not_found())
    }

    /// Returns whether the API itself says that it does not offer what was asked for, or not to these credentials.
    pub(crate) fn is_unoffered(&self) -> bool {
        let is_one = |status| matches!(status, 403 | 404 | 405 | 410 | 501);
        matches!(self, Self::Attempt(AttemptError::Status(error)) if error.is_from_api() && is_one(error.status))
    }

    /// Returns the HTTP status, if there was one.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Attempt(error) => error.status(),
            _ => None,
        }
    }
}

/// Sends every request to the API.
#[derive(Debug)]
pub(crate) struct Gateway {
    client: Client,
    credentials: Credentials,
    options: GatewayOptions,
    pacer: Pacer,
    token: CurrentToken,
    /// When the last token was requested. The task that holds this lock renews the token, and the others wait
    /// for it.
    renewal: tokio::sync::Mutex<Option<Instant>>,
    stats: Arc<RequestStats>,
    stop: Arc<Stop>,
    breaker: SharedBreaker,
    /// Whether the API has answered `GET /v2/whoami`.
    has_whoami: AtomicBool,
    /// Updates that are under way, including those that wait.
    updates: AtomicUsize,
    /// Fresh tokens that were refused, in a row, by reads and by updates.
    fruitless_tokens: [AtomicU32; 2],
    /// Requests in a row that ran into their time limit.
    timeouts: AtomicU32,
}

/// One request on its way: what its tries have met so far.
struct CallState {
    tries: Tries,
    attempts: u32,
    may_be_applied: bool,
    /// The generation of the token that was refused last.
    refused: Option<u64>,
    fresh_tokens: u32,
    unprocessed: u32,
    health: CallHealth,
}

/// Counts an update while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Creates a gateway. This sends nothing.
    pub(crate) fn new(
        client: Client,
        credentials: Credentials,
        pacer: Pacer,
        options: GatewayOptions,
        stop: Arc<Stop>,
    ) -> Self {
        Self {
            client,
            credentials,
            options,
            pacer,
            token: CurrentToken::default(),
            renewal: tokio::sync::Mutex::new(None),
            stats: Arc::default(),
            stop,
            breaker: SharedBreaker::new(options.outage_limit),
            has_whoami: AtomicBool::new(false),
            updates: AtomicUsize::new(0),
            fruitless_tokens: Default::default(),
            timeouts: AtomicU32::new(0),
        }
    }

    /// Returns whether the run stops.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_raised()
    }

    /// Returns what holds all requests, if anything does.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.breaker.outage()
    }

    /// Returns a channel that says when all requests begin to wait, and when they go on.
    pub(crate) fn outages(&self) -> watch::Receiver<Option<Outage>> {
        self.breaker.announcements()
    }

    fn has_whoami(&self) -> bool {
        self.has_whoami.load(Ordering::Relaxed)
    }

    fn updates_in_flight(&self) -> usize {
        self.updates.load(Ordering::Relaxed)
    }

    fn fruitless_tokens(&self, class: RequestClass) -> &AtomicU32 {
        let [reads, updates] = &self.fruitless_tokens;
        match class {
            RequestClass::Read => reads,
            RequestClass::Update => updates,
        }
    }

    /// Returns the counts of the requests sent so far.
    pub(crate) const fn stats(&self) -> &Arc<RequestStats> {
        &self.stats
    }

    /// Returns the pacer, whose state the progress display shows.
    pub(crate) const fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// Makes one attempt. Its error contains no secrets, even if the server echoes them.
    async fn attempt(
        &self,
        request: Request<'_>,
        bearer: &HeaderValue,
    ) -> Result<ApiResponse, AttemptError> {
        let result = self.client.attempt(request, bearer).await;
        result.map_err(|error| {
            let token = bearer.to_str().ok().and_then(|h| h.strip_prefix("Bearer "));
            error.presentable(|text| self.without_secrets(text, token))
        })
    }

    fn without_secrets(&self, text: &str, token: Option<&str>) -> String {
        secrets::without(text, &self.credentials, token)
    }

    /// Sends a request until it is answered with 2xx, is refused for good, or has used up its tries. While the API has
    /// trouble that is alike for everybody, it waits, which uses up no tries.
    ///
    /// # Errors
    /// Returns an error if the request is refused for good or has used up its tries, if there is no token, or
    /// if the run stops while the request waits.
    pub(crate) async fn call(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let class = RequestClass::of(request);
        let _under_way = (request.is_update()).then(|| UnderWay::new(&self.updates));
        let mut call = CallState {
            tries: Tries::new(self.options.retries),
            attempts: 0,
            may_be_applied: false,
            refused: None,
            fresh_tokens: 0,
            unprocessed: 0,
            health: self.breaker.enter(class),
        };
        loop {
            let admitted = tokio::select! {
                biased;
                () = self.stop.raised() => Err(FailureCause::Stopped),
                admitted = self.next_attempt(&mut call) => admitted,
            };
            let (bearer, permit, probing) = admitted.map_err(|cause| call.failure(cause))?;
            let sent_at = Instant::now();
            let attempt = self.attempt(request, &bearer.header);
            let result = if request.is_update() {
                attempt.await
            } else {
                // The result of a read is not needed after a stop.
                tokio::select! {
                    biased;
                    result = attempt => result,
                    () = self.stop.raised() => {
                        self.stats.count(None, call.attempts > 0);
                        call.attempts += 1;
                        return Err(call.failure(FailureCause::Stopped));
                    }
                }
            };
            tracing::debug!(
                request = request.name(),
                attempt = call.attempts + 1,
                status = result
                    .as_ref()
                    .map_or_else(AttemptError::status, |answer| Some(answer.status)),
                milliseconds = sent_at.elapsed().as_millis(),
                "request"
            );
            if result.is_ok() {
                self.stats.answered_after(sent_at.elapsed());
            }
            self.report_result(
                permit,
                result.as_ref().map(|response| response.status),
                call.attempts > 0,
            );
            call.attempts += 1;
            self.note_answer(request, sent_at, &result);
            let error = match result {
                Ok(response) => {
                    end_probe(probing, None);
                    self.token.accepted(bearer.generation);
                    self.fruitless_tokens(class).store(0, Ordering::Relaxed);
                    if matches!(request, Request::Whoami) {
                        self.has_whoami.store(true, Ordering::Relaxed);
                    }
                    let attempts = call.attempts;
                    return Ok(Reply { response, attempts });
                }
                Err(error) => error,
            };
            tracing::debug!(request = request.name(), attempt = call.attempts, %error, "attempt failed");
            call.may_be_applied |= error.may_be_applied();
            let retry = classify(&error, request.is_update());
            let renews = retry == Class::Unauthorized && self.may_renew(&mut call);
            // An API that wants another token answers.
            let trouble = Trouble::of(&error, request).filter(|_| !renews);
            end_probe(probing, trouble.map(|trouble| (trouble, &error)));
            match retry {
                Class::Unauthorized if renews => {
                    call.refused = Some(bearer.generation);
                    self.token.refused(bearer.generation, sent_at);
                }
                Class::NotProcessed if call.unprocessed < UNPROCESSED => call.unprocessed += 1,
                retry => {
                    self.after_failure(&mut call, error, trouble, retry).await?;
                }
            }
        }
    }

    /// Decides what follows a failed attempt, and waits until the next one may follow.
    ///
    /// # Errors
    /// If none may follow.
    async fn after_failure(
        &self,
        call: &mut CallState,
        error: AttemptError,
        trouble: Option<Trouble>,
        retry: Class,
    ) -> Result<(), Failure> {
        if let Some(trouble) = trouble {
            let gives_up = call.tries.would_give_up(retry);
            let health = &mut call.health;
            let assessed = self.is_for_everybody(health, trouble, &error, gives_up);
            let waits = tokio::select! {
                waits = assessed => waits,
                () = self.stop.raised() => true,
            };
            if waits {
                return Ok(());
            }
        }
        match call.tries.decide(retry) {
            NextTry::GiveUp => Err(call.failure(FailureCause::Attempt(error))),
            NextTry::Again(delay) => {
                tokio::select! {
                    () = sleep(delay) => {}
                    () = self.stop.raised() => {}
                }
                Ok(())
            }
        }
    }

    /// Returns whether a refused token may be replaced for this request. Fresh tokens that are refused as well show that
    /// the token is not to blame.
    fn may_renew(&self, call: &mut CallState) -> bool {
        let fruitless = self.fruitless_tokens(call.health.class());
        if call.fresh_tokens >= FRESH_TOKENS || fruitless.load(Ordering::Relaxed) >= FRESH_TOKENS {
            return false;
        }
        if call.fresh_tokens > 0 {
            fruitless.fetch_add(1, Ordering::Relaxed);
        }
        call.fresh_tokens += 1;
        true
    }

    /// Waits for the breaker, a token and a permit. If it is this request's turn to find out whether an outage is over by a
    /// harmless request, it does that first.
    async fn next_attempt<'g>(
        &'g self,
        call: &mut CallState,
    ) -> Result<(Bearer, Permit<'g>, Option<Probing<'g>>), FailureCause> {
        loop {
            let mut probing = None;
            match self.admitted(&call.health).await? {
                Admission::Pass { has_waited: false } => {}
                // An outage uses up nobody's tries.
                Admission::Pass { has_waited: true } => {
                    call.tries = Tries::new(self.options.retries);
                    call.health = self.breaker.enter(call.health.class());
                }
                Admission::Probe { is_neutral: false } => {
                    probing = Some(self.probing(&call.health));
                }
                Admission::Probe { is_neutral: true } => {
                    let guard = self.probing(&call.health);
                    let met = Box::pin(self.neutral_probe()).await;
                    let trouble = met.as_ref().map(|(trouble, error)| (*trouble, error));
                    end_probe(Some(guard), trouble);
                    call.tries = Tries::new(self.options.retries);
                    continue;
                }
            }
            let (bearer, permit) = self.token_and_permit(call.refused).await?;
            // The breaker may have opened during the wait for the permit.
            if probing.is_none() && self.breaker.holds(call.health.class()) {
                permit.give_back();
                continue;
            }
            return Ok((bearer, permit, probing));
        }
    }

    /// Sends a request that reads, and parses its answer. An answer that can't be parsed is asked for again, as often as one
    /// that did not come.
    ///
    /// # Errors
    /// Fails as [`Gateway::call`] does, and if no answer can be parsed.
    pub(crate) async fn read<T>(
        &self,
        request: Request<'_>,
        parse: impl Fn(&[u8]) -> Result<T, UnreadableBody>,
    ) -> Result<T, Failure> {
        let mut tries = Tries::new(self.options.retries);
        loop {
            let Reply { response, attempts } = self.call(request).await?;
            let error = match response.parsed(&parse) {
                Ok(parsed) => return Ok(parsed),
                Err(error) => error,
            };
            tracing::debug!(request = request.name(), %error, "answer can't be read");
            match tries.decide(Class::Transient) {
                NextTry::GiveUp => {
                    return Err(failure(FailureCause::Attempt(error), attempts, false));
                }
                NextTry::Again(delay) => tokio::select! {
                    () = sleep(delay) => {}
                    () = self.stop.raised() => {
                        return Err(failure(FailureCause::Stopped, attempts, false));
                    }
                },
            }
        }
    }

    /// Reads a member at the end of its row, even if the run stops meanwhile. After a stop it still waits for
    /// a pause to end, but only for a limited time.
    ///
    /// # Errors
    /// Fails as [`Gateway::call`] does.
    pub(crate) async fn read_after_stop<T>(
        &self,
        request: Request<'_>,
        parse: impl Fn(&[u8]) -> Result<T, UnreadableBody>,
    ) -> Result<T, Failure> {
        match self.read(request, &parse).await {
            Err(failure) if matches!(failure.cause, FailureCause::Stopped) => {}
            told => return told,
        }
        let stopped = failure(FailureCause::Stopped, 0, false);
        let once = async {
            let bearer = self
                .bearer(None)
                .await
                .map_err(|cause| failure(cause, 0, false))?;
            let permit = self.pacer.acquire().await;
            let result = self.attempt(request, &bearer.header).await;
            self.report_result(
                permit,
                result.as_ref().map(|response| response.status),
                false,
            );
            let parsed = result.and_then(|response| response.parsed(&parse));
            parsed.map_err(|error| failure(FailureCause::Attempt(error), 1, false))
        };
        timeout(READ_AFTER_STOP, once).await.unwrap_or(Err(stopped))
    }

    /// Returns a token and a permit. A token that expired during the wait for the permit is renewed.
    async fn token_and_permit(
        &self,
        refused: Option<u64>,
    ) -> Result<(Bearer, Permit<'_>), FailureCause> {
        let mut renewals = 0;
        loop {
            let bearer = self.bearer(refused).await?;
            let permit = self.pacer.acquire().await;
            // The token may have been renewed or refused during the wait for the permit.
            let bearer = self.token.get().unwrap_or(bearer);
            // If tokens expire faster than requests get a permit, send the request anyway and let the API
            // decide.
            if bearer.is_usable(Instant::now()) || renewals == FRESH_TOKENS {
                return Ok((bearer, permit));
            }
            // The renewal queues behind all waiting requests, so the unused permit must not cost them time.
            permit.give_back();
            renewals += 1;
        }
    }

    /// Reports the outcome of a request to the pacer and to the statistics.
    fn report_result(&self, permit: Permit<'_>, result: Result<u16, &AttemptError>, again: bool) {
        match result {
            Ok(_) | Err(AttemptError::Unreadable { .. } | AttemptError::Page { .. }) => {
                permit.answered();
            }
            // A ban says nothing about the rate at which requests are accepted. The breaker waits for its end.
            Err(AttemptError::Status(error)) if error.is_ban => drop(permit),
            Err(AttemptError::Status(error)) if error.status == 429 => {
                permit.refused(error.retry_after);
            }
            Err(AttemptError::Status(error)) => {
                permit.answered();
                // An answer that is final asks nobody to wait.
                if let Some(wait) = error.retry_after.filter(|_| is_transient(error.status)) {
                    self.pacer.pause(wait);
                }
            }
            Err(AttemptError::NotProcessed) => permit.give_back(),
            // The latency is unknown.
            Err(_) => drop(permit),
        }
        self.count_timeouts(result);
        let status = result.map_or_else(AttemptError::status, Some);
        self.stats.count(status, again);
    }

    /// Opens fresh connections after several requests in a row ran into their time limit: an HTTP/2 connection that is dead
    /// would be used for all further requests.
    fn count_timeouts(&self, result: Result<u16, &AttemptError>) {
        match result {
            Err(AttemptError::Timeout(_)) => {
                let timeouts = self.timeouts.fetch_add(1, Ordering::Relaxed) + 1;
                if timeouts == TIMEOUTS_TO_RECONNECT {
                    tracing::info!("nothing answers: opening fresh connections");
                    self.client.reconnect();
                    self.timeouts.store(0, Ordering::Relaxed);
                }
            }
            Err(error) if error.status().is_none() => {}
            _ => self.timeouts.store(0, Ordering::Relaxed),
        }
    }

    /// Returns a token that is neither due for renewal nor the one that was refused.
    async fn bearer(&self, refused: Option<u64>) -> Result<Bearer, FailureCause> {
        let now = Instant::now();
        let is_another =
            |bearer: &Bearer| refused.is_none_or(|refused| bearer.generation > refused);
        match self.token.get().filter(is_another) {
            Some(bearer) if bearer.is_fresh(now) => Ok(bearer),
            // Another task is renewing the token, and the current one is still valid.
            Some(bearer) if bearer.is_usable(now) && self.renewal.try_lock().is_err() => Ok(bearer),
            // A renewal is rare (about once an hour). It is boxed so that not every request's future includes
            // it.
            _ => {
                Box::pin(self.renew(|bearer| is_another(bearer) && bearer.is_fresh(Instant::now())))
                    .await
            }
        }
    }

    /// Requests a new token, unless another worker has renewed it meanwhile.
    async fn renew(&self, good: impl Fn(&Bearer) -> bool) -> Result<Bearer, FailureCause> {
        let mut last_call = self.renewal.lock().await;
        let current = self.token.get();
        if let Some(bearer) = current.clone().filter(&good) {
            return Ok(bearer);
        }
        let mut tries = Tries::new(self.options.retries);
        let mut health = self.breaker.enter(RequestClass::Read);
        let mut again = false;
        loop {
            // A token request is harmless, so that it is its own probe.
            let probing = match self.admitted(&health).await? {
                Admission::Pass { has_waited } => {
                    if has_waited {
                        tries = Tries::new(self.options.retries);
                        health = self.breaker.enter(RequestClass::Read);
                    }
                    None
                }
                Admission::Probe { .. } => Some(self.probing(&health)),
            };
            if let Some(last) = *last_call {
                sleep_until(last + TOKEN_SPACING).await;
            }
            let permit = self.pacer.acquire().await;
            let asked_at = Instant::now();
            *last_call = Some(asked_at);
            let result = self
                .client
                .token(&self.credentials.id, &self.credentials.secret)
                .await
                .map_err(|error| error.presentable(|text| self.without_secrets(text, None)));
            self.report_result(permit, result.as_ref().map(|_| 200), again);
            let error = match result {
                Ok(token) => {
                    end_probe(probing, None);
                    self.breaker.answered(None, asked_at);
                    let generation = current.as_ref().map_or(0, |bearer| bearer.generation + 1);
                    let bearer =
                        Bearer::new(&token, asked_at, generation).map_err(FailureCause::SignIn)?;
                    self.token.set(bearer.clone());
                    tracing::debug!(generation, "signed in");
                    return Ok(bearer);
                }
                Err(error) => error,
            };
            again = true;
            let trouble = Trouble::of(&error, Request::Whoami);
            end_probe(probing, trouble.map(|trouble| (trouble, &error)));
            let class = match classify(&error, false) {
                Class::Unauthorized => Class::Final,
                class => class,
            };
            // Without a token nothing can be sent, so that this is trouble for everybody. Before the first token, nothing
            // says that the API would come back; only a ban does.
            if let Some(trouble) = trouble
                && (trouble == Trouble::Banned
                    || (tries.would_give_up(class) && self.breaker.is_armed()))
            {
                self.trip(trouble, None, &error.to_string());
                continue;
            }
            match tries.decide(class) {
                NextTry::GiveUp => return Err(FailureCause::SignIn(error)),
                NextTry::Again(delay) => sleep(delay).await,
            }
        }
    }
}

impl CallState {
    const fn failure(&self, cause: FailureCause) -> Failure {
        failure(cause, self.attempts, self.may_be_applied)
    }
}

/// Ends a probe with the trouble that it met.
fn end_probe(probing: Option<Probing<'_>>, trouble: Option<(Trouble, &AttemptError)>) {
    if let Some(probing) = probing {
        match trouble {
            None => probing.end(ProbeResult::Answered),
            Some((trouble, error)) => {
                probing.end(ProbeResult::Trouble(trouble, &error.to_string()));
            }
        }
    }
}

const fn failure(cause: FailureCause, attempts: u32, may_be_applied: bool) -> Failure {
    Failure {
        cause,
        attempts,
        may_be_applied,
    }
}
