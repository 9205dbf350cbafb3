//! How many requests may be under way before the API refuses for that.
//!
//! Some APIs count the requests under way, not the rate ("429 above about five at once"). A rate alone, however even, can't
//! stay below such a limit: latencies vary, and timers are late. There is no published method to follow. At each refusal
//! as many are allowed as the refused one had beside it, which is right or one too many; but never less than the rate that
//! is known to be borne needs, by Little's law, so that a limit of the rate is not taken for one of the number. One more is
//! tried as rarely as the rate is probed; and once that is borne, ever more, for then the limit has risen or was none. A
//! refusal within two latencies of such a try is for the number, for a limit of the rate lets savings be spent first; then
//! the rate stays as it was.

use std::time::Duration;

/// The latency that the crowd counts with is the mean of about so many answers: enough to even out its jitter, few enough to
/// be known after the gentle start's first second.
const ANSWERS: f64 = 16.0;

/// What the rate needs varies with the latency, by less the more there are: so a sixteenth is added from sixteen on. Of few,
/// it would be one too many.
const ROOM: usize = 16;

/// How often more may be under way, in seconds, once more were borne: many times what it takes to be told otherwise.
const GROWS_EVERY: f64 = 1.0;

/// A refusal within so many latencies after more were let go is for their number.
const AT_ONCE_TURNS: f64 = 2.0;

/// The number that an API refuses for; unknown until it refuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    /// As many may be under way; `usize::MAX`: no such limit is known.
    most: usize,
    /// Beside how many others was sent what the API refused.
    refused_at: usize,
    /// When more may be tried, and how many.
    more_at: f64,
    step: usize,
    /// While more are tried: how many were borne, and since when.
    borne: Option<(usize, f64)>,
    /// Whether it was these that were refused.
    is_cause: bool,
    /// The mean latency, in seconds; 0: none is known.
    latency: f64,
}

impl Crowd {
    /// None is known.
    pub(super) const fn new() -> Self {
        Self {
            most: usize::MAX,
            refused_at: usize::MAX,
            more_at: f64::INFINITY,
            step: 1,
            borne: None,
            is_cause: false,
            latency: 0.0,
        }
    }

    /// As many may be under way; `usize::MAX` if no such limit is known.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// A request went out at `now`, with which so many are under way.
    pub(super) fn sent(&mut self, now: f64, under_way: usize) {
        // Only when so many are really used: an allowance that isn't needs no more.
        if under_way >= self.most && now >= self.more_at {
            self.borne = Some((self.most, now));
            self.most = self.most.saturating_add(self.step);
            self.step = self.step.saturating_mul(2);
            self.more_at = now + GROWS_EVERY;
        }
    }

    /// A request was answered after `latency`.
    pub(super) fn answered(&mut self, latency: Duration) {
        let latency = latency.as_secs_f64();
        self.latency = if self.latency > 0.0 {
            self.latency + (latency - self.latency) / ANSWERS
        } else {
            latency
        };
    }

    /// The API refused what was sent at `sent`, for the first time since it last accepted, beside so many others, of whom so
    /// many are left. Those that it arrived beside are in between: of few, each counts, and the tries of one more find out
    /// what was too many; of many, those that are left are closer.
    pub(super) fn refused(&mut self, sent: f64, others: usize, left: usize) {
        self.refused_at = if others < ROOM { others } else { left };
        // A limit of the number tells at once, one of the rate only when what was saved up is spent.
        self.is_cause = self.borne.is_some_and(|(borne, since)| {
            others >= borne && sent <= since + AT_ONCE_TURNS * self.latency
        });
    }

    /// It refused another one of those that were sent before it was known to refuse.
    pub(super) fn refused_too(&mut self, others: usize) {
        if others < ROOM {
            self.refused_at = self.refused_at.min(others);
        }
    }

    /// It accepts again, and the refusal was for more than were known to be borne: then it says nothing of the rate. The
    /// next probe may come after `cycle` seconds.
    pub(super) fn takes_back(&mut self, now: f64, cycle: f64) -> bool {
        let Some((borne, _)) = self.borne.take().filter(|_| self.is_cause) else {
            return false;
        };
        self.most = borne;
        self.step = 1;
        self.more_at = now + cycle;
        true
    }

    /// It accepts again. It bears `rate`, and the next probe may come after `cycle` seconds.
    pub(super) fn recovered(&mut self, now: f64, rate: f64, cycle: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and a cast from a float saturates"
        )]
        let needed = (rate * self.latency).ceil() as usize;
        // A request that was alone was not refused for its company.
        if self.refused_at > 0 {
            self.most = self.most.min(self.refused_at.max(needed + needed / ROOM));
        }
        // Before the rate is probed: the number must not hold that back.
        self.more_at = now + cycle / 2.0;
        self.step = 1;
        self.borne = None;
    }
}
