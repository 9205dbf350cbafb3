//! The one door through which every request goes: token, turn, attempt, and the next try.
//!
//! A turn is the pacer's leave, for one request under way. It is taken anew for each try, and tokens take one too, so
//! that `--concurrency` and `--rate` hold for everything that is sent. Nobody who has a turn waits for a token: a
//! token's own request needs one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::pace::{Leave, Pacer};
use crate::retry::{Class, Decision, Tries, classify};
use crate::sigma::client::form_encoded;
use crate::sigma::{Answer, AttemptError, Client, Request, Token};
use crate::stop::Stop;

/// Token calls are at least so far apart, as public clients space them.
const TOKEN_SPACING: Duration = Duration::from_secs(1);
/// A token is renewed so long before it expires, and short-lived ones in the last fifth of their life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A token's life where the API does not tell it.
const USUAL_LIFE: Duration = Duration::from_secs(3600);
/// A token that is refused is replaced so many times for one request: the second may have expired in the line.
const FRESH_TOKENS: u32 = 2;
/// After a stop, a last look at a member may take this long, pauses included.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// Who signs in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: SecretString,
}

/// How requests are made.
#[derive(Clone, Copy, Debug)]
pub struct GatewayOptions {
    /// Tries after the first.
    pub retries: u32,
}

/// What was sent, counted.
#[derive(Debug)]
pub struct Stats {
    requests: AtomicU64,
    retries: AtomicU64,
    by_status: Box<[AtomicU64]>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            by_status: (0..1000).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Stats {
    /// All requests, those that were never answered included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Those of them that were a further try.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How often each status was answered.
    #[must_use]
    pub fn by_status(&self) -> Vec<(u16, u64)> {
        (0_u16..)
            .zip(&self.by_status)
            .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn count(&self, status: Option<u16>, again: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if again {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(count) = status.and_then(|status| self.by_status.get(usize::from(status))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request that was answered with 2xx.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// How many tries it took.
    pub attempts: u32,
}

/// A request that came to nothing.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// How many times it was sent.
    pub attempts: u32,
    /// Whether one of the tries may have done what was asked.
    pub may_be_applied: bool,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The last attempt's failure.
    #[error("{0}")]
    Attempt(AttemptError),
    /// There is no token.
    #[error("signing in failed: {0}")]
    SignIn(AttemptError),
    /// The run stops, and the request waited.
    #[error("the run stopped")]
    Stopped,
}

impl Cause {
    /// The HTTP status, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Attempt(error) => error.status(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Bearer {
    header: HeaderValue,
    generation: u64,
    renew_at: Instant,
    expires_at: Instant,
    /// When it was last known to be good.
    accepted_at: Option<Instant>,
    /// It was refused, and no request since has shown that it is good for others.
    is_refused: bool,
}

impl Bearer {
    fn is_fresh(&self, now: Instant) -> bool {
        !self.is_refused && now < self.renew_at
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.is_refused && now < self.expires_at
    }
}

/// The door.
#[derive(Debug)]
pub struct Gateway {
    client: Client,
    credentials: Credentials,
    options: GatewayOptions,
    pacer: Pacer,
    bearer: Mutex<Option<Bearer>>,
    /// When the last token was asked for. Who holds it renews; the others wait for that one renewal.
    renewal: tokio::sync::Mutex<Option<Instant>>,
    stats: Arc<Stats>,
    stop: Arc<Stop>,
}

impl Gateway {
    /// A door that has sent nothing yet.
    #[must_use]
    pub fn new(
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
            bearer: Mutex::new(None),
            renewal: tokio::sync::Mutex::new(None),
            stats: Arc::default(),
            stop,
        }
    }

    /// What was sent so far.
    #[must_use]
    pub const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The pacer, for what it shows.
    #[must_use]
    pub const fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// One attempt. Its error holds nothing that nobody may see, should the server repeat it.
    async fn attempt(
        &self,
        request: Request<'_>,
        bearer: &HeaderValue,
    ) -> Result<Answer, AttemptError> {
        let result = self.client.attempt(request, bearer).await;
        result.map_err(|error| {
            let token = bearer.to_str().ok().and_then(|h| h.strip_prefix("Bearer "));
            error.presentable(|text| self.without_secrets(text, token))
        })
    }

    fn without_secrets(&self, text: &str, token: Option<&str>) -> String {
        let secret = self.credentials.secret.expose_secret();
        let sent = form_encoded(secret);
        let mut text = text.to_owned();
        for hidden in [Some(secret), Some(&*sent), token].into_iter().flatten() {
            if !hidden.is_empty() && text.contains(hidden) {
                text = text.replace(hidden, "[hidden]");
            }
        }
        text
    }

    /// Sends a request until it is answered with 2xx, is refused for good, or its tries are used up.
    ///
    /// # Errors
    /// In the latter cases, if there is no token, and if the run stops while it waits.
    pub async fn call(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let mut tries = Tries::new(self.options.retries);
        let mut attempts = 0;
        let mut may_be_applied = false;
        let mut refused = None;
        let mut fresh_tokens = 0;
        loop {
            let waited = tokio::select! {
                biased;
                () = self.stop.raised() => Err(Cause::Stopped),
                ready = self.ready(refused) => ready,
            };
            let (bearer, leave) =
                waited.map_err(|cause| failure(cause, attempts, may_be_applied))?;
            let sent_at = Instant::now();
            let attempt = self.attempt(request, &bearer.header);
            let result = if request.is_update() {
                attempt.await
            } else {
                // Nobody needs what is read after a stop.
                tokio::select! {
                    biased;
                    result = attempt => result,
                    () = self.stop.raised() => {
                        self.stats.count(None, attempts > 0);
                        return Err(failure(Cause::Stopped, attempts + 1, may_be_applied));
                    }
                }
            };
            self.tell(
                leave,
                result.as_ref().map(|answer| answer.status),
                attempts > 0,
            );
            attempts += 1;
            let error = match result {
                Ok(answer) => {
                    self.accepted(bearer.generation);
                    return Ok(Reply { answer, attempts });
                }
                Err(error) => error,
            };
            tracing::debug!(request = request.name(), attempt = attempts, %error, "attempt failed");
            may_be_applied |= error.may_be_applied();
            let class = classify(&error, request.is_update());
            if class == Class::Unauthorized && fresh_tokens < FRESH_TOKENS {
                fresh_tokens += 1;
                refused = Some(bearer.generation);
                self.refused(bearer.generation, sent_at);
                continue;
            }
            match tries.decide(class) {
                Decision::GiveUp => {
                    return Err(failure(Cause::Attempt(error), attempts, may_be_applied));
                }
                Decision::Again(delay) => tokio::select! {
                    () = sleep(delay) => {}
                    () = self.stop.raised() => {}
                },
            }
        }
    }

    /// One look at a member after all else, also when the run stops meanwhile: it waits for a pause, but not for long.
    ///
    /// # Errors
    /// As [`Gateway::call`].
    pub async fn last_look(&self, request: Request<'_>) -> Result<Reply, Failure> {
        match self.call(request).await {
            Err(failure) if matches!(failure.cause, Cause::Stopped) => {}
            told => return told,
        }
        let stopped = Failure {
            cause: Cause::Stopped,
            attempts: 0,
            may_be_applied: false,
        };
        let once = async {
            let bearer = self
                .bearer(None)
                .await
                .map_err(|cause| failure(cause, 0, false))?;
            let leave = self.pacer.turn().await;
            let result = self.attempt(request, &bearer.header).await;
            self.tell(leave, result.as_ref().map(|answer| answer.status), false);
            result
                .map(|answer| Reply {
                    answer,
                    attempts: 1,
                })
                .map_err(|error| failure(Cause::Attempt(error), 1, false))
        };
        timeout(LAST_LOOK, once).await.unwrap_or(Err(stopped))
    }

    /// A token and a turn at once: a token that expired while the turn was waited for is renewed.
    async fn ready(&self, refused: Option<u64>) -> Result<(Bearer, Leave<'_>), Cause> {
        let mut renewals = 0;
        loop {
            let bearer = self.bearer(refused).await?;
            let leave = self.pacer.turn().await;
            // It may have been renewed, or refused, while the turn was waited for.
            let bearer = self.current().unwrap_or(bearer);
            // Where tokens live shorter than requests wait, the API has the last word.
            if bearer.is_usable(Instant::now()) || renewals == FRESH_TOKENS {
                return Ok((bearer, leave));
            }
            // The renewal stands behind all others in the line: none of them takes time there for nothing.
            leave.give_back();
            renewals += 1;
        }
    }

    /// Tells the pacer and the statistics what became of a request.
    fn tell(&self, leave: Leave<'_>, result: Result<u16, &AttemptError>, again: bool) {
        match result {
            Ok(_) | Err(AttemptError::Unreadable { .. }) => leave.answered(),
            Err(AttemptError::Status(error)) if error.status == 429 => {
                leave.refused(error.retry_after);
            }
            Err(AttemptError::Status(error)) => {
                leave.answered();
                if let Some(wait) = error.retry_after {
                    self.pacer.pause(wait);
                }
            }
            // Nobody knows how long it would have taken.
            Err(_) => drop(leave),
        }
        let status = result.map_or_else(AttemptError::status, Some);
        self.stats.count(status, again);
    }

    fn current(&self) -> Option<Bearer> {
        self.bearer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// This token is good.
    fn accepted(&self, generation: u64) {
        let mut bearer = self.bearer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bearer) = bearer.as_mut().filter(|b| b.generation == generation) {
            bearer.accepted_at = Some(Instant::now());
        }
    }

    /// This token was refused for a request that was sent then. If it was accepted since, it is the request's fault.
    fn refused(&self, generation: u64, sent_at: Instant) {
        let mut bearer = self.bearer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bearer) = bearer.as_mut().filter(|b| b.generation == generation) {
            bearer.is_refused |= bearer.accepted_at.is_none_or(|at| at < sent_at);
        }
    }

    /// A token that is neither old nor the one that was refused.
    async fn bearer(&self, refused: Option<u64>) -> Result<Bearer, Cause> {
        let now = Instant::now();
        let is_another =
            |bearer: &Bearer| refused.is_none_or(|refused| bearer.generation > refused);
        match self.current().filter(is_another) {
            Some(bearer) if bearer.is_fresh(now) => Ok(bearer),
            // Somebody renews it, and until then it is good.
            Some(bearer) if bearer.is_usable(now) && self.renewal.try_lock().is_err() => Ok(bearer),
            // Once an hour: on the heap, so that not every request carries it along.
            _ => {
                Box::pin(self.renew(|bearer| is_another(bearer) && bearer.is_fresh(Instant::now())))
                    .await
            }
        }
    }

    /// A new token, unless another worker has renewed it meanwhile.
    async fn renew(&self, good: impl Fn(&Bearer) -> bool) -> Result<Bearer, Cause> {
        let mut last_call = self.renewal.lock().await;
        let current = self.current();
        if let Some(bearer) = current.clone().filter(&good) {
            return Ok(bearer);
        }
        let mut tries = Tries::new(self.options.retries);
        let mut again = false;
        loop {
            if let Some(last) = *last_call {
                sleep_until(last + TOKEN_SPACING).await;
            }
            let leave = self.pacer.turn().await;
            let asked_at = Instant::now();
            *last_call = Some(asked_at);
            let result = self
                .client
                .token(&self.credentials.id, &self.credentials.secret)
                .await
                .map_err(|error| error.presentable(|text| self.without_secrets(text, None)));
            self.tell(leave, result.as_ref().map(|_| 200), again);
            let error = match result {
                Ok(token) => {
                    let generation = current.as_ref().map_or(0, |bearer| bearer.generation + 1);
                    let bearer = new_bearer(&token, asked_at, generation).map_err(Cause::SignIn)?;
                    *self.bearer.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(bearer.clone());
                    tracing::debug!(generation, "signed in");
                    return Ok(bearer);
                }
                Err(error) => error,
            };
            again = true;
            let class = match classify(&error, false) {
                Class::Unauthorized => Class::Final,
                class => class,
            };
            match tries.decide(class) {
                Decision::GiveUp => return Err(Cause::SignIn(error)),
                Decision::Again(delay) => sleep(delay).await,
            }
        }
    }
}

const fn failure(cause: Cause, attempts: u32, may_be_applied: bool) -> Failure {
    Failure {
        cause,
        attempts,
        may_be_applied,
    }
}

fn new_bearer(token: &Token, asked_at: Instant, generation: u64) -> Result<Bearer, AttemptError> {
    let mut header =
        HeaderValue::from_str(&format!("Bearer {}", token.access_token.expose_secret())).map_err(
            |_| AttemptError::Unreadable {
                status: 200,
                what: "the token has characters that no header can hold".to_owned(),
            },
        )?;
    header.set_sensitive(true);
    let life = token
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|life| !life.is_zero())
        .unwrap_or(USUAL_LIFE)
        .min(Duration::from_secs(365 * 24 * 3600));
    let expires_at = asked_at + life;
    Ok(Bearer {
        header,
        generation,
        renew_at: expires_at - RENEW_BEFORE.min(life / 5),
        expires_at,
        accepted_at: None,
        is_refused: false,
    })
}
