//! The journal's lines: what each of them says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::change::{Change, Outcome};
use crate::event::{Finished, Intent};
use crate::gateway::Stats;

/// What the rows of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A CSV.
    Csv,
    /// A plan, saved by a dry run or made for an undo.
    Plan,
}

/// The first line: what the run is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format's version.
    pub version: u32,
    /// The tool's version.
    pub tool: String,
    /// When the run began, RFC 3339 in UTC.
    pub started_at: String,
    /// `update`, `apply` or `undo`.
    pub command: String,
    /// What the input is called.
    pub input: String,
    /// What the input is.
    pub kind: InputKind,
    /// SHA-256 of the input's text, in hexadecimal.
    pub input_sha256: String,
    /// The rows of the run, `--limit` considered.
    pub rows: u32,
    /// The CSV's columns.
    pub header: Vec<String>,
    /// The CSV's delimiter.
    pub delimiter: char,
    /// The API's base URL.
    pub base_url: String,
    /// The organization's id, if the API told.
    pub organization: Option<String>,
    /// Whether only reads are sent.
    pub dry_run: bool,
    /// Whether values that a member has already are sent.
    pub send_unchanged: bool,
    /// `--limit`: there may be more rows in the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Requests and time of one piece of a run, up to now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// All requests.
    pub requests: u64,
    /// Those that were a further try.
    pub retries: u64,
    /// How often each status was answered.
    pub by_status: BTreeMap<u16, u64>,
    /// Since the piece began.
    pub seconds: f64,
}

impl Sent {
    /// What was sent by a piece that began then.
    #[must_use]
    pub fn of(stats: &Stats, began: Instant) -> Self {
        Self {
            requests: stats.requests(),
            retries: stats.retries(),
            by_status: stats.by_status().into_iter().collect(),
            seconds: began.elapsed().as_secs_f64(),
        }
    }
}

/// Text that is borrowed from its line where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl From<Box<str>> for Text<'_> {
    fn from(text: Box<str>) -> Self {
        Self(Cow::Owned(text.into()))
    }
}

/// A row's end, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord<'a> {
    /// The row's number.
    pub row: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The member.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Text<'a>>,
    /// The last HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Updates sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Whether the member bears a part of what was sent, though the row failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partly: bool,
    /// What would be sent; what was sent stands in the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Arc<[Change]>>,
    /// What a person should know.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text<'a>>,
}

impl OutcomeRecord<'_> {
    /// The member's id, if there is one.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        self.member.as_ref().map(|text| &*text.0)
    }

    /// What it says of what the row meant to send.
    #[must_use]
    pub fn effect(&self) -> Effect {
        Effect::of(self.outcome, self.status, self.attempts, self.partly)
    }

    /// What a person should know, or nothing.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message.as_ref().map_or("", |text| &*text.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How a piece of a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `stop` in `summary.json`.
    pub stop: String,
    /// The exit code.
    pub exit_code: u8,
    /// When.
    pub at: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<'a> {
    /// The first line.
    Head(Head),
    /// A further piece of the run begins, at this time.
    Resumed(String),
    /// About to be sent.
    Intent(Intent),
    /// A row has its outcome.
    #[serde(borrow)]
    Outcome(OutcomeRecord<'a>),
    /// Nothing of the row's last intent was sent.
    Abandoned(u32),
    /// The organization, of a run that was stopped before it was known.
    Organization(String),
    /// What this piece has sent so far.
    Sent(Sent),
    /// This piece ended.
    Ended(Ended),
}

impl From<Finished> for Record<'_> {
    fn from(finished: Finished) -> Self {
        Self::Outcome(OutcomeRecord {
            row: finished.row,
            outcome: finished.outcome,
            member: finished.member_id.map(Text::from),
            status: finished.status,
            attempts: finished.attempts,
            partly: finished.partly,
            changes: Some(finished.changes)
                .filter(|changes| !finished.recorded && !changes.is_empty()),
            message: finished.message.map(Text::from),
        })
    }
}

/// What a row's outcome says of what its intent meant to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was done.
    Done,
    /// It may have been done, or a part of it.
    Possible,
    /// It was not done.
    None,
}

impl Effect {
    fn of(outcome: Outcome, status: Option<u16>, attempts: u32, partly: bool) -> Self {
        let answered = status.is_some_and(|status| (200..300).contains(&status));
        match outcome {
            Outcome::Updated => Self::Done,
            Outcome::Unknown => Self::Possible,
            Outcome::Failed if answered || partly => Self::Possible,
            // Nothing was sent this time: an intent that is there is of an earlier piece of the run, which was killed.
            _ if attempts == 0 => Self::Possible,
            _ => Self::None,
        }
    }
}

/// A record as far as finding it again needs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Glance {
    /// The head.
    Head(Box<Head>),
    /// A further piece of the run begins.
    Resumed,
    /// A row's intent, and whether it gives the member another email.
    Intent(u32, bool),
    /// A row's outcome, and what it says of its intent.
    Outcome(u32, Effect),
    /// Nothing of the row's last intent was sent.
    Abandoned(u32),
    /// The organization of a run that was not bound at its start.
    Organization(String),
    /// What this piece has sent so far.
    Sent(Sent),
    /// This piece ended.
    Ended(Ended),
}

impl From<&Record<'_>> for Glance {
    fn from(record: &Record<'_>) -> Self {
        match record {
            Record::Head(head) => Self::Head(Box::new(head.clone())),
            Record::Resumed(_) => Self::Resumed,
            Record::Intent(intent) => Self::Intent(intent.row, intent.is_rename()),
            Record::Outcome(outcome) => Self::Outcome(outcome.row, outcome.effect()),
            Record::Abandoned(row) => Self::Abandoned(*row),
            Record::Organization(id) => Self::Organization(id.clone()),
            Record::Sent(sent) => Self::Sent(sent.clone()),
            Record::Ended(ended) => Self::Ended(ended.clone()),
        }
    }
}

/// The two records of which there are as many as rows, skimmed: what is not needed is checked to be there and to be
/// JSON, and not kept.
#[derive(Deserialize)]
struct Skim<'a> {
    #[serde(borrow)]
    intent: Option<SkimmedIntent<'a>>,
    outcome: Option<SkimmedOutcome>,
}

#[derive(Deserialize)]
struct SkimmedIntent<'a> {
    row: u32,
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "member")]
    _member: IgnoredAny,
    #[serde(borrow)]
    changes: &'a RawValue,
}

#[derive(Deserialize)]
struct SkimmedOutcome {
    row: u32,
    outcome: Outcome,
    status: Option<u16>,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    partly: bool,
}

impl Glance {
    /// Looks at a line.
    pub(super) fn at(line: &[u8]) -> serde_json::Result<Self> {
        /// How [`Field::Email`](crate::change::Field::Email) stands in a change; in a name, the quotes would be escaped.
        const EMAIL: &str = "\"email\"";
        let skim: Skim<'_> = serde_json::from_slice(line)?;
        match (skim.intent, skim.outcome) {
            (Some(intent), _) => {
                let is_rename = intent.changes.get().contains(EMAIL);
                Ok(Self::Intent(intent.row, is_rename))
            }
            (None, Some(end)) => Ok(Self::Outcome(
                end.row,
                Effect::of(end.outcome, end.status, end.attempts, end.partly),
            )),
            _ => serde_json::from_slice(line).map(|record: Record<'_>| Self::from(&record)),
        }
    }
}
