//! How much of the allowed rate is used. A rate that is not used is not tested, and does not grow.

use super::{AllowedRate, MARGIN};

/// How long the use of the rate is measured before it is judged, in seconds and in requests due. That is
/// longer than a timer tick, and enough requests to tell three quarters of the rate from all of it.
pub(super) const USE_SECONDS: f64 = 0.05;

const USE_REQUESTS: f64 = 4.0;

/// A rate used less than this isn't tested, so it doesn't grow (like an unused congestion window, RFC 7661).
/// The value lies between one half (demand halves) and all (jitter).
const USED: f64 = 0.75;

/// The number of requests over which the used share of the rate is remembered. One more or less is half a
/// margin.
const USE_MEMORY: f64 = 2.0 / MARGIN;

/// The time over which [`Usage::average`] averages, in seconds: half of the shortest window in which edges count requests
/// for a ban (10 s).
const AVERAGE_SECONDS: f64 = 5.0;

/// How much of the allowed rate is used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) since: f64,
    pub(super) last_sent: f64,
    pub(super) sent: f64,
    pub(super) due: f64,
    /// Requests a second in the last span measured.
    pub(super) rate: f64,
    /// The requests sent and the requests due, over about the last [`USE_MEMORY`] requests.
    pub(super) recent: (f64, f64),
    /// The requests of about the last [`AVERAGE_SECONDS`], and when the first one was sent.
    weight: f64,
    first_sent: Option<f64>,
}

impl Usage {
    /// Counts a request sent at `now`. `rate` is the rate allowed before it, in requests per second. Returns
    /// whether there is enough data to judge the use.
    pub(super) fn sent(&mut self, now: f64, rate: AllowedRate) -> bool {
        self.sent += 1.0;
        let since_last = (now - self.last_sent).max(0.0);
        self.weight = self.weight * (-since_last / AVERAGE_SECONDS).exp() + 1.0;
        self.first_sent.get_or_insert(now);
        if let AllowedRate::PerSecond(rate) = rate {
            let due = (now - self.last_sent) * rate;
            self.due += due;
            let kept = 1.0 - 1.0 / USE_MEMORY;
            self.recent = (self.recent.0 * kept + 1.0, self.recent.1 * kept + due);
        }
        self.last_sent = now;
        now - self.since >= USE_SECONDS
            && (self.due >= USE_REQUESTS || rate == AllowedRate::Unlimited)
    }

    /// Returns the average of the requests per second before `now`, which fades over [`AVERAGE_SECONDS`].
    pub(super) fn average(&self, now: f64) -> f64 {
        // At the start there is less to average over.
        let elapsed = (now - self.first_sent.unwrap_or(now)).max(USE_SECONDS);
        let covered = 1.0 - (-elapsed / AVERAGE_SECONDS).exp();
        self.weight / (AVERAGE_SECONDS * covered)
    }

    /// Returns whether the rate was used. Tolerates one request, which depends on where the span begins.
    pub(super) fn is_used(&self) -> bool {
        self.sent + 1.0 >= USED * self.due
    }

    /// Returns the share of the rate that was used recently. A shortfall of less than a margin counts as
    /// jitter.
    pub(super) fn share(&self) -> f64 {
        let (sent, due) = self.recent;
        if sent >= (1.0 - MARGIN) * due {
            1.0
        } else {
            sent / due
        }
    }

    pub(super) fn restart(&mut self, now: f64) {
        if now > self.since && self.sent > 0.0 {
            self.rate = self.sent / (now - self.since);
        }
        self.since = now;
        self.sent = 0.0;
        self.due = 0.0;
    }
}
