//! The end of a run: summary.json for machines, and a few lines that a person reads at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::RunDir;
use super::files::Totals;
use super::rundir::RunDirError;
use crate::change::Outcome;
use crate::output::{Plain, count, grouped, shortened, span};
use crate::stop::StopReason;

/// Causes that are shown.
const CAUSES_SHOWN: usize = 10;

/// `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Rows of the run.
    pub rows: u64,
    /// Rows by outcome, every name present.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// What was sent.
    pub requests: Requests,
    /// Why the run ended.
    pub stop: String,
    /// Whether only reads were sent.
    pub dry_run: bool,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// The time of all pieces.
    pub elapsed_seconds: f64,
    /// The process' exit code.
    pub exit_code: u8,
    /// Where the run's files are.
    pub run_dir: String,
}

/// What was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// All requests, tokens and look-ups included.
    pub total: u64,
    /// Those that were a further try.
    pub retries: u64,
    /// How often each status was answered.
    pub by_status: BTreeMap<String, u64>,
}

/// The commands that may come next, as they are typed.
#[derive(Clone, Debug)]
pub struct Next {
    /// Does a previewed run for real.
    pub for_real: String,
    /// Runs failed.csv when it is mended.
    pub mended: String,
    /// Goes on with the run.
    pub resume: String,
    /// Takes it back.
    pub undo: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Why it ended early.
    pub stop: Option<StopReason>,
    /// Whether only reads were sent.
    pub dry_run: bool,
    /// Whether it was on the embedded sandbox, which is gone.
    pub embedded: bool,
    /// Why something could not be recorded or read.
    pub trouble: Option<&'a str>,
    /// The commands that may come next.
    pub next: &'a Next,
    /// Cells that had white space around them.
    pub trimmed: u64,
}

impl Summary {
    /// The summary of what `totals` count.
    #[must_use]
    pub fn new(totals: &Totals, ending: &Ending<'_>, dir: &Path) -> Self {
        let exit_code = match ending.stop {
            Some(stop) => stop.exit_code(),
            None => u8::from(totals.failures() > 0),
        };
        // A dry run has its own word for an update; every other name is always there.
        let outcomes = Outcome::ALL
            .into_iter()
            .filter(|outcome| ending.dry_run || *outcome != Outcome::WouldUpdate)
            .map(|outcome| (outcome.name(), totals.of(outcome)))
            .collect();
        let by_status = totals
            .sent
            .by_status
            .iter()
            .map(|(status, count)| (status.to_string(), *count))
            .collect();
        Self {
            rows: totals.rows,
            outcomes,
            requests: Requests {
                total: totals.sent.requests,
                retries: totals.sent.retries,
                by_status,
            },
            stop: ending.stop.map_or("completed", StopReason::name).to_owned(),
            dry_run: ending.dry_run,
            started_at: totals.started_at.clone(),
            finished_at: totals
                .ended
                .as_ref()
                .map_or_else(now, |ended| ended.at.clone()),
            elapsed_seconds: (totals.sent.seconds * 1000.0).round() / 1000.0,
            exit_code,
            run_dir: dir.display().to_string(),
        }
    }

    /// Says how the run ended, where it is the journal that tells.
    pub fn set_end(&mut self, stop: &str, exit_code: u8) {
        stop.clone_into(&mut self.stop);
        self.exit_code = exit_code;
    }

    /// Writes summary.json.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, dir: &RunDir) -> Result<(), RunDirError> {
        let mut file = dir.replace(&dir.summary())?;
        file.write_all(self.json().as_bytes())
            .map_err(|source| dir.error(source))?;
        file.commit()
    }

    /// As one JSON document.
    #[must_use]
    pub fn json(&self) -> String {
        // A struct of strings and numbers has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// For a person.
    #[must_use]
    pub fn render(&self, totals: &Totals, ending: &Ending<'_>, colour: bool) -> String {
        let (red, green, bold, off) = if colour {
            ("\u{1b}[31m", "\u{1b}[32m", "\u{1b}[1m", "\u{1b}[0m")
        } else {
            ("", "", "", "")
        };
        let mut text = String::new();
        let done = totals.rows - totals.of(Outcome::NotAttempted);
        let seconds = totals.sent.seconds;
        let _ = write!(
            text,
            "\n{bold}{}{off} in {}",
            if done < totals.rows {
                format!("{} of {}", grouped(done), count(totals.rows, "row"))
            } else {
                count(done, "row")
            },
            span(seconds)
        );
        if seconds >= 1.0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a rate that is shown with one decimal"
            )]
            let rate = done as f64 / seconds;
            let _ = write!(text, ", {rate:.1} rows/s");
        }
        let _ = write!(text, "; {}", count(self.requests.total, "request"));
        if self.requests.retries > 0 {
            let _ = write!(
                text,
                ", {} of them a further try",
                grouped(self.requests.retries)
            );
        }
        text.push('\n');
        let most = totals.outcomes.values().copied().max().unwrap_or(0);
        let width = grouped(most).len();
        for outcome in Outcome::ALL {
            let rows = totals.of(outcome);
            if rows > 0 {
                let colour = if outcome.is_success() { green } else { red };
                let _ = writeln!(
                    text,
                    "  {colour}{:13}{off}  {:>width$}",
                    outcome.name(),
                    grouped(rows)
                );
            }
        }
        let causes = totals.causes();
        if !causes.is_empty() {
            let _ = writeln!(text, "\n{bold}What went wrong{off}");
            for cause in causes.iter().take(CAUSES_SHOWN) {
                let _ = writeln!(
                    text,
                    "  {} × {}: {}",
                    grouped(cause.rows),
                    cause.outcome,
                    Plain(&cause.message)
                );
                let gap = if cause.email.is_empty() { "" } else { ", " };
                let _ = writeln!(
                    text,
                    "      e.g. line {}{gap}{}",
                    cause.line,
                    Plain(shortened(&cause.email))
                );
            }
            if causes.len() > CAUSES_SHOWN {
                let _ = writeln!(
                    text,
                    "  … and {} more, in failed.csv",
                    count((causes.len() - CAUSES_SHOWN) as u64, "cause")
                );
            }
        }
        if ending.trimmed > 0 {
            let _ = writeln!(
                text,
                "\n{} had white space around the value; it was dropped.",
                count(ending.trimmed, "cell")
            );
        }
        if let Some(why) = Self::why(ending) {
            let _ = writeln!(text, "\n{red}{why}{off}");
        }
        let _ = writeln!(text, "\nFiles  {}", Plain(&self.run_dir));
        if let Some(next) = self.next(totals, ending) {
            let _ = writeln!(text, "Next   {next}");
        }
        if ending.dry_run {
            let _ = writeln!(
                text,
                "\n{bold}Plan:{off} {} to change, {} as wanted already, {} not possible. Nothing was sent.",
                grouped(totals.of(Outcome::WouldUpdate)),
                grouped(totals.of(Outcome::Unchanged) + totals.of(Outcome::Empty)),
                grouped(totals.failures() - totals.of(Outcome::NotAttempted)),
            );
        }
        text
    }

    fn why(ending: &Ending<'_>) -> Option<String> {
        let stopped = match ending.stop? {
            StopReason::FailureLimit => "Stopped: too many failures.".to_owned(),
            StopReason::Deadline => "Stopped: the deadline is reached.".to_owned(),
            StopReason::SignIn => "Stopped: the credentials are no longer taken.".to_owned(),
            StopReason::Recording => format!(
                "Stopped: what happens can't be recorded ({}).",
                ending.trouble.unwrap_or("see the log")
            ),
            StopReason::Hangup => "Stopped: the terminal is gone.".to_owned(),
            StopReason::Interrupt => {
                "Stopped by Ctrl-C, after what was under way had ended.".to_owned()
            }
            StopReason::Terminate => {
                "Stopped by SIGTERM, after what was under way had ended.".to_owned()
            }
        };
        Some(stopped)
    }

    fn next(&self, totals: &Totals, ending: &Ending<'_>) -> Option<String> {
        let dir = quoted(&self.run_dir);
        if !ending.embedded && (totals.of(Outcome::NotAttempted) > 0 || ending.stop.is_some()) {
            return Some(format!("to go on: {}", ending.next.resume));
        }
        if ending.dry_run {
            return (totals.of(Outcome::WouldUpdate) > 0 && ending.stop.is_none())
                .then(|| format!("to do it: {}", ending.next.for_real));
        }
        if ending.embedded {
            return None;
        }
        if totals.worth_another_try > 0 {
            return Some(format!(
                "to try failed rows again: sigma-bulk resume --only-failed {dir}"
            ));
        }
        if totals.failures() > 0 {
            return Some(format!(
                "mend {}, then: {}",
                quoted(&format!("{}/failed.csv", self.run_dir)),
                ending.next.mended
            ));
        }
        (totals.of(Outcome::Updated) > 0).then(|| format!("to take it back: {}", ending.next.undo))
    }
}

/// A word as a shell reads it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The time, RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}
