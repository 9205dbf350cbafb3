//! `summary.json`: what a run came to, for scripts. It is there from the first moment of a run, in the state `running`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::closing::Ending;
use super::totals::Totals;
use crate::clock::now;
use crate::exit_code;
use crate::input::plan::PlanHead;
use crate::model::Outcome;
use crate::stop::StopReason;
use crate::store::journal::{CredentialUser, Head, Origin, SessionHistory};
use crate::store::{RunDir, RunDirError};

/// The value of `stop` while a run is under way.
const RUNNING: &str = "running";

/// Whether a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunState {
    /// A process is working on it, or was killed before it could write another state.
    Running,
    /// Every row has its final outcome.
    Complete,
    /// It ended before its last row, or without knowing the outcome of one.
    Resumable,
}

impl RunState {
    /// Returns what people read.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Running => "under way",
            Self::Complete => "complete",
            Self::Resumable => "can be resumed",
        }
    }
}

/// `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Whether the run is over.
    pub state: RunState,
    /// The number of rows.
    pub rows: u64,
    /// Rows by outcome; every name is present.
    pub outcomes: BTreeMap<String, u64>,
    /// The requests.
    pub requests: Requests,
    /// Why the run ended: `completed`, `failure_limit`, `deadline`, `interrupted` or `error`; `running` before that.
    pub stop: String,
    /// Why it ended with `error`.
    pub error: Option<String>,
    /// Whether only reads were sent.
    pub dry_run: bool,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
    /// The time of all sessions.
    pub elapsed_seconds: f64,
    /// The exit code of the process.
    pub exit_code: Option<u8>,
    /// The run directory.
    pub run_dir: String,
    /// The version of the tool that started the run.
    pub tool_version: String,
    /// The command line that started the run, without secrets.
    pub command: String,
    /// The input; `None` until it was read.
    pub input: Option<InputFile>,
    /// The API's base URL.
    pub host: Option<String>,
    /// The organization's id, once it is known.
    pub organization_id: Option<String>,
    /// The user to whom the credentials belong, once that is known.
    pub credential_user: Option<CredentialUser>,
    /// The operating system's user who started the run.
    pub os_user: String,
    /// The sessions: the first, and one for each resume.
    pub sessions: Vec<SessionTimes>,
}

/// The input of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InputFile {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// When a session of a run started and ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionTimes {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; `None` if the session was killed, or is under way.
    pub finished_at: Option<String>,
    /// Why it ended.
    pub stop: Option<String>,
    /// Its exit code.
    pub exit_code: Option<u8>,
}

/// The requests of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Requests {
    /// All requests, including those for tokens and look-ups.
    pub total: u64,
    /// Those that were retries.
    pub retries: u64,
    /// How often each status was answered.
    pub by_status: BTreeMap<String, u64>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// `stop` in `summary.json`.
    pub stop: String,
    /// The exit code of the process.
    pub exit_code: u8,
    /// Why it ended with `error`.
    pub error: Option<String>,
    /// When it ended, RFC 3339 in UTC.
    pub at: String,
}

impl RunEnd {
    /// Returns how a session ends now.
    pub(crate) fn now(totals: &Totals, ending: &Ending<'_>) -> Self {
        let is_error = (ending.stop).is_some_and(|stop| stop.name() == "error");
        let why = ending.error.or(ending.detail);
        Self {
            stop: ending.stop.map_or("completed", StopReason::name).to_owned(),
            exit_code: match ending.stop {
                Some(stop) => stop.exit_code(),
                None if totals.failed() > 0 => exit_code::SOME_ROWS_FAILED,
                None => exit_code::SUCCESS,
            },
            error: (is_error).then(|| {
                let why = why.map(str::to_owned);
                why.or_else(|| ending.stop.map(|stop| stop.describe().to_owned()))
                    .unwrap_or_default()
            }),
            at: now(),
        }
    }

    /// Returns how a run ended, as its journal says. `is_under_way` says that a process is working on it.
    pub(crate) fn recorded(totals: &Totals, is_under_way: bool) -> Self {
        match totals.ended() {
            Some(ended) => Self {
                stop: ended.stop.clone(),
                exit_code: ended.exit_code,
                error: ended.error.clone(),
                at: ended.at.clone(),
            },
            None if is_under_way => Self {
                stop: RUNNING.to_owned(),
                exit_code: exit_code::LOCKED,
                error: None,
                at: now(),
            },
            None => Self {
                stop: "error".to_owned(),
                exit_code: exit_code::STOPPED,
                error: Some("the process was killed before the run ended".to_owned()),
                at: now(),
            },
        }
    }
}

impl Summary {
    /// Returns the summary of a run that has just got its directory.
    pub(crate) fn starting(origin: &Origin, dry_run: bool, dir: &Path) -> Self {
        let head = Head {
            origin: origin.clone(),
            dry_run,
            started_at: now(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            ..Head::default()
        };
        Self {
            input: None,
            host: None,
            ..Self::running(&head, &[SessionHistory::default()], dir)
        }
    }

    /// Returns the summary of a run that is under way. Its outcomes are counted at the end.
    pub(crate) fn running(head: &Head, sessions: &[SessionHistory], dir: &Path) -> Self {
        let mut sessions = times(head, sessions);
        if let Some(last) = sessions.last_mut() {
            last.finished_at = None;
        }
        Self {
            state: RunState::Running,
            rows: head.rows.into(),
            outcomes: (outcomes(head.dry_run).into_iter())
                .map(|outcome| (outcome.name().to_owned(), 0))
                .collect(),
            requests: Requests::default(),
            stop: RUNNING.to_owned(),
            error: None,
            dry_run: head.dry_run,
            started_at: head.started_at.clone(),
            finished_at: None,
            elapsed_seconds: 0.0,
            exit_code: None,
            run_dir: dir.display().to_string(),
            tool_version: head.tool.clone(),
            command: head.origin.command_line.clone(),
            input: Some(InputFile {
                name: head.input.clone(),
                sha256: head.input_sha256.clone(),
            }),
            host: Some(head.base_url.clone()),
            organization_id: head.organization.clone(),
            credential_user: head.origin.user.clone(),
            os_user: head.origin.os_user.clone(),
            sessions,
        }
    }

    /// Returns the summary of a run with these totals.
    pub(crate) fn new(head: &Head, totals: &Totals, end: &RunEnd, dir: &Path) -> Self {
        let is_running = end.stop == RUNNING;
        let requests = &totals.requests;
        let by_status = (requests.by_status.iter())
            .map(|(status, count)| (status.to_string(), *count))
            .collect();
        let mut summary = Self::running(head, &totals.sessions, dir);
        // The clock may have been set back meanwhile.
        let finished_at = end.at.clone().max(head.started_at.clone());
        if !is_running && let Some(last) = summary.sessions.last_mut() {
            last.finished_at = Some(end.at.clone().max(last.started_at.clone()));
            last.stop = Some(end.stop.clone());
            last.exit_code = Some(end.exit_code);
        }
        Self {
            state: match end.stop.as_str() {
                RUNNING => RunState::Running,
                _ if totals.is_complete() => RunState::Complete,
                _ => RunState::Resumable,
            },
            rows: totals.rows,
            outcomes: (outcomes(head.dry_run).into_iter())
                .map(|outcome| (outcome.name().to_owned(), totals.of(outcome)))
                .collect(),
            requests: Requests {
                total: requests.requests,
                retries: requests.retries,
                by_status,
            },
            stop: end.stop.clone(),
            error: end.error.clone(),
            finished_at: (!is_running).then_some(finished_at),
            elapsed_seconds: (requests.seconds * 1000.0).round() / 1000.0,
            exit_code: Some(end.exit_code),
            ..summary
        }
    }

    /// Returns the summary of a plan: what it would change.
    pub(crate) fn of_plan(plan: &PlanHead, rows: u64, path: &Path) -> Self {
        let head = Head {
            dry_run: true,
            started_at: plan.created_at.clone(),
            tool: plan.tool.clone(),
            base_url: plan.base_url.clone(),
            organization: Some(plan.organization.clone()).filter(|id| !id.is_empty()),
            input: plan.made_from.clone(),
            input_sha256: plan.input_sha256.clone(),
            ..Head::default()
        };
        let mut summary = Self::running(&head, &[], path);
        summary.rows = rows;
        (summary.outcomes).insert(Outcome::WouldUpdate.name().to_owned(), rows);
        summary.state = RunState::Complete;
        "completed".clone_into(&mut summary.stop);
        summary
    }

    /// Writes summary.json. `kept` gets its path if it stays beside one that another program has open.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn write(&self, dir: &RunDir, kept: &mut Vec<PathBuf>) -> Result<(), RunDirError> {
        let mut file = dir.replace(&dir.summary())?;
        file.write_all(self.json().as_bytes())
            .map_err(|source| dir.error(source))?;
        dir.put(file, kept)
    }

    /// Reads summary.json, if there is one that this version has written.
    pub(crate) fn read(dir: &RunDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.summary()).ok()?).ok()
    }

    /// Returns the summary as one JSON document.
    pub(crate) fn json(&self) -> String {
        // A struct of strings and numbers always has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Returns the number of rows with an outcome.
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.name()).copied().unwrap_or(0)
    }
}

/// Returns the outcomes that a run counts. Only a dry run has `would_update`.
fn outcomes(dry_run: bool) -> Vec<Outcome> {
    Outcome::ALL
        .into_iter()
        .filter(|outcome| dry_run || *outcome != Outcome::WouldUpdate)
        .collect()
}

fn times(head: &Head, sessions: &[SessionHistory]) -> Vec<SessionTimes> {
    (sessions.iter())
        .map(|session| SessionTimes {
            started_at: (session.resumed_at.as_ref())
                .unwrap_or(&head.started_at)
                .clone(),
            finished_at: session.ended.as_ref().map(|ended| ended.at.clone()),
            stop: session.ended.as_ref().map(|ended| ended.stop.clone()),
            exit_code: session.ended.as_ref().map(|ended| ended.exit_code),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_never_finishes_before_it_started() {
        let finished = |started_at: &str, ended: &str| {
            let head = Head {
                started_at: started_at.to_owned(),
                ..Head::default()
            };
            let end = RunEnd {
                stop: "completed".to_owned(),
                exit_code: 0,
                error: None,
                at: ended.to_owned(),
            };
            let mut totals = Totals::default();
            totals.sessions.push(SessionHistory::default());
            let summary = Summary::new(&head, &totals, &end, Path::new("run"));
            let last = summary
                .sessions
                .last()
                .and_then(|last| last.finished_at.clone());
            assert_eq!(last, summary.finished_at);
            summary.finished_at.expect("it is over")
        };
        let (early, late) = ("2026-01-02T03:04:05.678Z", "2126-01-02T03:04:05.678Z");
        assert_eq!(finished(late, early), late);
        assert_eq!(finished(early, late), late);
    }
}
