//! What happens in a run, told twice: in the log (`info`, and `debug` for rows) and as events for programs. Messages and fields
//! keep their names, because people and programs search for them; `guide scheduling` lists them. The log has no emails.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::events::EventStream;
use super::progress::RateStatus;
use super::summary::Summary;
use super::totals::Totals;
use crate::model::RowOutcome;
use crate::store::journal::{Head, Sample};

/// A rate that differs from the one told last by more than this share is told again.
const RATE_CHANGE: f64 = 0.2;

/// Tells what happens in a session.
#[derive(Debug, Default)]
pub(crate) struct Story {
    events: EventStream,
    paused_since: Option<Instant>,
    outage: Option<(&'static str, Duration)>,
    rate: Option<f64>,
}

impl Story {
    /// Returns a story that is told to the log, and to these events.
    pub(crate) fn new(events: EventStream) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }

    /// Tells that a session starts.
    pub(crate) fn started(&self, head: &Head, run_dir: &str, is_resumed: bool) {
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(
            version,
            command = head.origin.command_line,
            host = head.base_url,
            organization = head.organization.as_deref().unwrap_or("unknown"),
            input_sha256 = head.input_sha256,
            rows = head.rows,
            dry_run = head.dry_run,
            resumed = is_resumed,
            run_dir,
            "run started"
        );
        if self.events.is_open() {
            let fields = json!({
                "version": version,
                "command": head.origin.command_line,
                "host": head.base_url,
                "organization_id": head.organization,
                "input": {"name": head.input, "sha256": head.input_sha256},
                "rows": head.rows,
                "dry_run": head.dry_run,
                "resumed": is_resumed,
                "run_dir": run_dir,
            });
            self.events.send("started", fields);
            self.events.flush();
        }
    }

    /// Tells that pauses and outages begin and end, and which rate limit was found.
    pub(crate) fn tick(&mut self, status: &RateStatus) {
        match (status.paused, self.paused_since) {
            (Some(paused), None) => {
                self.paused_since = Some(Instant::now());
                let seconds = paused.as_secs_f64();
                tracing::info!(seconds, "the API asks for a pause");
                self.events.send("paused", json!({"seconds": seconds}));
            }
            (None, Some(since)) => {
                self.paused_since = None;
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(seconds, "the pause is over");
                self.events.send("pause_over", json!({"seconds": seconds}));
            }
            _ => {}
        }
        // The gateway logs outages itself.
        match (status.outage, self.outage) {
            (Some((trouble, _)), None) => self.events.send("outage", json!({"trouble": trouble})),
            (None, Some((trouble, lasted))) => {
                let fields = json!({"trouble": trouble, "seconds": lasted.as_secs_f64()});
                self.events.send("outage_over", fields);
            }
            _ => {}
        }
        self.outage = status.outage;
        if let Some(rate) = status.rate {
            let is_new = (self.rate).is_none_or(|told| (rate / told - 1.0).abs() > RATE_CHANGE);
            if is_new {
                self.rate = Some(rate);
                let rounded = rate.round();
                tracing::info!(requests_per_second = rounded, "rate");
                self.events
                    .send("rate", json!({"requests_per_second": rounded}));
            }
        }
        self.events.flush();
    }

    /// Tells that a row has ended.
    pub(crate) fn row_ended(&self, line: u64, email: &str, row: &RowOutcome) {
        tracing::debug!(
            row = row.row,
            line,
            outcome = row.outcome.name(),
            status = row.status,
            attempts = row.attempts,
            "row ended"
        );
        if self.events.is_open() {
            let fields = json!({
                "row": row.row,
                "line": line,
                "email": email,
                "member_id": row.member_id,
                "outcome": row.outcome,
                "status": row.status,
                "attempts": row.attempts,
                "message": row.message,
            });
            self.events.send("row", fields);
        }
    }

    /// Tells how far the session is.
    pub(crate) fn progress(&self, sample: &Sample, rows: u64) {
        if self.events.is_open() {
            let fields = json!({
                "done": sample.rows,
                "failed": sample.failed,
                "rows": rows,
                "requests": sample.requests,
                "seconds": sample.seconds,
            });
            self.events.send("progress", fields);
        }
    }

    /// Tells how a session has ended.
    pub(crate) fn ended(&self, summary: &Summary, totals: &Totals) {
        let outcomes: Vec<String> = (summary.outcomes.iter())
            .filter(|(_, rows)| **rows > 0)
            .map(|(outcome, rows)| format!("{outcome}={rows}"))
            .collect();
        tracing::info!(
            stop = summary.stop,
            exit_code = summary.exit_code,
            rows = summary.rows,
            outcomes = outcomes.join(" "),
            requests = summary.requests.total,
            retries = summary.requests.retries,
            seconds = summary.elapsed_seconds,
            complete = totals.is_complete(),
            "run ended"
        );
        if self.events.is_open() {
            self.events.send("ended", json!({"summary": summary}));
            self.events.flush();
        }
    }
}
