//! The access token and its states.
//!
//! ```text
//!            sign in            renew_at                  expires_at
//!  (none) ───────────► fresh ───────────► due for renewal ───────────► expired
//!                       ▲ │                │ (still used; one worker      │
//!                       │ │ refused (401)  │  renews it)                  │
//!                       │ └──────┬─────────┘                              │
//!                       │        ▼                                        │
//!                       └─ refused ◄── renewed: the next generation ──────┘
//! ```
//!
//! A token is refused only if no request was accepted with it since the refused one was sent. Otherwise the request
//! is at fault.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::sigma::{AttemptError, Token};

/// A token is renewed this long before it expires. A short-lived one is renewed in the last fifth of its lifetime.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// The assumed lifetime of a token if the API does not report it.
const USUAL_LIFE: Duration = Duration::from_secs(3600);
/// The longest lifetime that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A token as requests send it.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) header: HeaderValue,
    /// Counts the tokens of this process, from 0.
    pub(super) generation: u64,
    renew_at: Instant,
    expires_at: Instant,
    /// When a request last showed that the API accepts the token.
    accepted_at: Option<Instant>,
    /// Whether the API refused the token, and no later request has shown that it accepts it.
    is_refused: bool,
}

impl Bearer {
    /// Returns the bearer of a token that was requested at `asked_at`.
    ///
    /// # Errors
    /// If the token has characters that no header can hold.
    pub(super) fn new(
        token: &Token,
        asked_at: Instant,
        generation: u64,
    ) -> Result<Self, AttemptError> {
        let value = format!("Bearer {}", token.access_token.expose_secret());
        let mut header = HeaderValue::from_str(&value).map_err(|_| AttemptError::Unreadable {
            status: 200,
            what: "the token has characters that no header can hold".to_owned(),
        })?;
        header.set_sensitive(true);
        let life = token
            .expires_in
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|life| !life.is_zero())
            .unwrap_or(USUAL_LIFE)
            .min(LONGEST_LIFE);
        let expires_at = asked_at + life;
        Ok(Self {
            header,
            generation,
            renew_at: expires_at - RENEW_BEFORE.min(life / 5),
            expires_at,
            accepted_at: None,
            is_refused: false,
        })
    }

    /// Returns whether the token need not be renewed yet.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        !self.is_refused && now < self.renew_at
    }

    /// Returns whether the API should still accept the token.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.is_refused && now < self.expires_at
    }
}

/// The present token, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct CurrentToken(Mutex<Option<Bearer>>);

impl CurrentToken {
    /// Returns the present token.
    pub(super) fn get(&self) -> Option<Bearer> {
        self.lock().clone()
    }

    /// Replaces the present token.
    pub(super) fn set(&self, bearer: Bearer) {
        *self.lock() = Some(bearer);
    }

    /// Records that the API accepted the token of this generation.
    pub(super) fn accepted(&self, generation: u64) {
        if let Some(bearer) = self.lock().as_mut().filter(|b| b.generation == generation) {
            bearer.accepted_at = Some(Instant::now());
        }
    }

    /// Records that the API refused the token of this generation for a request sent at `sent_at`.
    pub(super) fn refused(&self, generation: u64, sent_at: Instant) {
        if let Some(bearer) = self.lock().as_mut().filter(|b| b.generation == generation) {
            bearer.is_refused |= bearer.accepted_at.is_none_or(|at| at < sent_at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bearer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(expires_in: Option<f64>, generation: u64) -> Bearer {
        let token = Token {
            access_token: "t".into(),
            expires_in,
        };
        Bearer::new(&token, Instant::now(), generation).expect("a token")
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_fresh_then_due_then_expired() {
        for (expires_in, fresh_for, usable_for) in [
            (Some(3600.0), 3300, 3600),
            (Some(100.0), 80, 100),
            (None, 3300, 3600),
            (Some(0.0), 3300, 3600),
            (Some(-1.0), 3300, 3600),
        ] {
            let bearer = bearer(expires_in, 0);
            let after = |seconds: u64| Instant::now() + Duration::from_secs(seconds);
            assert!(bearer.is_fresh(after(fresh_for - 1)), "{expires_in:?}");
            assert!(!bearer.is_fresh(after(fresh_for)), "{expires_in:?}");
            assert!(bearer.is_usable(after(usable_for - 1)), "{expires_in:?}");
            assert!(!bearer.is_usable(after(usable_for)), "{expires_in:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_token_that_nobody_could_use_since_is_refused() {
        let current = CurrentToken::default();
        current.set(bearer(None, 1));
        let is_usable = || current.get().is_some_and(|b| b.is_usable(Instant::now()));
        let sent_at = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        current.accepted(1);
        current.refused(1, sent_at);
        assert!(is_usable(), "another request was accepted since");
        current.refused(0, Instant::now());
        assert!(is_usable(), "an older token was refused");
        tokio::time::advance(Duration::from_secs(1)).await;
        current.refused(1, Instant::now());
        assert!(!is_usable());
    }
}
