//! Decides whether a request is retried, and after how long. The code is pure: nothing sleeps here.
//!
//! The delays come from the `backoff` crate's `ExponentialBackoff`, the only part of that crate in use.
//! Replacing the crate changes only this file.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::sigma::{AttemptError, Origin, is_transient};

/// The first delay, long enough for a brief overload to pass.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The factor from one delay to the next.
const GROWTH: f64 = 2.0;
/// The same factor after a 429 without `Retry-After`. With it, five retries outlast the longest usual
/// rate-limit window, a minute, even if there is no other row to try in the meantime.
const REFUSED_GROWTH: f64 = 4.0;
/// The maximum delay after such a 429, before jitter: the length of that window.
const LONGEST_REFUSED_DELAY: Duration = Duration::from_secs(60);
/// The maximum delay, before jitter.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Each delay varies by this share in both directions, so that workers that failed together do not retry
/// together.
const JITTER: f64 = 0.5;

/// What a failed attempt means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A retry may succeed.
    Transient,
    /// The API refused the request for its rate (429) and gave no `Retry-After`.
    Refused,
    /// The API specified how long all workers must pause.
    RetryAfter(Duration),
    /// The API does not accept the token; a new token may be accepted.
    Unauthorized,
    /// The server has not processed the request, so that it can be sent again at once.
    NotProcessed,
    /// A retry would not help.
    Final,
}

/// Returns the class of a failed attempt.
///
/// Retried are 408, 425, 429, all server errors but 501 and 505, failed or lost connections, and timeouts. A 2xx answer
/// that can't be read, or a page instead of one, is requested again unless the request was an update. The outcome of an
/// update is settled by reading the member.
pub(super) fn classify(error: &AttemptError, is_update: bool) -> Class {
    match error {
        AttemptError::NotProcessed => Class::NotProcessed,
        AttemptError::Connect(_) | AttemptError::Timeout(_) | AttemptError::Lost(_) => {
            Class::Transient
        }
        AttemptError::Unreadable { .. } | AttemptError::Page { .. } if !is_update => {
            Class::Transient
        }
        AttemptError::Status(error) => match (error.status, error.retry_after) {
            // A page of a proxy says nothing about the token.
            (401, _) if error.origin == Origin::Api => Class::Unauthorized,
            (status, Some(wait)) if is_transient(status) => Class::RetryAfter(wait),
            (429, None) => Class::Refused,
            (status, None) if is_transient(status) => Class::Transient,
            _ => Class::Final,
        },
        AttemptError::Unreadable { .. }
        | AttemptError::Page { .. }
        | AttemptError::EmptyToken(_)
        | AttemptError::Certificate { .. }
        | AttemptError::Request(_) => Class::Final,
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextTry {
    /// Retry after this delay.
    Again(Duration),
    /// Do not retry.
    GiveUp,
}

/// The retries left for one request. Most requests need none, so the delays are created on first use.
#[derive(Debug)]
pub(super) struct Tries {
    left: u32,
    delays: Option<ExponentialBackoff>,
    refused_delays: Option<ExponentialBackoff>,
}

impl Tries {
    /// Allows this many tries after the first.
    pub(super) const fn new(retries: u32) -> Self {
        Self {
            left: retries,
            delays: None,
            refused_delays: None,
        }
    }

    /// Returns whether [`Tries::decide`] would give up.
    pub(super) const fn would_give_up(&self, class: Class) -> bool {
        matches!(class, Class::Final | Class::Unauthorized) || self.left == 0
    }

    /// Decides what to do after a failed attempt of this class. An unauthorized request needs a new token,
    /// not a delay.
    pub(super) fn decide(&mut self, class: Class) -> NextTry {
        if self.would_give_up(class) {
            return NextTry::GiveUp;
        }
        self.left -= 1;
        let (delays, growth, longest) = match class {
            // The pacer pauses all workers for that time, including this one.
            Class::RetryAfter(_) => return NextTry::Again(Duration::ZERO),
            Class::Refused => (
                &mut self.refused_delays,
                REFUSED_GROWTH,
                LONGEST_REFUSED_DELAY,
            ),
            _ => (&mut self.delays, GROWTH, LONGEST_DELAY),
        };
        let delays = delays.get_or_insert_with(|| exponential(growth, longest));
        NextTry::Again(delays.next_backoff().unwrap_or(longest))
    }
}

fn exponential(growth: f64, longest: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(FIRST_DELAY)
        .with_multiplier(growth)
        .with_max_interval(longest)
        .with_randomization_factor(JITTER)
        .with_max_elapsed_time(None)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigma::error::ApiError;

    fn status(status: u16, retry_after: Option<Duration>) -> AttemptError {
        AttemptError::Status(ApiError {
            status,
            retry_after,
            ..ApiError::default()
        })
    }

    #[test]
    fn every_status_has_its_class() {
        let wait = Duration::from_secs(7);
        for code in 300..=599 {
            let (plain, told) = match code {
                401 => (Class::Unauthorized, Class::Unauthorized),
                429 => (Class::Refused, Class::RetryAfter(wait)),
                501 | 505 => (Class::Final, Class::Final),
                408 | 425 | 500.. => (Class::Transient, Class::RetryAfter(wait)),
                _ => (Class::Final, Class::Final),
            };
            for is_update in [true, false] {
                assert_eq!(classify(&status(code, None), is_update), plain, "{code}");
                assert_eq!(
                    classify(&status(code, Some(wait)), is_update),
                    told,
                    "{code}"
                );
            }
        }
    }

    #[test]
    fn delays_grow_to_the_maximum_and_then_give_up() {
        for (class, growth, longest) in [
            (Class::Transient, GROWTH, LONGEST_DELAY),
            (Class::Refused, REFUSED_GROWTH, LONGEST_REFUSED_DELAY),
        ] {
            let mut tries = Tries::new(8);
            let mut base = FIRST_DELAY;
            for _ in 0..8 {
                let NextTry::Again(delay) = tries.decide(class) else {
                    panic!("gave up")
                };
                assert!(
                    delay >= base.mul_f64(1.0 - JITTER) && delay <= base.mul_f64(1.0 + JITTER),
                    "{delay:?}"
                );
                base = base.mul_f64(growth).min(longest);
            }
            assert_eq!(tries.decide(class), NextTry::GiveUp);
        }
    }

    #[test]
    fn retry_after_wait_is_left_to_the_pacer() {
        let wait = Duration::from_secs(42);
        assert_eq!(
            Tries::new(1).decide(Class::RetryAfter(wait)),
            NextTry::Again(Duration::ZERO)
        );
        assert_eq!(Tries::new(1).decide(Class::Final), NextTry::GiveUp);
    }
}
