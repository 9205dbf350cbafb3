//! Whether a request is tried again, and after how long. Pure: nothing sleeps here.
//!
//! The delays are those of the `backoff` crate's `ExponentialBackoff` and of nothing else of it, so that changing
//! the crate is a change of this file.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::sigma::AttemptError;

/// The first delay: long enough for a brief overload to pass.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Each delay is so many times the one before.
const GROWTH: f64 = 2.0;
/// The same after refusals for being too much, where the API names no time: then five tries outlast the longest usual
/// window of a rate limit, a minute, even if there is no other row to try in the meantime.
const REFUSED_GROWTH: f64 = 4.0;
/// No delay after such a refusal is longer, but for its jitter: that window.
const LONGEST_REFUSED_DELAY: Duration = Duration::from_secs(60);
/// No delay is longer, but for its jitter.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Each delay varies by this part to both sides, so that workers that failed together do not come back together.
const JITTER: f64 = 0.5;

/// What a failed attempt means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Another try may do better.
    Transient,
    /// It was too much (429), and the API named no time to wait.
    Refused,
    /// The API named the time for which all workers pause.
    RetryAfter(Duration),
    /// The token is not taken: another one may be.
    Unauthorized,
    /// Another try changes nothing.
    Final,
}

/// Whether another try may be answered otherwise than with this status.
#[must_use]
pub const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The class of a failed attempt.
///
/// Tried again are 408, 429, 500, 502, 503, 504, connections that fail or are lost, and timeouts. An answer of 2xx
/// that can't be read is asked for again if it changed nothing; an update is settled by reading the member.
#[must_use]
pub fn classify(error: &AttemptError, is_update: bool) -> Class {
    match error {
        AttemptError::Connect(_) | AttemptError::Timeout(_) | AttemptError::Lost(_) => {
            Class::Transient
        }
        AttemptError::Unreadable { .. } if !is_update => Class::Transient,
        AttemptError::Status(error) => match (error.status, error.retry_after) {
            (401, _) => Class::Unauthorized,
            (status, Some(wait)) if is_transient(status) => Class::RetryAfter(wait),
            (429, None) => Class::Refused,
            (status, None) if is_transient(status) => Class::Transient,
            _ => Class::Final,
        },
        AttemptError::Unreadable { .. }
        | AttemptError::Certificate(_)
        | AttemptError::Request(_) => Class::Final,
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this.
    Again(Duration),
    /// It stays failed.
    GiveUp,
}

/// The tries of one request. Most requests need no further one, so that the delays are made when they are.
#[derive(Debug)]
pub struct Tries {
    left: u32,
    delays: Option<ExponentialBackoff>,
    refused_delays: Option<ExponentialBackoff>,
}

impl Tries {
    /// So many tries after the first.
    #[must_use]
    pub const fn new(retries: u32) -> Self {
        Self {
            left: retries,
            delays: None,
            refused_delays: None,
        }
    }

    /// What to do after an attempt that failed so. (What an unauthorized one needs is a token, not a delay.)
    pub fn decide(&mut self, class: Class) -> Decision {
        if matches!(class, Class::Final | Class::Unauthorized) || self.left == 0 {
            return Decision::GiveUp;
        }
        self.left -= 1;
        let (delays, growth, longest) = match class {
            // The pacer holds all workers for so long, this one too.
            Class::RetryAfter(_) => return Decision::Again(Duration::ZERO),
            Class::Refused => (
                &mut self.refused_delays,
                REFUSED_GROWTH,
                LONGEST_REFUSED_DELAY,
            ),
            _ => (&mut self.delays, GROWTH, LONGEST_DELAY),
        };
        let delays = delays.get_or_insert_with(|| exponential(growth, longest));
        Decision::Again(delays.next_backoff().unwrap_or(longest))
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
    use std::fmt::Write as _;

    use super::*;
    use crate::sigma::ApiError;

    fn status(status: u16, retry_after: Option<Duration>) -> AttemptError {
        AttemptError::Status(ApiError {
            status,
            code: None,
            message: "".into(),
            request_id: None,
            retry_after,
        })
    }

    #[test]
    fn every_status_has_its_class() {
        let mut text = String::new();
        for code in 300..=599 {
            let class = classify(&status(code, None), true);
            assert_eq!(class, classify(&status(code, None), false));
            if class != Class::Final {
                let wait = Duration::from_secs(7);
                let again = classify(&status(code, Some(wait)), true);
                let _ = writeln!(text, "{code} {class:?}, with Retry-After {again:?}");
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn delays_grow_and_end() {
        for (class, growth, longest) in [
            (Class::Transient, GROWTH, LONGEST_DELAY),
            (Class::Refused, REFUSED_GROWTH, LONGEST_REFUSED_DELAY),
        ] {
            let mut tries = Tries::new(8);
            let mut base = FIRST_DELAY;
            for _ in 0..8 {
                let Decision::Again(delay) = tries.decide(class) else {
                    panic!("gave up")
                };
                assert!(
                    delay >= base.mul_f64(1.0 - JITTER) && delay <= base.mul_f64(1.0 + JITTER),
                    "{delay:?}"
                );
                base = base.mul_f64(growth).min(longest);
            }
            assert_eq!(tries.decide(class), Decision::GiveUp);
        }
    }

    #[test]
    fn what_the_api_asks_for_is_the_pacers_to_wait() {
        let wait = Duration::from_secs(42);
        assert_eq!(
            Tries::new(1).decide(Class::RetryAfter(wait)),
            Decision::Again(Duration::ZERO)
        );
        assert_eq!(Tries::new(1).decide(Class::Final), Decision::GiveUp);
    }
}
