//! What the answer to an update means for its row.
//!
//! ```text
//! after_answer ─┬─ 2xx, the member shows the target values ─────────► updated
//!               ├─ 2xx, the member shows other values ──────────────► failed
//!               ├─ refused, or known not to be applied ─────────────► failed
//!               ├─ the run stopped before anything was sent ────────► Abandon (the intent is void)
//!               └─ it may have been applied, or it can't be judged ─► Reread the member
//!                        │    (nothing that the API returns was set: unknown)
//!                        ▼
//! after_reread ─┬─ all target values are there ─────────────────────► updated
//!               ├─ the run stops ───────────────────────────────────► Abandon (the intent stays)
//!               ├─ a part of them, or none, is there ───────────────► failed
//!               └─ the member can't be read ────────────────────────► unknown
//! ```

use std::sync::Arc;

use crate::model::{Applied, Change, Field, Member, Outcome, RowOutcome, Value, quoted};

/// An update that was sent.
#[derive(Clone, Debug)]
pub(crate) struct SentUpdate {
    /// The row's number.
    pub row: u32,
    /// The member's id.
    pub member_id: Box<str>,
    /// The changes that were sent.
    pub changes: Arc<[Change]>,
    /// The last HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How many times the update was sent.
    pub attempts: u32,
}

/// How the API answered an update.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one"
)]
pub(crate) enum UpdateAnswer {
    /// 2xx with a member.
    Member(Member),
    /// 2xx with a body that can't be read; the text says why.
    Unreadable(String),
    /// No 2xx. The text says why.
    Failed {
        /// The reason.
        reason: String,
        /// Whether one of the tries may have been applied.
        may_be_applied: bool,
    },
    /// The run stopped before the tries were used up.
    Stopped {
        /// The reason.
        reason: String,
        /// Whether one of the tries may have been applied.
        may_be_applied: bool,
    },
}

/// What to do next with a row whose update was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The row ends with this outcome.
    Outcome(RowOutcome),
    /// Read the member, and ask [`after_reread`].
    Reread(Doubt),
    /// Leave the row without an outcome, for a resume. `withdraws` says that nothing was sent, so that the intent is
    /// void.
    Abandon {
        /// Whether the intent is void.
        withdraws: bool,
    },
}

/// Why the answer to an update does not settle its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The reason, for the message.
    reason: String,
    /// Whether the run stopped before the tries were used up.
    is_stopped: bool,
}

/// Decides what the answer to an update means.
pub(crate) fn after_answer(sent: &SentUpdate, answer: &UpdateAnswer) -> Verdict {
    let (reason, is_stopped) = match answer {
        UpdateAnswer::Member(now) if now.id == sent.member_id && shows_all(now, &sent.changes) => {
            match now.first_mismatch(&sent.changes) {
                None => return Verdict::Outcome(sent.outcome(Outcome::Updated, None)),
                // A flag that the answer leaves out reads as false, so that a re-read must tell.
                Some(change) if change.after == Value::Flag(true) => (mismatch(now, change), false),
                Some(change) => {
                    let message = mismatch(now, change);
                    return Verdict::Outcome(RowOutcome {
                        is_renamed: is_renamed(now, &sent.changes),
                        ..sent.outcome(Outcome::Failed, Some(message))
                    });
                }
            }
        }
        UpdateAnswer::Member(_) => ("the answer does not show the values".to_owned(), false),
        UpdateAnswer::Unreadable(why) => (format!("the answer can't be read: {why}"), false),
        UpdateAnswer::Failed {
            reason,
            may_be_applied: false,
        } => return Verdict::Outcome(sent.outcome(Outcome::Failed, Some(reason.clone()))),
        UpdateAnswer::Stopped {
            may_be_applied: false,
            ..
        } => return Verdict::Abandon { withdraws: true },
        UpdateAnswer::Failed { reason, .. } => (reason.clone(), false),
        UpdateAnswer::Stopped { reason, .. } => (reason.clone(), true),
    };
    let doubt = Doubt { reason, is_stopped };
    if sent.changes.iter().any(Change::is_visible) {
        Verdict::Reread(doubt)
    } else {
        let nothing_to_see = Err("the API does not return what was set".to_owned());
        match after_reread(sent, &doubt, &nothing_to_see) {
            Some(outcome) => Verdict::Outcome(outcome),
            None => Verdict::Abandon { withdraws: false },
        }
    }
}

/// Decides what a re-read of the member, or the reason why it can't be read, means after an answer that left the
/// outcome in doubt. `None` leaves the row without an outcome, for a resume; its intent stays.
pub(crate) fn after_reread(
    sent: &SentUpdate,
    doubt: &Doubt,
    reread: &Result<Member, String>,
) -> Option<RowOutcome> {
    let reason = &doubt.reason;
    let is_renamed = reread
        .as_ref()
        .map_or(None, |now| is_renamed(now, &sent.changes));
    let applied = reread.as_ref().map(|now| now.applied(&sent.changes));
    let outcome = match applied {
        Ok(Applied::Full) => sent.outcome(
            Outcome::Updated,
            Some(format!("confirmed by reading the member again ({reason})")),
        ),
        // A gateway may still apply the update after it gave up waiting. So the intent stays, and a resume goes on
        // with the row, because its tries are not used up.
        _ if doubt.is_stopped => return None,
        Ok(Applied::Partial) => RowOutcome {
            is_partial: true,
            is_renamed,
            ..sent.outcome(
                Outcome::Failed,
                Some(format!(
                    "the member has only a part of the new values ({reason})"
                )),
            )
        },
        Ok(Applied::None) => {
            let is_answered = sent
                .status
                .is_some_and(|status| (200..300).contains(&status));
            let message = if is_answered {
                format!("the member still has the old values ({reason})")
            } else {
                reason.clone()
            };
            RowOutcome {
                is_renamed,
                ..sent.outcome(Outcome::Failed, Some(message))
            }
        }
        Err(why) => sent.outcome(
            Outcome::Unknown,
            Some(format!(
                "sent, but the outcome could not be confirmed ({reason}; {why})"
            )),
        ),
    };
    Some(outcome)
}

/// Returns the outcome of a canary row that the answer called `updated`, after the member was read to verify it.
pub(crate) fn after_canary_reread(
    outcome: RowOutcome,
    changes: &[Change],
    reread: &Result<Member, String>,
) -> RowOutcome {
    let (kind, is_partial, message) = match reread.as_ref().map(|now| now.applied(changes)) {
        Ok(Applied::Full) => return outcome,
        Ok(applied) => (
            Outcome::Failed,
            applied == Applied::Partial,
            "the API accepted it, but the member, read again, does not have the new values"
                .to_owned(),
        ),
        Err(why) => (
            Outcome::Unknown,
            false,
            format!("the API accepted it, but reading the member to verify it failed ({why})"),
        ),
    };
    RowOutcome {
        outcome: kind,
        is_partial,
        is_renamed: reread.as_ref().map_or(None, |now| is_renamed(now, changes)),
        message: Some(message.into()),
        ..outcome
    }
}

impl SentUpdate {
    fn outcome(&self, outcome: Outcome, message: Option<String>) -> RowOutcome {
        RowOutcome {
            member_id: Some(self.member_id.clone()),
            status: self.status,
            attempts: self.attempts,
            changes: Arc::clone(&self.changes),
            ..RowOutcome::new(self.row, outcome, message.map(Into::into))
        }
    }
}

/// Returns whether a member has the new email of `changes` (`true`) or the old one (`false`), if it has one of them.
fn is_renamed(member: &Member, changes: &[Change]) -> Option<bool> {
    let change = changes.iter().find(|change| change.field == Field::Email)?;
    let now = member.values.get(Field::Email)?;
    let fits = |value: &Value| Field::Email.matches(Some(now), value);
    if *now == change.after {
        Some(true)
    } else if change.before.as_ref() == Some(now) {
        Some(false)
    } else if fits(&change.after) {
        Some(true)
    } else if change.before.as_ref().is_some_and(fits) {
        Some(false)
    } else {
        None
    }
}

/// Whether the answer shows every field that was set, so that it can be judged by it.
fn shows_all(member: &Member, changes: &[Change]) -> bool {
    changes
        .iter()
        .all(|change| change.field.is_write_only() || member.values.get(change.field).is_some())
}

fn mismatch(member: &Member, change: &Change) -> String {
    let shown = (member.values.get(change.field))
        .map(ToString::to_string)
        .unwrap_or_default();
    format!(
        "the API accepted it, but {} is {} ({} was sent)",
        change.field.column(),
        quoted(&shown),
        quoted(&change.after.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Field;

    fn text(field: Field, before: &str, after: &str) -> Change {
        Change {
            field,
            before: Some(Value::text(before)),
            after: Value::text(after),
        }
    }

    fn sent(changes: Vec<Change>, status: Option<u16>) -> SentUpdate {
        SentUpdate {
            row: 1,
            member_id: "m1".into(),
            changes: changes.into(),
            status,
            attempts: 1,
        }
    }

    fn member(first: &str, last: &str) -> Member {
        Member {
            id: "m1".into(),
            values: [
                (Field::FirstName, Value::text(first)),
                (Field::LastName, Value::text(last)),
                (Field::IsArchived, Value::Flag(false)),
            ]
            .into_iter()
            .collect(),
        }
    }

    /// The verdict, and after a re-read the one that follows, in a word each.
    fn settle(
        sent: &SentUpdate,
        answer: &UpdateAnswer,
        reread: &Result<Member, String>,
    ) -> (&'static str, bool) {
        let (verdict, is_reread) = match after_answer(sent, answer) {
            Verdict::Reread(doubt) => {
                let outcome = after_reread(sent, &doubt, reread);
                let abandon = Verdict::Abandon { withdraws: false };
                (outcome.map_or(abandon, Verdict::Outcome), true)
            }
            verdict => (verdict, false),
        };
        let word = match verdict {
            Verdict::Outcome(RowOutcome {
                is_partial: true, ..
            }) => "failed partly",
            Verdict::Outcome(outcome) => outcome.outcome.name(),
            Verdict::Abandon { withdraws: true } => "abandon, void",
            Verdict::Abandon { withdraws: false } => "abandon",
            Verdict::Reread(_) => "re-read again",
        };
        (word, is_reread)
    }

    /// Every kind of answer against everything that a re-read can show.
    #[test]
    fn every_answer_and_reread_has_one_outcome() {
        let changes = || {
            vec![
                text(Field::FirstName, "A", "B"),
                text(Field::LastName, "C", "D"),
            ]
        };
        let failed = |may_be_applied| UpdateAnswer::Failed {
            reason: "why".to_owned(),
            may_be_applied,
        };
        let stopped = |may_be_applied| UpdateAnswer::Stopped {
            reason: "why".to_owned(),
            may_be_applied,
        };
        let mut other = member("B", "D");
        other.id = "m2".into();
        let mut short = member("B", "D");
        short.values.set(Field::LastName, None);
        let unreadable = UpdateAnswer::Unreadable("why".to_owned());
        // The outcome by re-read: all applied, a part, none, unreadable.
        let reread = ["updated", "failed partly", "failed", "unknown"];
        let at_stop = ["updated", "abandon", "abandon", "abandon"];
        let cases = [
            (
                UpdateAnswer::Member(member("B", "D")),
                Some(200),
                false,
                ["updated"; 4],
            ),
            (
                UpdateAnswer::Member(member("B", "C")),
                Some(200),
                false,
                ["failed"; 4],
            ),
            (
                UpdateAnswer::Member(member("A", "C")),
                Some(200),
                false,
                ["failed"; 4],
            ),
            (UpdateAnswer::Member(other), Some(200), true, reread),
            (UpdateAnswer::Member(short), Some(200), true, reread),
            (unreadable, Some(200), true, reread),
            (failed(false), Some(409), false, ["failed"; 4]),
            (failed(true), Some(500), true, reread),
            (failed(true), None, true, reread),
            (stopped(false), None, false, ["abandon, void"; 4]),
            (stopped(true), Some(503), true, at_stop),
        ];
        let shown = [
            Ok(member("B", "D")),
            Ok(member("B", "C")),
            Ok(member("A", "C")),
            Err("down".to_owned()),
        ];
        for (answer, status, is_reread, outcomes) in cases {
            for (shown, outcome) in shown.iter().zip(outcomes) {
                let got = settle(&sent(changes(), status), &answer, shown);
                assert_eq!(got, (outcome, is_reread), "{answer:?}, then {shown:?}");
            }
        }
    }

    #[test]
    fn a_true_flag_that_is_missing_is_read_again() {
        let archive = Change {
            field: Field::IsArchived,
            before: Some(Value::Flag(false)),
            after: Value::Flag(true),
        };
        let sent = sent(vec![archive], Some(200));
        let answer = UpdateAnswer::Member(member("A", "C"));
        let mut archived = member("A", "C");
        archived
            .values
            .set(Field::IsArchived, Some(Value::Flag(true)));
        assert_eq!(settle(&sent, &answer, &Ok(archived)), ("updated", true));
        let unchanged = Ok(member("A", "C"));
        assert_eq!(settle(&sent, &answer, &unchanged), ("failed", true));
    }

    #[test]
    fn what_the_api_never_returns_stays_unknown() {
        let owner = Change {
            field: Field::NewOwner,
            before: None,
            after: Value::text("m2"),
        };
        let sent = sent(vec![owner], None);
        let any = Ok(member("A", "C"));
        for (answer, expected) in [
            (
                UpdateAnswer::Failed {
                    reason: String::new(),
                    may_be_applied: true,
                },
                "unknown",
            ),
            (
                UpdateAnswer::Stopped {
                    reason: String::new(),
                    may_be_applied: true,
                },
                "abandon",
            ),
            (UpdateAnswer::Member(member("A", "C")), "updated"),
        ] {
            assert_eq!(settle(&sent, &answer, &any), (expected, false));
        }
    }

    #[test]
    fn a_canary_counts_only_as_what_is_read_back() {
        let sent = sent(
            vec![
                text(Field::FirstName, "A", "B"),
                text(Field::LastName, "C", "D"),
            ],
            Some(200),
        );
        let updated = || sent.outcome(Outcome::Updated, None);
        for (reread, outcome, is_partial) in [
            (Ok(member("B", "D")), Outcome::Updated, false),
            (Ok(member("B", "C")), Outcome::Failed, true),
            (Ok(member("A", "C")), Outcome::Failed, false),
            (Err("down".to_owned()), Outcome::Unknown, false),
        ] {
            let got = after_canary_reread(updated(), &sent.changes, &reread);
            assert_eq!((got.outcome, got.is_partial), (outcome, is_partial));
        }
    }
}
