//! What the answer to an update means for its row.
//!
//! ```text
//! after_answer ─┬─ 2xx, the member shows the target values ─────────► updated
//!               ├─ 2xx, it shows values that are neither old nor new ► failed
//!               ├─ refused, or known not to be applied ─────────────► failed
//!               ├─ the run stopped before anything was sent ────────► Abandon (the intent is void)
//!               └─ it may have been applied, in whole or in part, ──► Reread the member
//!                  or it can't be judged │
//!                        │    (nothing that the API returns was set: unknown)
//!                        ▼
//! after_reread ─┬─ all target values are there ─────────────────────► updated
//!               ├─ the old values are there after a 2xx ────────────► Reread, after 1, 2 and 4 s
//!               ├─ the run stops ───────────────────────────────────► Abandon (the intent stays)
//!               ├─ a part of them, or none, is there ───────────────► failed
//!               └─ the member can't be read ────────────────────────► unknown (after a refusal: failed)
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Applied, Change, Field, Member, Outcome, RowOutcome, Value, quoted};

/// The waits before a member that still shows the old values is read again. An API that applies updates later, or whose
/// readers lag behind, shows the new values within a few seconds.
const LOOK_AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

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
    /// Read the member after this wait, and ask [`after_reread`].
    Reread(Doubt, Duration),
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
    /// Whether the API refused the update with the last try. Then only a part of it can have been applied.
    is_refused: bool,
    /// Whether an earlier try, or this one, may have been applied, or may still be.
    may_be_applied: bool,
    /// How often the member was read because of it.
    looks: usize,
}

impl Doubt {
    const fn new(reason: String) -> Self {
        Self {
            reason,
            is_stopped: false,
            is_refused: false,
            may_be_applied: true,
            looks: 0,
        }
    }
}

/// What reading the member again has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one"
)]
pub(crate) enum Reread {
    /// The member as it is now.
    Shown(Member),
    /// The member can't be read, for this reason.
    Unreadable(String),
    /// The run stopped before the member could be read.
    Stopped,
}

impl Reread {
    /// Returns the member as it is now, if it was shown.
    pub(crate) fn member(self) -> Option<Member> {
        match self {
            Self::Shown(member) => Some(member),
            Self::Unreadable(_) | Self::Stopped => None,
        }
    }
}

/// Decides what the answer to an update means.
pub(crate) fn after_answer(sent: &SentUpdate, answer: &UpdateAnswer) -> Verdict {
    let doubt = match answer {
        UpdateAnswer::Member(now) if now.id == sent.member_id && shows_all(now, &sent.changes) => {
            match now.first_mismatch(&sent.changes) {
                None => return Verdict::Outcome(sent.outcome(Outcome::Updated, None)),
                // A flag that the answer leaves out reads as false, and a value that is still the old one may be late: a
                // re-read must tell.
                Some(change) if change.after == Value::Flag(true) || is_old(now, &sent.changes) => {
                    Doubt::new(mismatch(now, change))
                }
                Some(change) => {
                    let message = mismatch(now, change);
                    return Verdict::Outcome(RowOutcome {
                        is_renamed: is_renamed(now, &sent.changes),
                        ..sent.outcome(Outcome::Failed, Some(message))
                    });
                }
            }
        }
        UpdateAnswer::Member(_) => Doubt::new("the answer does not show the values".to_owned()),
        UpdateAnswer::Unreadable(why) => Doubt::new(format!("the answer can't be read: {why}")),
        UpdateAnswer::Failed {
            reason,
            may_be_applied: false,
        } if sent.changes.len() < 2 || !sent.is_judged() => {
            return Verdict::Outcome(sent.outcome(Outcome::Failed, Some(reason.clone())));
        }
        // The API may have set some of the values before it came to the one that it refuses.
        UpdateAnswer::Failed {
            reason,
            may_be_applied,
        } => Doubt {
            is_refused: !may_be_applied,
            may_be_applied: *may_be_applied,
            ..Doubt::new(reason.clone())
        },
        UpdateAnswer::Stopped {
            may_be_applied: false,
            ..
        } => return Verdict::Abandon { withdraws: true },
        UpdateAnswer::Stopped { reason, .. } => Doubt {
            is_stopped: true,
            ..Doubt::new(reason.clone())
        },
    };
    if sent.changes.iter().any(Change::is_visible) {
        return Verdict::Reread(doubt, Duration::ZERO);
    }
    let nothing_to_see = "the API does not return what was set".to_owned();
    after_reread(sent, doubt, &Reread::Unreadable(nothing_to_see))
}

/// Decides what a re-read of the member, or the reason why it can't be read, means after an answer that left the
/// outcome in doubt.
pub(crate) fn after_reread(sent: &SentUpdate, mut doubt: Doubt, reread: &Reread) -> Verdict {
    let reason = &doubt.reason;
    let keeps_intent = Verdict::Abandon { withdraws: false };
    let now = match reread {
        Reread::Shown(now) => now,
        // It was refused, whether it can be read or not.
        _ if doubt.is_refused => {
            return Verdict::Outcome(RowOutcome {
                is_possible: true,
                ..sent.outcome(Outcome::Failed, Some(reason.clone()))
            });
        }
        // A resume reads the member.
        Reread::Stopped => return keeps_intent,
        Reread::Unreadable(_) if doubt.is_stopped => return keeps_intent,
        Reread::Unreadable(why) => {
            let message = format!("sent, but the outcome could not be confirmed ({reason}; {why})");
            return Verdict::Outcome(sent.outcome(Outcome::Unknown, Some(message)));
        }
    };
    let is_renamed = is_renamed(now, &sent.changes);
    let outcome = match now.applied(&sent.changes) {
        Applied::Full => sent.outcome(
            Outcome::Updated,
            Some(format!("confirmed by reading the member again ({reason})")),
        ),
        // A gateway may still apply the update after it gave up waiting. So the intent stays, and a resume goes on
        // with the row, because its tries are not used up.
        _ if doubt.is_stopped => return keeps_intent,
        _ if sent.is_answered()
            && is_old(now, &sent.changes)
            && let Some(wait) = LOOK_AGAIN.get(doubt.looks) =>
        {
            doubt.looks += 1;
            return Verdict::Reread(doubt, *wait);
        }
        Applied::Partial => RowOutcome {
            is_partial: true,
            is_renamed,
            ..sent.outcome(
                Outcome::Failed,
                Some(format!(
                    "the member has only a part of the new values ({reason})"
                )),
            )
        },
        Applied::None => {
            let message = if sent.is_answered() {
                format!("the member still has the old values ({reason})")
            } else {
                reason.clone()
            };
            RowOutcome {
                is_renamed,
                // A gateway that gave up waiting may have a server that is still at work.
                is_possible: doubt.may_be_applied,
                ..sent.outcome(Outcome::Failed, Some(message))
            }
        }
    };
    Verdict::Outcome(outcome)
}

/// What to do with a canary row after its member was read to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CanaryVerdict {
    /// The row ends with this outcome.
    Outcome(RowOutcome),
    /// Read the member again after this wait.
    LookAgain(Duration),
}

/// Decides about a canary row that the answer called `updated`, after the member was read for the `looks`th time (from 0)
/// to verify it.
pub(crate) fn after_canary_reread(
    outcome: &RowOutcome,
    changes: &[Change],
    reread: &Reread,
    looks: usize,
) -> CanaryVerdict {
    let unverified = |why: &str| {
        (
            Outcome::Unknown,
            false,
            format!("the API accepted it, but reading the member to verify it failed ({why})"),
        )
    };
    let (kind, is_partial, message) = match reread {
        Reread::Shown(now) => match now.applied(changes) {
            Applied::Full => return CanaryVerdict::Outcome(outcome.clone()),
            _ if is_old(now, changes)
                && let Some(wait) = LOOK_AGAIN.get(looks) =>
            {
                return CanaryVerdict::LookAgain(*wait);
            }
            applied => (
                Outcome::Failed,
                applied == Applied::Partial,
                "the API accepted it, but the member, read again, does not have the new values"
                    .to_owned(),
            ),
        },
        Reread::Unreadable(why) => unverified(why),
        Reread::Stopped => unverified("the run stopped"),
    };
    let now = reread.clone().member();
    CanaryVerdict::Outcome(RowOutcome {
        outcome: kind,
        is_partial,
        is_renamed: now.and_then(|now| is_renamed(&now, changes)),
        message: Some(message.into()),
        ..outcome.clone()
    })
}

impl SentUpdate {
    /// Returns whether the last answer was a success by its status.
    fn is_answered(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }

    /// Returns whether the API has looked at the content of the update, as far as the status tells.
    fn is_judged(&self) -> bool {
        let is_before = |status| matches!(status, 401 | 425 | 429);
        self.status
            .is_some_and(|status| (400..500).contains(&status) && !is_before(status))
    }

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

/// Whether the answer shows every field that was set, so that it can be judged by it. The API may show a blank as nothing.
fn shows_all(member: &Member, changes: &[Change]) -> bool {
    changes.iter().all(|change| {
        change.field.is_write_only()
            || member.values.get(change.field).is_some()
            || change.after.as_str().is_empty()
    })
}

/// Whether every value that is not the target value is still the old one, so that the change may come late.
fn is_old(member: &Member, changes: &[Change]) -> bool {
    let mut missing = changes
        .iter()
        .filter(|change| !member.matches(std::slice::from_ref(*change)));
    missing.all(|change| {
        let now = member.values.get(change.field);
        match &change.before {
            Some(before) => change.field.matches(now, before),
            None => now.is_none(),
        }
    })
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

    /// The word for the verdict that follows after the re-reads, and how often the member was read.
    fn settle(sent: &SentUpdate, answer: &UpdateAnswer, reread: &Reread) -> (&'static str, usize) {
        let mut verdict = after_answer(sent, answer);
        let mut reads = 0;
        let word = loop {
            verdict = match verdict {
                Verdict::Reread(doubt, _) => {
                    reads += 1;
                    after_reread(sent, doubt, reread)
                }
                Verdict::Outcome(RowOutcome {
                    is_partial: true, ..
                }) => break "failed partly",
                Verdict::Outcome(RowOutcome {
                    outcome: Outcome::Failed,
                    is_possible: true,
                    ..
                }) => break "failed, possible",
                Verdict::Outcome(outcome) => break outcome.outcome.name(),
                Verdict::Abandon { withdraws: true } => break "abandon, void",
                Verdict::Abandon { withdraws: false } => break "abandon",
            };
        };
        (word, reads)
    }

    fn failed(may_be_applied: bool) -> UpdateAnswer {
        UpdateAnswer::Failed {
            reason: "why".to_owned(),
            may_be_applied,
        }
    }

    fn stopped(may_be_applied: bool) -> UpdateAnswer {
        UpdateAnswer::Stopped {
            reason: "why".to_owned(),
            may_be_applied,
        }
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
        let mut other = member("B", "D");
        other.id = "m2".into();
        let mut short = member("B", "D");
        short.values.set(Field::LastName, None);
        let unreadable = UpdateAnswer::Unreadable("why".to_owned());
        // What a re-read shows: all applied, a part and the rest old, a part and the rest another value, the old values,
        // other values, nothing, the stop.
        let shown = [
            Reread::Shown(member("B", "D")),
            Reread::Shown(member("B", "C")),
            Reread::Shown(member("B", "x")),
            Reread::Shown(member("A", "C")),
            Reread::Shown(member("x", "y")),
            Reread::Unreadable("down".to_owned()),
            Reread::Stopped,
        ];
        // After a 2xx, old values are looked at four times.
        let after_success = [
            ("updated", 1),
            ("failed partly", 4),
            ("failed partly", 1),
            ("failed, possible", 4),
            ("failed, possible", 1),
            ("unknown", 1),
            ("abandon", 1),
        ];
        let after_error = [
            ("updated", 1),
            ("failed partly", 1),
            ("failed partly", 1),
            ("failed, possible", 1),
            ("failed, possible", 1),
            ("unknown", 1),
            ("abandon", 1),
        ];
        let after_refusal = [
            ("updated", 1),
            ("failed partly", 1),
            ("failed partly", 1),
            ("failed", 1),
            ("failed", 1),
            ("failed, possible", 1),
            ("failed, possible", 1),
        ];
        let mut at_stop = [("abandon", 1); 7];
        at_stop[0] = ("updated", 1);
        let cases = [
            (
                UpdateAnswer::Member(member("B", "D")),
                Some(200),
                [("updated", 0); 7],
            ),
            // It shows neither the old nor the new value.
            (
                UpdateAnswer::Member(member("B", "x")),
                Some(200),
                [("failed", 0); 7],
            ),
            (
                UpdateAnswer::Member(member("B", "C")),
                Some(200),
                after_success,
            ),
            (
                UpdateAnswer::Member(member("A", "C")),
                Some(200),
                after_success,
            ),
            (
                UpdateAnswer::Member(member("A", "C")),
                Some(202),
                after_success,
            ),
            (UpdateAnswer::Member(other), Some(200), after_success),
            (UpdateAnswer::Member(short), Some(200), after_success),
            (unreadable, Some(200), after_success),
            (failed(false), Some(409), after_refusal),
            (failed(false), Some(429), [("failed", 0); 7]),
            (failed(false), None, [("failed", 0); 7]),
            (failed(true), Some(500), after_error),
            (failed(true), Some(504), after_error),
            (failed(true), Some(409), after_error),
            (failed(true), None, after_error),
            (stopped(false), None, [("abandon, void", 0); 7]),
            (stopped(true), Some(503), at_stop),
        ];
        for (answer, status, outcomes) in cases {
            for (shown, outcome) in shown.iter().zip(outcomes) {
                let got = settle(&sent(changes(), status), &answer, shown);
                assert_eq!(got, outcome, "{answer:?} ({status:?}), then {shown:?}");
            }
        }
    }

    /// One value can't be applied in part, so that a refusal settles it.
    #[test]
    fn a_refused_update_of_one_value_is_not_read_again() {
        let sent = sent(vec![text(Field::FirstName, "A", "B")], Some(409));
        let any = Reread::Shown(member("A", "C"));
        assert_eq!(settle(&sent, &failed(false), &any), ("failed", 0));
    }

    #[test]
    fn a_blank_may_be_shown_as_nothing() {
        for field in [Field::FirstName, Field::UserKind, Field::MemberType] {
            let sent = sent(vec![text(field, "old", "")], Some(200));
            let mut now = member("A", "C");
            now.values.set(field, None);
            let any = Reread::Unreadable(String::new());
            let answer = UpdateAnswer::Member(now);
            assert_eq!(settle(&sent, &answer, &any), ("updated", 0), "{field:?}");
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
        let archived = Reread::Shown(archived);
        assert_eq!(settle(&sent, &answer, &archived), ("updated", 1));
        let unchanged = Reread::Shown(member("A", "C"));
        assert_eq!(settle(&sent, &answer, &unchanged), ("failed, possible", 4));
    }

    #[test]
    fn what_the_api_never_returns_stays_unknown() {
        let owner = Change {
            field: Field::NewOwner,
            before: None,
            after: Value::text("m2"),
        };
        let sent = sent(vec![owner], None);
        let any = Reread::Shown(member("A", "C"));
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
            assert_eq!(settle(&sent, &answer, &any), (expected, 0));
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
        let updated = sent.outcome(Outcome::Updated, None);
        for (reread, outcome, is_partial, reads) in [
            (Reread::Shown(member("B", "D")), Outcome::Updated, false, 1),
            (Reread::Shown(member("B", "C")), Outcome::Failed, true, 4),
            (Reread::Shown(member("B", "x")), Outcome::Failed, true, 1),
            (Reread::Shown(member("A", "C")), Outcome::Failed, false, 4),
            (
                Reread::Unreadable(String::new()),
                Outcome::Unknown,
                false,
                1,
            ),
            (Reread::Stopped, Outcome::Unknown, false, 1),
        ] {
            let verdicts =
                (0..).map(|looks| after_canary_reread(&updated, &sent.changes, &reread, looks));
            let mut count = 0;
            let got = verdicts
                .inspect(|_| count += 1)
                .find_map(|verdict| match verdict {
                    CanaryVerdict::Outcome(outcome) => Some(outcome),
                    CanaryVerdict::LookAgain(_) => None,
                });
            let got = got.expect("it ends");
            assert_eq!(
                (got.outcome, got.is_partial, count),
                (outcome, is_partial, reads)
            );
        }
    }
}
