//! The progress of a run: a bar on a terminal, and a plain line now and then without one.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::output::{Output, count, grouped, span};

/// Without a terminal, the time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the bar is drawn at most.
const DRAWS_PER_SECOND: u8 = 10;
/// The rows per second are averaged over about this many seconds.
const SMOOTHING: f64 = 5.0;

/// The state of the requests, which is shown beside the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateStatus {
    /// What holds all requests, and how long it has lasted.
    pub outage: Option<(&'static str, Duration)>,
    /// The number of retries.
    pub retries: u64,
    /// The rate limit in force, in requests a second.
    pub rate: Option<f64>,
    /// The limit of requests in flight, if it is lower than the configured one.
    pub inflight_limit: Option<usize>,
    /// How long the pause that the API asked for still lasts.
    pub paused: Option<Duration>,
}

/// Shows the progress of a run.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    lines: bool,
    output: Output,
    total: u64,
    done: u64,
    skipped: u64,
    failures: u64,
    began: Instant,
    last_line: Instant,
    last: (Instant, u64),
    rows_per_second: Option<f64>,
}

impl ProgressDisplay {
    /// Returns a display of `total` rows: with a bar, with lines, or with neither.
    pub(crate) fn new(output: Output, total: u64, bar: bool, lines: bool) -> Self {
        let bar = bar.then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(total),
                ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            );
            // `wide_msg` is cut at the terminal's width, so that the bar stays on one line.
            // The template is a constant. If it were wrong, the default style would do.
            if let Ok(style) =
                ProgressStyle::with_template("{bar:16.green/dim} {percent:>3}% {wide_msg}")
            {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        output.set_bar(bar.clone());
        let now = Instant::now();
        Self {
            bar,
            lines,
            output,
            total,
            done: 0,
            skipped: 0,
            failures: 0,
            began: now,
            last_line: now,
            last: (now, 0),
            rows_per_second: None,
        }
    }

    /// Sets the number of rows that earlier sessions have finished.
    pub(crate) const fn skip(&mut self, rows: u64) {
        self.skipped = rows;
    }

    /// Counts a row that has ended.
    pub(crate) const fn row(&mut self, failed: bool) {
        self.done += 1;
        if failed {
            self.failures += 1;
        }
    }

    /// Updates the display.
    pub(crate) fn tick(&mut self, status: &RateStatus) {
        if self.bar.is_none() && !self.lines {
            return;
        }
        let now = Instant::now();
        self.measure(now);
        if let Some(bar) = &self.bar {
            bar.set_position(self.skipped + self.done);
            bar.set_message(self.text(status));
        } else if now - self.last_line >= LINE_EVERY {
            self.last_line = now;
            self.output.note(self.text(status));
        }
    }

    /// Averages the rows per second, with more weight on the last few seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate that is shown with one decimal"
    )]
    fn measure(&mut self, now: Instant) {
        let seconds = (now - self.last.0).as_secs_f64();
        if seconds < 0.2 {
            return;
        }
        let rate = (self.done - self.last.1) as f64 / seconds;
        self.last = (now, self.done);
        let weight = (seconds / SMOOTHING).min(1.0);
        self.rows_per_second = Some(
            self.rows_per_second
                .map_or(rate, |before| before + weight * (rate - before)),
        );
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a time that is shown in seconds"
    )]
    fn text(&self, status: &RateStatus) -> String {
        let mut text = format!(
            "{} of {}",
            grouped(self.skipped + self.done),
            count(self.total, "row")
        );
        if let Some((what, lasts)) = status.outage {
            // Whole seconds, and nothing else: a narrow terminal cuts the end of the line.
            let seconds = lasts.as_secs_f64().round();
            let _ = write!(text, "  {what} for {}", span(seconds));
            return text;
        }
        if let Some(rate) = self.rows_per_second {
            let _ = write!(text, "  {rate:.0}/s");
            // The speed of the whole session predicts the rest better than that of the last second.
            let left = self.total.saturating_sub(self.skipped + self.done);
            let elapsed = self.began.elapsed().as_secs_f64();
            let speed = self.done as f64 / elapsed;
            if self.done > 0 && left > 0 && elapsed >= 2.0 {
                let _ = write!(text, "  {} left", span(left as f64 / speed));
            }
        }
        if self.failures > 0 {
            let _ = write!(text, "  {} failed", grouped(self.failures));
        }
        if status.retries > 0 {
            let _ = write!(text, "  {} retried", grouped(status.retries));
        }
        if let Some(paused) = status.paused {
            let _ = write!(
                text,
                "  paused {} by the API",
                span(paused.as_secs_f64().ceil())
            );
            return text;
        }
        let rate = status.rate.map(|rate| format!("{rate:.0} requests/s"));
        let inflight = status
            .inflight_limit
            .map(|number| format!("{number} at once"));
        let most: Vec<String> = rate.into_iter().chain(inflight).collect();
        if !most.is_empty() {
            let _ = write!(text, "  at most {}", most.join(", "));
        }
        text
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.output.set_bar(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a narrow terminal the end of the line is cut, so that what holds the run comes first.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_shown_beside_the_rows() {
        let mut progress = ProgressDisplay::new(Output::default(), 3000, false, false);
        progress.skip(832);
        progress.rows_per_second = Some(59.0);
        let status = RateStatus {
            outage: Some(("API unreachable", Duration::from_millis(12_400))),
            retries: 3,
            ..RateStatus::default()
        };
        let text = progress.text(&status);
        assert_eq!(text, "832 of 3,000 rows  API unreachable for 12 s");
    }
}
