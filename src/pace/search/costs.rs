//! What probes cost, and how soon the next one may be paid for.

/// The share of a run's requests that may be refused: the goal's 1%, less a fifth for the refusals of a probe
/// that is still running when the total is computed.
const REFUSED_BUDGET: f64 = 0.008;

/// The number of requests over which the refused share is remembered. It is long enough to repay the
/// discovery of the smallest limit (20 refusals are 0.1%), and short enough that an hour without refusals
/// doesn't allow a minute full of them.
const BUDGET_MEMORY: f64 = 20_000.0;

/// The shortest time from a refusal back to the limit, in seconds. A probe comes 1 to 1.4 times this after
/// the last one. A rising limit is thus noticed within 17 s if refusals cost next to nothing, and no API is
/// probed every second.
const SHORTEST_CYCLE: f64 = 12.0;

/// The share of its time that a run may lose in pauses. Together with the cubic's 0.75% and the usual shade
/// of 1%, it stays within the goal's 5%. In the simulations, 2% reached 2 points less of an alternating
/// limit, and 4% missed the goal in windows of 1 s.
pub(super) const TIME_BUDGET: f64 = 0.03;

/// The longest time from a refusal back to the limit, in seconds. Whatever a probe costs, a risen limit is
/// noticed within 5 to 7 minutes.
pub(in crate::pace) const LONGEST_CYCLE: f64 = 300.0;

/// The cost of the last probe and of the whole run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Costs {
    /// Seconds lost since the last cruise began.
    pub(super) time: f64,
    /// Requests refused since the last cruise began.
    pub(super) refused: f64,
    /// Requests sent. Older ones fade out over [`BUDGET_MEMORY`].
    pub(super) all_sent: f64,
    /// Requests refused. Older ones fade out over [`BUDGET_MEMORY`].
    pub(super) all_refused: f64,
}

impl Costs {
    pub(super) fn sent(&mut self) {
        self.all_sent += 1.0;
        if self.all_sent > BUDGET_MEMORY {
            self.all_sent /= 2.0;
            self.all_refused /= 2.0;
        }
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1.0;
        self.all_refused += 1.0;
    }

    /// Returns the seconds after which the budget allows a probe like the last one, at `rate` requests per
    /// second.
    pub(super) fn cycle(&self, rate: f64) -> f64 {
        let earns = REFUSED_BUDGET * rate;
        let debt = self.all_refused - REFUSED_BUDGET * self.all_sent;
        (self.time / TIME_BUDGET)
            .max(self.refused / earns)
            .max(debt / earns)
            .clamp(SHORTEST_CYCLE, LONGEST_CYCLE)
    }
}
