//! The progress of a run. On a terminal it is one line that is drawn again and again: the stage, then a bar. Without a
//! terminal it is a plain line with the time, at each stage and now and then.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::estimate::Estimate;
use crate::output::{Output, bar_target, count, grouped, has_terminal, span};
use crate::settings::Settings;

/// Without a terminal, the time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the mark of a stage moves.
const STAGE_TICK: Duration = Duration::from_millis(100);
/// The narrowest bar, in columns.
const NARROWEST_BAR: usize = 6;
/// The columns of `100%` and the gaps around it.
const PERCENT: usize = 6;
/// Nothing is said about the time left before this.
const SHORTEST_MEASURE: Duration = Duration::from_secs(2);
/// A rate that differs from the one said last by more than this share is said again.
const RATE_CHANGE: f64 = 0.2;

/// What shows the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// A line that is drawn again and again.
    Bar,
    /// Plain lines.
    Lines,
    /// Nothing.
    Hidden,
}

impl Visibility {
    /// Returns what shows the progress of a command with these settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        if settings.quiet || settings.no_progress {
            Self::Hidden
        } else if has_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }
}

/// Shows what a command is doing before its first row.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    visibility: Visibility,
    bar: Arc<Mutex<Option<ProgressBar>>>,
    /// When a plain line was written last.
    last_line: Arc<Mutex<Instant>>,
    output: Output,
}

impl Stages {
    /// Returns a display that shows nothing yet.
    pub(crate) fn new(output: &Output, visibility: Visibility) -> Self {
        Self {
            visibility,
            bar: Arc::default(),
            last_line: Arc::new(Mutex::new(Instant::now())),
            output: output.clone(),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a stage that is mostly over at once, and has no plain line.
    pub(crate) fn begin_on_screen(&self, what: impl Into<String>) {
        if self.visibility == Visibility::Bar {
            self.begin(what);
        }
    }

    /// Begins a stage.
    pub(crate) fn begin(&self, what: impl Into<String>) {
        let what = what.into();
        match self.visibility {
            Visibility::Hidden => {}
            Visibility::Lines => self.line(&what),
            Visibility::Bar => {
                let mut bar = self.bar();
                let bar = bar.get_or_insert_with(|| {
                    let bar = spinner();
                    self.output.set_bar(Some(bar.clone()));
                    bar
                });
                bar.set_message(capitalized(&what));
                bar.tick();
            }
        }
    }

    /// Shows how far the stage is, as plain lines only now and then.
    pub(crate) fn update(&self, what: impl Into<String>) {
        let what = what.into();
        if let Some(bar) = &*self.bar() {
            bar.set_message(capitalized(&what));
        }
        let waited = self.last_line().elapsed() >= LINE_EVERY;
        if waited && self.visibility == Visibility::Lines {
            self.line(&what);
        }
    }

    fn last_line(&self) -> MutexGuard<'_, Instant> {
        self.last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, what: &str) {
        *self.last_line() = Instant::now();
        self.output.event(what);
    }

    /// Removes the display.
    pub(crate) fn end(&self) {
        if let Some(bar) = self.bar().take() {
            self.output.set_bar(None);
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, bar_target());
    // The template is a constant. If it were wrong, the default style would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(STAGE_TICK);
    bar
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

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
    estimate: Estimate,
    /// The rate limit that a plain line has named last.
    rate_said: Option<f64>,
    /// Whether the present pause was named by a plain line.
    is_pause_said: bool,
}

impl ProgressDisplay {
    /// Returns a display of `total` rows.
    pub(crate) fn new(output: Output, total: u64, visibility: Visibility) -> Self {
        let bar = (visibility == Visibility::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), bar_target());
            // The fields of the message are chosen by the width, and the bar takes the rest. The template is a constant:
            // if it were wrong, the default style would do.
            if let Ok(style) =
                ProgressStyle::with_template("{wide_bar:.green/dim} {percent:>3}%  {msg}")
            {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        output.set_bar(bar.clone());
        let now = Instant::now();
        Self {
            bar,
            lines: visibility == Visibility::Lines,
            output,
            total,
            done: 0,
            skipped: 0,
            failures: 0,
            began: now,
            last_line: now,
            estimate: Estimate::default(),
            rate_said: None,
            is_pause_said: false,
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

    /// Returns the rows that have ended in this session, and those of them that did not succeed.
    pub(crate) const fn counts(&self) -> (u64, u64) {
        (self.done, self.failures)
    }

    /// Returns the number of rows of the run.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Updates the display.
    pub(crate) fn tick(&mut self, status: &RateStatus) {
        let elapsed = self.began.elapsed().as_secs_f64();
        self.estimate.add(elapsed, self.done);
        if let Some(bar) = &self.bar {
            let width = self.output.bar_width();
            bar.set_position(self.skipped + self.done);
            let fields = self.fields(status);
            bar.set_message(fitting(
                &fields,
                width.saturating_sub(PERCENT + NARROWEST_BAR),
            ));
        } else if self.lines {
            self.say_changes(status);
            if self.last_line.elapsed() >= LINE_EVERY {
                self.last_line = Instant::now();
                self.output.event(self.fields(status).join("  "));
            }
        }
    }

    /// Says in plain lines that the API has asked for a pause, and which rate limit was found.
    fn say_changes(&mut self, status: &RateStatus) {
        match status.paused {
            Some(paused) if !self.is_pause_said => {
                self.is_pause_said = true;
                let paused = span(paused.as_secs_f64().ceil());
                self.output
                    .event(format_args!("the API asks for a pause of {paused}"));
            }
            None => self.is_pause_said = false,
            Some(_) => {}
        }
        let Some(rate) = status.rate else { return };
        let is_new = (self.rate_said).is_none_or(|said| (rate / said - 1.0).abs() > RATE_CHANGE);
        // While the limit is searched, it changes all the time.
        if is_new && self.began.elapsed() >= SHORTEST_MEASURE {
            self.rate_said = Some(rate);
            self.output
                .event(format_args!("rate: at most {rate:.0} requests/s"));
        }
    }

    /// Returns what is shown beside the bar, the most important first.
    fn fields(&self, status: &RateStatus) -> Vec<String> {
        let done = self.skipped + self.done;
        let mut fields = vec![format!("{} of {}", grouped(done), count(self.total, "row"))];
        if let Some((what, lasts)) = status.outage {
            let seconds = lasts.as_secs_f64().round();
            fields.push(format!("{what} for {}", span(seconds)));
            return fields;
        }
        if let Some(paused) = status.paused {
            let paused = span(paused.as_secs_f64().ceil());
            fields.push(format!("paused {paused} by the API"));
        }
        let elapsed = self.began.elapsed();
        let seconds = elapsed.as_secs_f64();
        let left = self.total.saturating_sub(done);
        if elapsed >= SHORTEST_MEASURE && left > 0 {
            let time = self.estimate.seconds_left(seconds, self.done, left);
            fields.extend(time.map(|time| format!("{} left", span(time))));
        }
        if self.failures > 0 {
            fields.push(format!("{} failed", grouped(self.failures)));
        }
        let speed = self.estimate.speed(seconds, self.done);
        fields.extend(speed.map(|speed| format!("{} rows/s", decimal(speed))));
        if status.retries > 0 {
            let mut text = grouped(status.retries);
            let _ = write!(text, " retried");
            fields.push(text);
        }
        if let Some(rate) = status.rate {
            fields.push(format!("at most {} requests/s", decimal(rate)));
        }
        if let Some(inflight) = status.inflight_limit {
            fields.push(format!("{inflight} at once"));
        }
        fields
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.output.set_bar(None);
    }
}

/// Formats a speed: `83`, `7.5`.
fn decimal(speed: f64) -> String {
    if speed < 10.0 {
        format!("{speed:.1}")
    } else {
        format!("{speed:.0}")
    }
}

/// Returns the fields that fit into a width, the first of them at least.
fn fitting(fields: &[String], width: usize) -> String {
    let mut text = String::new();
    for field in fields {
        let gap = if text.is_empty() { 0 } else { 2 };
        if !text.is_empty() && text.chars().count() + gap + field.chars().count() > width {
            break;
        }
        let _ = write!(text, "{:gap$}{field}", "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display() -> ProgressDisplay {
        ProgressDisplay::new(Output::default(), 3000, Visibility::Hidden)
    }

    /// What holds the run comes first, because a narrow terminal has no room for more.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_shown_beside_the_rows() {
        let mut progress = display();
        progress.skip(832);
        let status = RateStatus {
            outage: Some(("API unreachable", Duration::from_millis(12_400))),
            retries: 3,
            ..RateStatus::default()
        };
        let text = progress.fields(&status).join("  ");
        assert_eq!(text, "832 of 3,000 rows  API unreachable for 12 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_narrow_terminal_drops_fields_from_the_right() {
        let mut progress = display();
        for _ in 0..40 {
            progress.row(false);
        }
        progress.row(true);
        tokio::time::advance(Duration::from_secs(4)).await;
        let status = RateStatus {
            retries: 2,
            rate: Some(41.6),
            inflight_limit: Some(8),
            ..RateStatus::default()
        };
        let fields = progress.fields(&status);
        let at = |width: usize| fitting(&fields, width);
        insta::assert_snapshot!(
            [24, 40, 60, 98].map(at).join("\n"),
            @r"
        41 of 3,000 rows
        41 of 3,000 rows  4 min 49 s left
        41 of 3,000 rows  4 min 49 s left  1 failed  10 rows/s
        41 of 3,000 rows  4 min 49 s left  1 failed  10 rows/s  2 retried  at most 42 requests/s
        "
        );
    }
}
