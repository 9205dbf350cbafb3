//! Statistics: the counters that tests and benchmarks read, and an optional log of arrivals and PATCH
//! requests. This module only counts; `routes` reports the events.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::faults::Endpoint;

/// The statistics since the start. Times are durations since the start.
///
/// A client that abandons a request may send the next one before the sandbox notices the disconnect.
/// During that moment both requests count as in flight.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// The number of requests by endpoint.
    pub requests: BTreeMap<Endpoint, u64>,
    /// The number of responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The requests without a response: the sandbox closed the connection or never answered, or the client
    /// gave up.
    pub unanswered: u64,
    /// The PATCH requests that were applied, whatever the response was.
    pub applied: u64,
    /// The highest number of requests in flight at once, excluding token requests.
    pub peak_in_flight: usize,
    /// The highest number of PATCH requests in flight at once for one member.
    pub peak_in_flight_one_member: usize,
    /// The 429 responses that the rate limit caused.
    pub refused_by_rate_limit: u64,
    /// The 429 responses that the concurrency limit caused.
    pub refused_by_concurrency: u64,
    /// The 429 responses of a ban.
    pub refused_by_ban: u64,
    /// The number of injected faults.
    pub faults: u64,
    /// The number of accepted connections.
    pub connections: u64,
    /// The times of the token requests.
    #[serde(serialize_with = "as_count")]
    pub token_calls: Vec<Duration>,
    /// The arrival times of requests, excluding token requests. Recorded only with
    /// [`record_patches`](super::Config::record_patches).
    #[serde(skip)]
    pub arrivals: Vec<Duration>,
    /// The PATCH requests in order of arrival. Recorded only with
    /// [`record_patches`](super::Config::record_patches).
    #[serde(skip)]
    pub patches: Vec<PatchRecord>,
}

impl Stats {
    /// Returns the number of requests to an endpoint.
    #[must_use]
    pub fn requests_to(&self, endpoint: Endpoint) -> u64 {
        self.requests.get(&endpoint).copied().unwrap_or_default()
    }

    /// Returns the number of responses with a status.
    #[must_use]
    pub fn answered(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }
}

/// One PATCH request.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchRecord {
    /// The id of the member in the request's path.
    pub member_id: String,
    /// The body of the request, or a string if it wasn't JSON.
    pub body: Value,
    /// The status of the response, or `None` if there is no response yet.
    pub status: Option<u16>,
    /// Whether the request was applied.
    pub applied: bool,
    /// The arrival time.
    pub at: Duration,
}

/// Serializes the times as their number, because the list can be long.
#[expect(
    clippy::ptr_arg,
    reason = "serde hands over the field as it is declared"
)]
fn as_count<S: serde::Serializer>(times: &Vec<Duration>, to: S) -> Result<S::Ok, S::Error> {
    times.len().serialize(to)
}

/// Updates the statistics.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) stats: Stats,
    started: Instant,
    recording: bool,
    in_flight: usize,
    /// The number of PATCH requests in flight by member. Entries are removed at zero to keep the map small.
    patching: HashMap<Box<str>, usize>,
}

/// The tally's record of a request in flight.
#[derive(Debug)]
pub(super) struct Ticket {
    endpoint: Endpoint,
    patched: Option<Box<str>>,
    /// The request's index in `Stats::patches`.
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

    /// Records the arrival of a request. `patch` holds the member id and the body of a PATCH request.
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

    /// Records that a request was applied.
    pub(super) fn apply(&mut self, ticket: &Ticket) {
        if ticket.patched.is_none() {
            return;
        }
        self.stats.applied += 1;
        if let Some(record) = self.record(ticket) {
            record.applied = true;
        }
    }

    /// Records the end of a request, with or without a response.
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
