//! What happened: the counts that tests and benchmarks read, and, when asked for, the log of
//! arrivals and PATCH requests. Counting is all it does; `routes` says when.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

use super::faults::Endpoint;

/// What happened since the start. Times are durations since then.
///
/// A client that gives up on a request may send the next one before the sandbox has noticed that
/// it left; for that moment both count as under way.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Requests by endpoint.
    pub requests: BTreeMap<Endpoint, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that never got an answer: cut, hanging until the end, or given up by the client.
    pub unanswered: u64,
    /// PATCH requests that took effect, whatever the client was told.
    pub applied: u64,
    /// The most requests under way at once, signing in aside.
    pub peak_in_flight: usize,
    /// The most PATCH requests of one member under way at once.
    pub peak_in_flight_one_member: usize,
    /// 429s for the rate.
    pub refused_by_rate_limit: u64,
    /// 429s for too many at once.
    pub refused_by_concurrency: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Connections accepted.
    pub connections: u64,
    /// When tokens were asked for.
    #[serde(serialize_with = "as_count")]
    pub token_calls: Vec<Duration>,
    /// When requests arrived, signing in aside; only with [`record_patches`](super::Config::record_patches).
    #[serde(skip)]
    pub arrivals: Vec<Duration>,
    /// The PATCH requests in order of arrival; only with [`record_patches`](super::Config::record_patches).
    #[serde(skip)]
    pub patches: Vec<PatchRecord>,
}

impl Stats {
    /// How many requests an endpoint had.
    #[must_use]
    pub fn requests_to(&self, endpoint: Endpoint) -> u64 {
        self.requests.get(&endpoint).copied().unwrap_or_default()
    }

    /// How often a status was answered.
    #[must_use]
    pub fn answered(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }
}

/// One PATCH.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchRecord {
    /// Whom it was meant for.
    pub member_id: String,
    /// What it said; a string if it wasn't JSON.
    pub body: Value,
    /// What was answered; `None` as long as nothing was.
    pub status: Option<u16>,
    /// Whether it took effect.
    pub applied: bool,
    /// When it arrived.
    pub at: Duration,
}

/// Times are many: the JSON tells how many.
#[expect(
    clippy::ptr_arg,
    reason = "serde hands over the field as it is declared"
)]
fn as_count<S: serde::Serializer>(times: &Vec<Duration>, to: S) -> Result<S::Ok, S::Error> {
    times.len().serialize(to)
}

/// Keeps the counts.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) stats: Stats,
    started: Instant,
    recording: bool,
    in_flight: usize,
    /// PATCH requests under way by member; entries leave at zero, so it stays small.
    patching: HashMap<Box<str>, usize>,
}

/// A request under way, as the tally knows it.
#[derive(Debug)]
pub(super) struct Ticket {
    endpoint: Endpoint,
    patched: Option<Box<str>>,
    /// Its place in the log.
    record: Option<usize>,
}

impl Tally {
    pub(super) fn new(started: Instant, recording: bool) -> Self {
        Self {
            stats: Stats::default(),
            started,
            recording,
            in_flight: 0,
            patching: HashMap::new(),
        }
    }

    /// A request arrives; a PATCH with whom it's for and what it says.
    pub(super) fn arrive(
        &mut self,
        endpoint: Endpoint,
        patch: Option<(&str, &[u8])>,
        now: Instant,
    ) -> Ticket {
        let at = now.saturating_duration_since(self.started);
        *self.stats.requests.entry(endpoint).or_default() += 1;
        if endpoint == Endpoint::Token {
            self.stats.token_calls.push(at);
        } else {
            self.in_flight += 1;
            self.stats.peak_in_flight = self.stats.peak_in_flight.max(self.in_flight);
            if self.recording {
                self.stats.arrivals.push(at);
            }
        }
        let mut ticket = Ticket {
            endpoint,
            patched: None,
            record: None,
        };
        if let Some((member, body)) = patch {
            let here = self.patching.entry(member.into()).or_default();
            *here += 1;
            self.stats.peak_in_flight_one_member = self.stats.peak_in_flight_one_member.max(*here);
            ticket.patched = Some(member.into());
            if self.recording {
                ticket.record = Some(self.stats.patches.len());
                self.stats.patches.push(PatchRecord {
                    member_id: member.to_owned(),
                    body: serde_json::from_slice(body)
                        .unwrap_or_else(|_| String::from_utf8_lossy(body).into()),
                    status: None,
                    applied: false,
                    at,
                });
            }
        }
        ticket
    }

    /// A request takes effect.
    pub(super) fn apply(&mut self, ticket: &Ticket) {
        if ticket.patched.is_none() {
            return;
        }
        self.stats.applied += 1;
        if let Some(record) = self.record(ticket) {
            record.applied = true;
        }
    }

    /// A request ends, with an answer or without one.
    pub(super) fn leave(&mut self, ticket: &Ticket, status: Option<u16>) {
        if ticket.endpoint != Endpoint::Token {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        match status {
            Some(status) => *self.stats.statuses.entry(status).or_default() += 1,
            None => self.stats.unanswered += 1,
        }
        if let Some(record) = self.record(ticket) {
            record.status = status;
        }
        if let Some(member) = &ticket.patched
            && let Some(here) = self.patching.get_mut(member)
        {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.patching.remove(member);
            }
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn record(&mut self, ticket: &Ticket) -> Option<&mut PatchRecord> {
        self.stats.patches.get_mut(ticket.record?)
    }
}
