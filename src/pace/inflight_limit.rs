//! The limit of requests in flight for an API that refuses for their number.
//!
//! Some APIs count the requests in flight, not the rate ("429 above about five at once"). A rate alone, however even,
//! can't stay below such a limit, because latencies vary and timers are late. There is no published method to follow.
//!
//! ```text
//!               recovered: as many as the refused request had beside it
//!   Unknown ───────────────────────────────────────────────────────────► AtMost(n)
//!                                                                         │  ▲  ▲
//!                                  all n are in use, and half a cycle is  │  │  │ refused within two latencies:
//!                                  over: step up by 1, 2, 4, … a second   ▼  │  │ the number was the cause, and
//!                                                                    Probing(n + step)   the rate stays as it was
//!                                                                            │
//!                                       refused later: the rate was the cause, and the limit is measured anew
//! ```
//!
//! - After a refusal the limit is the number of requests that were in flight beside the refused one, which is right or
//!   one too many. But it is never less than the known rate needs by Little's law, so that a rate limit is not taken for
//!   a limit of requests in flight.
//! - One more is tried as rarely as the rate is probed. Once that is accepted, the steps double, because then the limit
//!   has risen, or there was none.
//! - A refusal within two latencies of such a try is for the number, because a rate limit lets savings be spent first.

use std::time::Duration;

/// The mean latency is taken over about this many answers: enough to even out jitter, and few enough to be known after
/// the first second of a gentle start.
const ANSWERS: f64 = 16.0;

/// The number of requests that the rate needs varies with the latency, and relatively less the more there are. So a
/// sixteenth is added from sixteen on. Of fewer, it would be one too many.
const ROOM: usize = 16;

/// The time between two steps up, in seconds, once more requests were accepted: many times what a refusal takes.
const GROWS_EVERY: f64 = 1.0;

/// A refusal within this many latencies after a step up is for the number of requests.
const AT_ONCE_TURNS: f64 = 2.0;

/// What is known of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: the API has not refused for the number of requests.
    Unknown,
    /// At most this many requests may be in flight.
    AtMost(usize),
}

impl Known {
    /// Returns the smaller of this limit and `limit`.
    pub(super) fn min(self, limit: usize) -> usize {
        match self {
            Self::Unknown => limit,
            Self::AtMost(most) => most.min(limit),
        }
    }
}

/// A step up whose answer is not known yet.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The number of requests that was accepted before.
    accepted: usize,
    /// When the step was made, in seconds.
    since: f64,
}

/// Finds the number of requests in flight for which an API refuses.
#[derive(Clone, Copy, Debug)]
pub(super) struct InflightLimit {
    known: Known,
    /// How many requests were in flight beside the one that the API refused.
    refused_beside: Option<usize>,
    /// When the next step up may be made, in seconds.
    next_step_at: Option<f64>,
    /// The size of the next step.
    step: usize,
    probe: Option<Probe>,
    /// Whether the probe caused the refusal.
    is_probe_refused: bool,
    /// The mean latency, in seconds.
    latency: Option<f64>,
}

impl InflightLimit {
    /// Returns a limit that is not known yet.
    pub(super) const fn new() -> Self {
        Self {
            known: Known::Unknown,
            refused_beside: None,
            next_step_at: None,
            step: 1,
            probe: None,
            is_probe_refused: false,
            latency: None,
        }
    }

    /// Returns what is known of the limit.
    pub(super) const fn known(&self) -> Known {
        self.known
    }

    /// Records that a request was sent at `now`, so that `in_flight` are in flight.
    pub(super) fn sent(&mut self, now: f64, in_flight: usize) {
        // A step is made only when the limit is fully used.
        if let Known::AtMost(limit) = self.known
            && in_flight >= limit
            && self.next_step_at.is_some_and(|at| now >= at)
        {
            self.probe = Some(Probe {
                accepted: limit,
                since: now,
            });
            self.known = Known::AtMost(limit.saturating_add(self.step));
            self.step = self.step.saturating_mul(2);
            self.next_step_at = Some(now + GROWS_EVERY);
        }
    }

    /// Records that a request was answered after `latency`.
    pub(super) fn answered(&mut self, latency: Duration) {
        let latency = latency.as_secs_f64();
        self.latency = Some(match self.latency {
            Some(mean) => mean + (latency - mean) / ANSWERS,
            None => latency,
        });
    }

    /// Records that the API refused a request that was sent at `sent` beside `others`, for the first time since it last
    /// accepted one. `left` of these are still in flight. The number that the API saw is between the two: of few, each
    /// counts, and the tries of one more find out what was too many; of many, those that are left are closer.
    pub(super) fn refused(&mut self, sent: f64, others: usize, left: usize) {
        self.refused_beside = Some(if others < ROOM { others } else { left });
        let at_once = AT_ONCE_TURNS * self.latency.unwrap_or(0.0);
        self.is_probe_refused = self
            .probe
            .is_some_and(|probe| others >= probe.accepted && sent <= probe.since + at_once);
    }

    /// Records that the API refused another one of the requests that were in flight at the refusal.
    pub(super) fn refused_too(&mut self, others: usize) {
        if others < ROOM {
            let beside = self
                .refused_beside
                .map_or(others, |beside| beside.min(others));
            self.refused_beside = Some(beside);
        }
    }

    /// Takes the last step back at `now` if it caused the refusal, and returns whether it did. Then the refusal says
    /// nothing about the rate. The next step may come after `cycle` seconds.
    pub(super) fn takes_back(&mut self, now: f64, cycle: f64) -> bool {
        let Some(probe) = self.probe.take().filter(|_| self.is_probe_refused) else {
            return false;
        };
        self.known = Known::AtMost(probe.accepted);
        self.step = 1;
        self.next_step_at = Some(now + cycle);
        true
    }

    /// Records that the API accepts requests again at `now`, at `rate` requests a second. The next probe of the rate may
    /// come after `cycle` seconds.
    pub(super) fn recovered(&mut self, now: f64, rate: f64, cycle: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and a cast from a float saturates"
        )]
        let needed = (rate * self.latency.unwrap_or(0.0)).ceil() as usize;
        // A request that was alone was not refused for those beside it.
        if let Some(beside) = self.refused_beside.filter(|beside| *beside > 0) {
            let limit = beside.max(needed + needed / ROOM);
            self.known = Known::AtMost(self.known.min(limit));
        }
        // Before the rate is probed, because the limit must not hold that back.
        self.next_step_at = Some(now + cycle / 2.0);
        self.step = 1;
        self.probe = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(50);

    fn limited_to(beside: usize) -> InflightLimit {
        let mut limit = InflightLimit::new();
        limit.answered(LATENCY);
        limit.refused(1.0, beside, beside);
        limit.recovered(2.0, 1.0, 10.0);
        limit
    }

    #[test]
    fn it_is_unknown_until_a_request_beside_others_is_refused() {
        assert_eq!(InflightLimit::new().known(), Known::Unknown);
        assert_eq!(limited_to(0).known(), Known::Unknown);
        assert_eq!(limited_to(5).known(), Known::AtMost(5));
    }

    #[test]
    fn the_known_rate_is_never_held_back() {
        let mut limit = InflightLimit::new();
        limit.answered(LATENCY);
        limit.refused(1.0, 5, 5);
        // 400 requests a second of 50 ms each need 20 in flight, and 1 more for jitter.
        limit.recovered(2.0, 400.0, 10.0);
        assert_eq!(limit.known(), Known::AtMost(21));
    }

    #[test]
    fn steps_double_while_they_are_accepted() {
        let mut limit = limited_to(5);
        limit.sent(6.9, 5);
        assert_eq!(limit.known(), Known::AtMost(5), "half a cycle is not over");
        limit.sent(7.1, 4);
        assert_eq!(limit.known(), Known::AtMost(5), "it is not fully used");
        limit.sent(7.1, 5);
        assert_eq!(limit.known(), Known::AtMost(6));
        limit.sent(8.2, 6);
        assert_eq!(limit.known(), Known::AtMost(8));
    }

    #[test]
    fn only_a_refusal_right_after_a_step_is_for_the_number() {
        for (refused_after, is_cause) in [(0.09, true), (0.2, false)] {
            let mut limit = limited_to(5);
            limit.sent(7.1, 5);
            limit.refused(7.1 + refused_after, 5, 5);
            assert_eq!(limit.takes_back(8.0, 10.0), is_cause, "{refused_after}");
            if is_cause {
                assert_eq!(limit.known(), Known::AtMost(5));
            }
        }
    }
}
