//! The log of a run at `info`: what it would tell if it were asked. Fields keep their names, because people search for them;
//! `guide scheduling` lists them. There are no emails.

use std::time::Instant;

use super::progress::RateStatus;
use super::summary::Summary;
use super::totals::Totals;
use crate::model::RowOutcome;
use crate::store::journal::Head;

/// A rate that differs from the one logged last by more than this share is logged again.
const RATE_CHANGE: f64 = 0.2;

/// Logs how a session goes on.
#[derive(Debug, Default)]
pub(crate) struct Story {
    paused_since: Option<Instant>,
    rate: Option<f64>,
}

impl Story {
    /// Logs that pauses begin and end, and which rate limit was found.
    pub(crate) fn tick(&mut self, status: &RateStatus) {
        match (status.paused, self.paused_since) {
            (Some(paused), None) => {
                self.paused_since = Some(Instant::now());
                let seconds = paused.as_secs_f64();
                tracing::info!(seconds, "the API asks for a pause");
            }
            (None, Some(since)) => {
                self.paused_since = None;
                tracing::info!(seconds = since.elapsed().as_secs_f64(), "the pause is over");
            }
            _ => {}
        }
        let Some(rate) = status.rate else { return };
        let is_new = self
            .rate
            .is_none_or(|logged| (rate / logged - 1.0).abs() > RATE_CHANGE);
        if is_new {
            self.rate = Some(rate);
            tracing::info!(requests_per_second = rate.round(), "rate");
        }
    }
}

/// Logs the start of a session.
pub(crate) fn started(head: &Head, run_dir: &str, is_resumed: bool) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
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
}

/// Logs the end of a row.
pub(crate) fn row_ended(line: u64, row: &RowOutcome) {
    tracing::debug!(
        row = row.row,
        line,
        outcome = row.outcome.name(),
        status = row.status,
        attempts = row.attempts,
        "row ended"
    );
}

/// Logs the end of a session.
pub(crate) fn ended(summary: &Summary, totals: &Totals) {
    let outcomes: Vec<String> = summary
        .outcomes
        .iter()
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
}
