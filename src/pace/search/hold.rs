//! The pause after a refusal, and the single trial at its end.

/// The hold after a refusal: nothing is sent until the pause is over, then one trial at a time until one is
/// accepted.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// When the first refusal arrived.
    pub(super) began: f64,
    /// When the trial may be sent.
    pub(super) until: f64,
    /// When the last refusal arrived. Up to then, the pause was certainly necessary.
    pub(super) last_refusal: f64,
    /// The rate that was refused.
    pub(super) refused_rate: f64,
    /// Whether the API sent a `Retry-After`.
    pub(super) told: bool,
    /// The number of requests in flight since before the hold.
    pub(super) stragglers: usize,
    /// When the trial in flight was sent.
    pub(super) trial: Option<f64>,
}

impl Hold {
    /// Records the return of a request sent at `sent`. Returns whether it is the trial. Nothing is sent
    /// between the refusal and the trial, so the midpoint tells them apart, however the latency was rounded.
    pub(super) fn returns(&mut self, sent: f64) -> bool {
        let trial = self
            .trial
            .is_some_and(|trial| sent >= f64::midpoint(self.began, trial));
        if trial {
            self.trial = None;
        } else {
            self.stragglers = self.stragglers.saturating_sub(1);
        }
        trial
    }
}
