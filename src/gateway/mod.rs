//! The single path of every request to the API: token, permit, attempt, and retry.
//!
//! A permit from the pacer allows one request in flight. Each try acquires a new permit, and so do token
//! requests, so `--concurrency` and `--rate` apply to everything that is sent. A task that holds a permit
//! never waits for a token, because the token request needs a permit itself.

mod retry;
mod statistics;
mod token;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::retry::{Class, NextTry, Tries, classify};
pub(crate) use self::statistics::RequestStats;
use self::token::{Bearer, CurrentToken};
use crate::pace::{Pacer, Permit};
use crate::sigma::client::form_encoded;
use crate::sigma::{ApiResponse, AttemptError, Client, Request};
use crate::stop::Stop;

/// The minimum time between two token requests, as public clients space them.
const TOKEN_SPACING: Duration = Duration::from_secs(1);
/// How often one request may replace a refused token. The second token may have expired while the request
/// waited for a permit.
const FRESH_TOKENS: u32 = 2;
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

    /// Sends a request until it is answered with 2xx, is refused for good, or has used up its tries.
    ///
    /// # Errors
    /// Returns an error if the request is refused for good or has used up its tries, if there is no token, or
    /// if the run stops while the request waits.
    pub(crate) async fn call(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let mut tries = Tries::new(self.options.retries);
        let mut attempts = 0;
        let mut may_be_applied = false;
        let mut refused = None;
        let mut fresh_tokens = 0;
        loop {
            let waited = tokio::select! {
                biased;
                () = self.stop.raised() => Err(FailureCause::Stopped),
                token_and_permit = self.token_and_permit(refused) => token_and_permit,
            };
            let (bearer, permit) =
                waited.map_err(|cause| failure(cause, attempts, may_be_applied))?;
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
                        self.stats.count(None, attempts > 0);
                        return Err(failure(FailureCause::Stopped, attempts + 1, may_be_applied));
                    }
                }
            };
            self.report_result(
                permit,
                result.as_ref().map(|response| response.status),
                attempts > 0,
            );
            attempts += 1;
            let error = match result {
                Ok(response) => {
                    self.token.accepted(bearer.generation);
                    return Ok(Reply { response, attempts });
                }
                Err(error) => error,
            };
            tracing::debug!(request = request.name(), attempt = attempts, %error, "attempt failed");
            may_be_applied |= error.may_be_applied();
            let class = classify(&error, request.is_update());
            if class == Class::Unauthorized && fresh_tokens < FRESH_TOKENS {
                fresh_tokens += 1;
                refused = Some(bearer.generation);
                self.token.refused(bearer.generation, sent_at);
                continue;
            }
            match tries.decide(class) {
                NextTry::GiveUp => {
                    return Err(failure(
                        FailureCause::Attempt(error),
                        attempts,
                        may_be_applied,
                    ));
                }
                NextTry::Again(delay) => tokio::select! {
                    () = sleep(delay) => {}
                    () = self.stop.raised() => {}
                },
            }
        }
    }

    /// Reads a member at the end of its row, even if the run stops meanwhile. After a stop it still waits for
    /// a pause to end, but only for a limited time.
    ///
    /// # Errors
    /// Fails as [`Gateway::call`] does.
    pub(crate) async fn read_after_stop(&self, request: Request<'_>) -> Result<Reply, Failure> {
        match self.call(request).await {
            Err(failure) if matches!(failure.cause, FailureCause::Stopped) => {}
            told => return told,
        }
        let stopped = Failure {
            cause: FailureCause::Stopped,
            attempts: 0,
            may_be_applied: false,
        };
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
            result
                .map(|response| Reply {
                    response,
                    attempts: 1,
                })
                .map_err(|error| failure(FailureCause::Attempt(error), 1, false))
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
            Ok(_) | Err(AttemptError::Unreadable { .. }) => permit.answered(),
            Err(AttemptError::Status(error)) if error.status == 429 => {
                permit.refused(error.retry_after);
            }
            Err(AttemptError::Status(error)) => {
                permit.answered();
                if let Some(wait) = error.retry_after {
                    self.pacer.pause(wait);
                }
            }
            // The latency is unknown.
            Err(_) => drop(permit),
        }
        let status = result.map_or_else(AttemptError::status, Some);
        self.stats.count(status, again);
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
        let mut again = false;
        loop {
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
            let class = match classify(&error, false) {
                Class::Unauthorized => Class::Final,
                class => class,
            };
            match tries.decide(class) {
                NextTry::GiveUp => return Err(FailureCause::SignIn(error)),
                NextTry::Again(delay) => sleep(delay).await,
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
