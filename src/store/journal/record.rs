//! The lines of the journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Intent;
use crate::input::header::ColumnRules;
use crate::model::RowOutcome;

/// What the rows of a run are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputKind {
    /// A CSV.
    Csv,
    /// A plan, which a dry run saved or an undo made.
    Plan,
}

/// The first line: what the run is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `--limit`: the input may have more rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
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
    /// This session ended.
    Ended(SessionEnd),
}
