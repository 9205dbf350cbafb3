//! `--strict`: a run does not start if any row is invalid, whether the file or the API says so, or if values look
//! damaged.

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
        self.refuse_with(&[])
    }

    /// Returns an error if there are any, or any warnings about damaged values.
    fn refuse_with(self, warnings: &[String]) -> Result<(), RunError> {
        let verb = if self.all == 1 { "is" } else { "are" };
        let rows = format!("{} {verb} invalid", count(self.all, "row"));
        let what = match (self.all, warnings) {
            (0, []) => return Ok(()),
            (0, _) => "values look damaged".to_owned(),
            (_, []) => rows,
            (_, _) => format!("{rows}, values look damaged"),
        };
        let mut message = format!("{what}, and --strict is set: nothing was sent");
        for (line, problem) in &self.shown {
            let _ = write!(message, "\n  line {line}: {problem}");
        }
        let more = self.all - self.shown.len() as u64;
        if more > 0 {
            let _ = write!(message, "\n  … and {more} more");
        }
        for warning in warnings {
            let _ = write!(message, "\n  {warning}");
        }
        Err(RunError::Refused(message))
    }
}

/// Refuses to start if rows are invalid by themselves or because of other rows, or if values look damaged.
pub(super) fn check_file(settings: &Settings, preflight: &Preflight) -> Result<(), RunError> {
    if !settings.strict {
        return Ok(());
    }
    let mut invalid = InvalidRows::default();
    for bad in &preflight.bad_examples {
        invalid.add(bad.line, &bad.problem);
    }
    invalid.all = preflight.bad_rows.into();
    invalid.refuse_with(&preflight.warnings.lines())
}
