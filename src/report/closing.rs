//! The end of a run for people: counts, failures by cause, where the files are, and what may come next.

use std::fmt::Write as _;
use std::path::Path;

use super::preview::describe;
use super::summary::Summary;
use super::totals::Totals;
use crate::clock::local;
use crate::decide::Tense;
use crate::model::Outcome;
use crate::output::{Plain, Style, count, grouped, shortened, span};
use crate::shell;
use crate::stop::StopReason;

/// The number of causes that are shown.
const CAUSES_SHOWN: usize = 10;

/// The commands that may come next, as they are typed.
#[derive(Clone, Debug)]
pub(crate) struct NextCommands {
    /// Does what a dry run previewed.
    pub for_real: String,
    /// Runs failed.csv once it is corrected.
    pub rerun_failed: String,
    /// Tries failed rows again as they stand.
    pub retry_failed: String,
    /// Continues the run.
    pub resume: String,
    /// Undoes the run.
    pub undo: String,
}

/// What is worth knowing about the input of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputNotes {
    /// The number of cells that had white space around their value.
    pub trimmed: u64,
    /// The number of blank rows that were skipped.
    pub blank_rows: u64,
    /// What the file makes people think twice about, a line each.
    pub warnings: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    /// Why it ended early.
    pub stop: Option<StopReason>,
    /// Whether only reads were sent.
    pub dry_run: bool,
    /// Whether it used the embedded sandbox, which is gone.
    pub is_embedded: bool,
    /// Why something could not be recorded or read.
    pub error: Option<&'a str>,
    /// What has led to an early end.
    pub detail: Option<&'a str>,
    /// The organization and its host.
    pub place: &'a str,
    /// The commands that may come next.
    pub next: &'a NextCommands,
    /// What is worth knowing about the input.
    pub input: &'a InputNotes,
}

impl Summary {
    /// Returns the summary for people: what kinds of changes there are, some members of a dry run (`shows_members`), the
    /// counts, what was noticed, and what may come next.
    pub(crate) fn render(
        &self,
        totals: &Totals,
        ending: &Ending<'_>,
        shows_members: bool,
        style: Style,
    ) -> String {
        let Style {
            red,
            yellow,
            bold,
            off,
            ..
        } = style;
        let mut text = String::new();
        let (tense, what) = if ending.dry_run {
            (Tense::Planned, "Would change")
        } else {
            (Tense::Done, "Changed")
        };
        let kinds = totals.kinds.kinds(tense);
        if !kinds.is_empty() {
            let kinds = describe(&kinds, "  ", style);
            let _ = writeln!(text, "\n{bold}{what}{off}\n{kinds}");
        }
        if shows_members && !totals.preview.is_empty() {
            let _ = write!(text, "\n{}", totals.preview.render(style));
        }
        text.push_str(&self.headline(totals, style));
        outcomes(&mut text, totals, style);
        failures(&mut text, totals, style);
        if ending.dry_run {
            let counts = preview_counts(
                totals.of(Outcome::WouldUpdate),
                totals.of(Outcome::Unchanged),
                totals.of(Outcome::Empty),
                totals.failed() - totals.of(Outcome::NotAttempted),
            );
            let _ = writeln!(text, "\n{bold}Plan:{off} {counts}. Nothing was sent.");
        }
        input_notes(&mut text, ending, totals, style);
        if is_nobody_found(totals) {
            let _ = writeln!(
                text,
                "\n{red}Nobody in the file exists in {}: is this the right organization?{off}",
                Plain(ending.place)
            );
        }
        if let Some(why) = why_stopped(ending) {
            let _ = writeln!(text, "\n{yellow}{}{off}", Plain(why));
        } else if let Some(error) = &self.error {
            let _ = writeln!(text, "\n{yellow}Stopped: {}.{off}", Plain(error));
        }
        let _ = writeln!(text, "\nFiles  {}", Plain(&self.run_dir));
        if let Some((what, command)) = self.next(totals, ending) {
            let _ = writeln!(text, "Next   {}:\n  {}", Plain(what), Plain(command));
        }
        text
    }

    /// Returns the summary as the text of a mail: what ran and where, and then as [`Summary::render`].
    pub(crate) fn message(&self, totals: &Totals, ending: &Ending<'_>, style: Style) -> String {
        let what = format!(
            "{}: exit code {}",
            self.command,
            self.exit_code.unwrap_or_default()
        );
        format!(
            "{}\nin {}, since {}\n{}",
            Plain(what),
            Plain(ending.place),
            local(&self.started_at),
            self.render(totals, ending, false, style).trim_end()
        )
    }

    /// `1,000 rows in 12 s, 83.3 rows/s; 1,004 requests, 2 of them retries`.
    fn headline(&self, totals: &Totals, style: Style) -> String {
        let Style { bold, off, .. } = style;
        let done = totals.rows - totals.of(Outcome::NotAttempted);
        let seconds = totals.requests.seconds;
        let rows = if done < totals.rows {
            format!("{} of {}", grouped(done), count(totals.rows, "row"))
        } else {
            count(done, "row")
        };
        let mut text = format!("\n{bold}{rows}{off} in {}", span(seconds));
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
            let retries = grouped(self.requests.retries);
            let _ = write!(text, ", {retries} of them retries");
        }
        text.push('\n');
        text
    }

    /// Returns what may come next, and the command for it.
    fn next(&self, totals: &Totals, ending: &Ending<'_>) -> Option<(String, String)> {
        let next = ending.next;
        let step = |what: &str, command: &String| Some((what.to_owned(), command.clone()));
        if !ending.is_embedded && !totals.is_complete() {
            return step("to continue", &next.resume);
        }
        if ending.dry_run {
            return step("to make these changes", &next.for_real)
                .filter(|_| totals.of(Outcome::WouldUpdate) > 0 && totals.is_complete());
        }
        if ending.is_embedded {
            return None;
        }
        if totals.worth_retrying > 0 {
            return step("to try failed rows again", &next.retry_failed);
        }
        if totals.failed() > 0 {
            let failed = shell::quoted(
                &Path::new(&self.run_dir)
                    .join("failed.csv")
                    .display()
                    .to_string(),
            );
            return step(&format!("correct {failed}, then"), &next.rerun_failed);
        }
        step("to undo", &next.undo).filter(|_| totals.of(Outcome::Updated) > 0)
    }
}

/// Returns the counts of a preview in one line. The question before a run and the end of a dry run show the same line.
pub(crate) fn preview_counts(
    to_change: u64,
    unchanged: u64,
    empty: u64,
    not_possible: u64,
) -> String {
    let mut text = format!(
        "{} to change, {} unchanged",
        grouped(to_change),
        grouped(unchanged)
    );
    if empty > 0 {
        let _ = write!(text, ", {} empty", grouped(empty));
    }
    let _ = write!(text, ", {} not possible", grouped(not_possible));
    text
}

fn input_notes(text: &mut String, ending: &Ending<'_>, totals: &Totals, style: Style) {
    let notes = ending.input;
    if notes.trimmed > 0 {
        let cells = count(notes.trimmed, "cell");
        let _ = writeln!(
            text,
            "\n{cells} had white space around the value; it was dropped."
        );
    }
    if notes.blank_rows > 0 {
        let rows = count(notes.blank_rows, "blank row");
        let _ = writeln!(text, "\n{rows} skipped.");
    }
    if totals.not_in_undo > 0 {
        let _ = writeln!(
            text,
            "\n{} missing from undo.csv, because it is not known whether a new email was applied; sigma-bulk undo looks at the member.",
            count(totals.not_in_undo, "row")
        );
    }
    // What the file is warned about was said before the first change.
    let of_file = (notes.warnings.iter()).filter(|_| ending.dry_run);
    let warnings: Vec<String> = of_file.cloned().chain(totals.kinds.warning()).collect();
    if !warnings.is_empty() {
        let _ = writeln!(text, "\n{}Warnings{}", style.bold, style.off);
        for line in &warnings {
            let _ = writeln!(text, "  {}", Plain(line));
        }
    }
}

fn outcomes(text: &mut String, totals: &Totals, style: Style) {
    let most = totals.outcomes.values().copied().max().unwrap_or(0);
    let width = grouped(most).len();
    for outcome in Outcome::ALL {
        let rows = totals.of(outcome);
        if rows > 0 {
            let colour = if outcome.is_success() {
                style.green
            } else {
                style.red
            };
            let _ = writeln!(
                text,
                "  {colour}{:13}{}  {:>width$}",
                outcome.name(),
                style.off,
                grouped(rows)
            );
        }
    }
}

fn failures(text: &mut String, totals: &Totals, style: Style) {
    let groups = totals.failures();
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}What went wrong{}", style.bold, style.off);
    for group in groups.iter().take(CAUSES_SHOWN) {
        let _ = writeln!(
            text,
            "  {} × {}: {}",
            grouped(group.rows),
            group.outcome,
            Plain(&group.message)
        );
        let gap = if group.email.is_empty() { "" } else { ", " };
        let _ = writeln!(
            text,
            "      e.g. line {}{gap}{}",
            group.line,
            Plain(shortened(&group.email))
        );
    }
    if groups.len() > CAUSES_SHOWN {
        let more = count((groups.len() - CAUSES_SHOWN) as u64, "cause");
        let _ = writeln!(text, "  … and {more} more, in failed.csv");
    }
}

/// Returns whether members were looked for, and none was found.
fn is_nobody_found(totals: &Totals) -> bool {
    let without = [
        Outcome::NotFound,
        Outcome::Invalid,
        Outcome::Empty,
        Outcome::NotAttempted,
    ];
    let rows: u64 = without.into_iter().map(|outcome| totals.of(outcome)).sum();
    totals.of(Outcome::NotFound) > 0 && rows == totals.rows
}

fn why_stopped(ending: &Ending<'_>) -> Option<String> {
    let detail = ending.detail.unwrap_or("see the log");
    let why = match ending.stop? {
        StopReason::FailureLimit => "Stopped: too many failures.".to_owned(),
        StopReason::Deadline => "Stopped: the deadline is reached.".to_owned(),
        StopReason::SignIn => "Stopped: the API no longer accepts the credentials.".to_owned(),
        StopReason::Outage => format!(
            "Stopped: the API could not be reached for too long ({detail}). Continue when it is back."
        ),
        StopReason::Blocked => format!(
            "Stopped: something in front of the API blocks all requests ({detail}). Continue when it lets them pass."
        ),
        StopReason::Refused => format!(
            "Stopped: the API refuses every update or look-up ({detail}). Check that the credentials belong to an administrator, then continue."
        ),
        StopReason::Recording => format!(
            "Stopped: results can't be recorded ({}).",
            ending.error.unwrap_or("see the log")
        ),
        StopReason::Hangup => "Stopped: the terminal is gone.".to_owned(),
        reason @ (StopReason::Interrupt | StopReason::Terminate) => format!(
            "Stopped by {}, after the requests in flight had ended.",
            reason.describe()
        ),
    };
    Some(why)
}
