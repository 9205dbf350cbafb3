//! `--strict`: a run does not start if any row is invalid, whether the file or the API says so.

use std::fmt::Write as _;

use super::RunError;
use crate::input::Preflight;
use crate::output::count;
use crate::settings::Settings;

/// The number of rows that the message shows.
const SHOWN: usize = 20;

/// Collects invalid rows.
#[derive(Debug, Default)]
pub(super) struct InvalidRows {
    all: u64,
    shown: Vec<(u64, String)>,
}

impl InvalidRows {
    /// Adds the row that starts on this line.
    pub(super) fn add(&mut self, line: u64, problem: &str) {
        self.all += 1;
        if self.shown.len() < SHOWN {
            self.shown.push((line, problem.to_owned()));
        }
    }

    /// Returns an error if there are any.
    pub(super) fn refuse(self) -> Result<(), RunError> {
        if self.all == 0 {
            return Ok(());
        }
        let verb = if self.all == 1 { "is" } else { "are" };
        let mut message = format!(
            "{} {verb} invalid, and --strict is set: nothing was sent",
            count(self.all, "row")
        );
        for (line, problem) in &self.shown {
            let _ = write!(message, "\n  line {line}: {problem}");
        }
        let more = self.all - self.shown.len() as u64;
        if more > 0 {
            let _ = write!(message, "\n  … and {more} more");
        }
        Err(RunError::Refused(message))
    }
}

/// Refuses to start if rows are invalid by themselves or because of other rows.
pub(super) fn check_file(settings: &Settings, preflight: &Preflight) -> Result<(), RunError> {
    if !settings.strict {
        return Ok(());
    }
    let mut invalid = InvalidRows::default();
    for bad in &preflight.bad_examples {
        invalid.add(bad.line, &bad.problem);
    }
    invalid.all = preflight.bad_rows.into();
    invalid.refuse()?;
    let warnings = preflight.warnings.lines();
    if warnings.is_empty() {
        return Ok(());
    }
    Err(RunError::Refused(format!(
        "values look damaged, and --strict is set: nothing was sent\n  {}",
        warnings.join("\n  ")
    )))
}
