//! The bar on a terminal, and a plain line now and then without one.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::output::{Output, count, grouped, span};

/// Without a terminal, a line so often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The bar is drawn so often at most.
const DRAWS_PER_SECOND: u8 = 10;
/// The rows a second that are shown are those of about so many seconds.
const SMOOTHING: f64 = 5.0;

/// What is shown beside the rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Further tries.
    pub retries: u64,
    /// The rate in force, in requests a second.
    pub rate: Option<f64>,
    /// The requests that may be under way, if they are fewer than was asked for.
    pub at_once: Option<usize>,
    /// How long the API's pause still lasts.
    pub paused: Option<Duration>,
}

/// How a running job is shown.
#[derive(Debug)]
pub struct Progress {
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

impl Progress {
    /// Shows `total` rows: with a bar, with lines, or not at all.
    #[must_use]
    pub fn new(output: Output, total: u64, bar: bool, lines: bool) -> Self {
        let bar = bar.then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(total),
                ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            );
            // The template is a constant, and the default is no worse than an end.
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24.green/dim} {percent:>3}% {msg}")
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

    /// So many rows were done before.
    pub const fn skip(&mut self, rows: u64) {
        self.skipped = rows;
    }

    /// A row has ended.
    pub const fn row(&mut self, failed: bool) {
        self.done += 1;
        if failed {
            self.failures += 1;
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, vitals: &Vitals) {
        if self.bar.is_none() && !self.lines {
            return;
        }
        let now = Instant::now();
        self.measure(now);
        if let Some(bar) = &self.bar {
            bar.set_position(self.skipped + self.done);
            bar.set_message(self.text(vitals));
        } else if now - self.last_line >= LINE_EVERY {
            self.last_line = now;
            self.output.note(self.text(vitals));
        }
    }

    /// Rows a second, of the last few seconds more than of those before.
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
    fn text(&self, vitals: &Vitals) -> String {
        let mut text = format!(
            "{} of {}",
            grouped(self.skipped + self.done),
            count(self.total, "row")
        );
        if let Some(rate) = self.rows_per_second {
            let _ = write!(text, "  {rate:.0}/s");
            // The whole run's speed tells better what is left than the last second's.
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
        if vitals.retries > 0 {
            let _ = write!(text, "  {} retried", grouped(vitals.retries));
        }
        if let Some(paused) = vitals.paused {
            let _ = write!(
                text,
                "  paused {} by the API",
                span(paused.as_secs_f64().ceil())
            );
            return text;
        }
        let rate = vitals.rate.map(|rate| format!("{rate:.0} requests/s"));
        let at_once = vitals.at_once.map(|number| format!("{number} at once"));
        let most: Vec<String> = rate.into_iter().chain(at_once).collect();
        if !most.is_empty() {
            let _ = write!(text, "  at most {}", most.join(", "));
        }
        text
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.output.set_bar(None);
    }
}
