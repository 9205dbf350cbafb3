//! The lines of the journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Intent;
use crate::input::header::ColumnRules;
use crate::model::RowOutcome;

/// What the rows of a run are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputKind {
    /// A CSV.
    #[default]
    Csv,
    /// A plan, which a dry run saved or an undo made.
    Plan,
}

/// The first line: what the run is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The version of the format.
    pub version: u32,
    /// The version of the tool.
    pub tool: String,
    /// When the run started, RFC 3339 in UTC.
    pub started_at: String,
    /// `update`, `apply` or `undo`.
    pub command: String,
    /// The name of the input.
    pub input: String,
    /// What the input is.
    pub kind: InputKind,
    /// The SHA-256 of the input's text, in hexadecimal.
    pub input_sha256: String,
    /// The number of rows, after `--limit`.
    pub rows: u32,
    /// The columns of the CSV.
    pub header: Vec<String>,
    /// The delimiter of the CSV.
    pub delimiter: char,
    /// The API's base URL.
    pub base_url: String,
    /// The id of the organization, if the API returned it.
    pub organization: Option<String>,
    /// Whether only reads are sent.
    pub dry_run: bool,
    /// Whether values that a member has already are sent as well.
    pub send_unchanged: bool,
    /// How unknown columns of the CSV are treated.
    #[serde(default, skip_serializing_if = "ColumnRules::is_default")]
    pub(crate) columns: ColumnRules,
    /// Whether the files of the run have a byte order mark, as the input had or as Excel needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) byte_order_mark: bool,
    /// The encoding of the input, if `--encoding` named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// `--limit`: the input may have more rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Who started the run, and how.
    #[serde(default)]
    pub origin: Origin,
}

/// Who started a run, how, and which other run it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Origin {
    /// The command line, without secrets.
    pub command_line: String,
    /// The settings that differ from the defaults, as flags, without secrets.
    pub settings: Vec<String>,
    /// The name of the operating system's user.
    pub os_user: String,
    /// The profile of the configuration, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The user to whom the credentials belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<CredentialUser>,
    /// The run that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes: Option<RunReference>,
    /// The run whose failed.csv is the input of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reruns: Option<RunReference>,
}

/// The user to whom the credentials of a run belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CredentialUser {
    /// The member's id.
    pub id: String,
    /// The email, if the API returned it.
    pub email: Option<String>,
}

/// Names another run, wherever its directory is by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunReference {
    /// When it started, RFC 3339 in UTC.
    pub started_at: String,
    /// The SHA-256 of its input.
    pub input_sha256: String,
}

impl Head {
    /// Returns what names this run in another one.
    pub(crate) fn reference(&self) -> RunReference {
        RunReference {
            started_at: self.started_at.clone(),
            input_sha256: self.input_sha256.clone(),
        }
    }
}

/// The requests and the time of one session of a run, so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestTotals {
    /// All requests.
    pub requests: u64,
    /// Those that were retries.
    pub retries: u64,
    /// How often each status was answered.
    pub by_status: BTreeMap<u16, u64>,
    /// Seconds since the session started.
    pub seconds: f64,
}

/// How a session of a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionEnd {
    /// `stop` in `summary.json`.
    pub stop: String,
    /// The exit code.
    pub exit_code: u8,
    /// When it ended, RFC 3339 in UTC.
    pub at: String,
    /// `error` in `summary.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a session was doing at one moment, for the charts of a report. There is at most one in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    /// Seconds since the session started.
    pub seconds: f64,
    /// Rows that have ended in this session.
    pub rows: u64,
    /// Of these, rows that did not succeed.
    pub failed: u64,
    /// Requests of this session.
    pub requests: u64,
    /// The rate limit in force, in requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The median time of the answers since the sample before, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<f64>,
    /// The time that 95% of these answers did not exceed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Whether all requests were paused, or waited for the end of an outage.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first line.
    Head(Box<Head>),
    /// Another session of the run started, at this time.
    Resumed(String),
    /// An update is about to be sent.
    Intent(Intent),
    /// A row has its outcome.
    Outcome(RowOutcome),
    /// Nothing of the last intent of the row with this number was sent.
    Abandoned(u32),
    /// The organization of a run that was stopped before it was known.
    Organization(String),
    /// What this session has sent so far.
    #[serde(rename = "sent")]
    Totals(RequestTotals),
    /// What this session is doing at the moment.
    Sample(Sample),
    /// This session ended.
    Ended(SessionEnd),
}
