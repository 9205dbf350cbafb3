//! What to do with a row: send these changes, or end it with an outcome without sending anything.
//!
//! ```text
//! before_lookup ── a rule forbids the row ───────────────► invalid
//!       │       └─ it has no value to change ────────────► empty
//!       ▼
//!   (look up the member, and the new owner if the row names one by email)
//!       ▼
//!      row ─┬─ no member fits ───────────────────────────► not_found
//!           ├─ several members fit equally ──────────────► invalid
//!           ├─ a plan's member holds other values now ───► conflict
//!           ├─ the new owner is not one active member ───► invalid
//!           ├─ a value is damaged, or the email is taken ► invalid
//!           ├─ a rule forbids these changes ─────────────► invalid
//!           ├─ nothing differs ──────────────────────────► unchanged
//!           └─ else ─────────────────────────────────────► Send (a dry run: would_update)
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use super::Rules;
use crate::event::Intent;
use crate::input::{Row, RowRequest};
use crate::model::{
    Change, Field, Found, Member, Outcome, RowOutcome, Value, Values, is_decoded_wrongly, quoted,
};

/// What to do with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send nothing: the row ends with this outcome.
    Skip(RowOutcome),
    /// Send these changes to this member.
    Send {
        /// The member as it is now.
        member: Member,
        /// The changes; never empty.
        changes: Vec<Change>,
    },
}

/// The other members that a row concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The new owner that the row names; `None` if it names none.
    pub owner: Option<Owner>,
    /// The members that have the row's new email and keep it; `None` if it has none, or if they were not looked up.
    pub new_email: Option<Found>,
}

/// The members that fit a new owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The members.
    pub found: Found,
    /// Whether a row of the file archives the member.
    pub is_archived_by_file: bool,
}

/// Returns the outcome of a row that ends without a look-up, or `None` if its member must be looked up.
pub(crate) fn before_lookup(row: &Row, rules: &Rules) -> Option<RowOutcome> {
    if let Some(problem) = rules.row_problem(row) {
        return Some(RowOutcome::new(row.number, Outcome::Invalid, Some(problem)));
    }
    match &row.request {
        RowRequest::Desired(values) if values.is_empty() => {
            Some(RowOutcome::new(row.number, Outcome::Empty, None))
        }
        _ => None,
    }
}

/// Decides what to do with a row.
///
/// `found` says which members fit the row's email or id, and `others` says the same for the other members that the row
/// concerns. With `send_unchanged`, values that the member has already are sent as well.
#[must_use]
pub fn row(
    row: &Row,
    found: Found,
    others: &Others,
    rules: &Rules,
    send_unchanged: bool,
) -> Decision {
    let skip = |outcome, message: Option<Box<str>>| RowOutcome::new(row.number, outcome, message);
    let member = match found {
        Found::One(member) => member,
        Found::Nobody => {
            let message = match &row.request {
                RowRequest::Desired(_) => nobody(row, others),
                RowRequest::Planned { member_id, .. } => {
                    format!("the member {member_id} no longer exists")
                }
            };
            return Decision::Skip(skip(Outcome::NotFound, Some(message.into())));
        }
        Found::Ambiguous(members) => {
            let message = format!(
                "{members} members fit this email equally: spell it in the case of the member that is meant"
            );
            return Decision::Skip(skip(Outcome::Invalid, Some(message.into())));
        }
    };
    let of_member = |outcome, message| {
        Decision::Skip(RowOutcome {
            member_id: Some(member.id.clone()),
            ..skip(outcome, message)
        })
    };
    let changes = match changes(row, &member, others, rules, send_unchanged) {
        Ok(changes) => changes,
        Err(problem) => return of_member(problem.outcome, Some(problem.message)),
    };
    if let Some(problem) = rules.change_problem(&member, &changes) {
        return of_member(Outcome::Invalid, Some(problem));
    }
    if changes.is_empty() {
        return of_member(Outcome::Unchanged, None);
    }
    Decision::Send { member, changes }
}

/// Returns the outcome of a row whose update an earlier session may have sent, if `member`, read just now, shows that
/// it was applied and nothing is left to change. `None` means that the row must be decided like any other.
pub(crate) fn confirm_prior(
    row: &Row,
    prior: &Intent,
    member: &Member,
    others: &Others,
    rules: &Rules,
) -> Option<RowOutcome> {
    if !prior.changes.iter().any(Change::is_visible) || !member.matches(&prior.changes) {
        return None;
    }
    let left = changes(row, member, others, rules, false).ok()?;
    if left.iter().any(Change::is_visible) {
        return None;
    }
    let message = "sent by an earlier session of this run, and confirmed by reading the member";
    Some(RowOutcome {
        member_id: Some(prior.member_id.clone()),
        changes: Arc::clone(&prior.changes),
        ..RowOutcome::new(row.number, Outcome::Updated, Some(message.into()))
    })
}

/// Puts the values before of an earlier session's intent into `changes`: an undo goes back to the values that were
/// recorded first. Changes that only the intent has are sent again.
pub(crate) fn merge_prior(changes: &mut Vec<Change>, prior: &Intent) {
    for first in prior.changes.iter() {
        match changes
            .iter_mut()
            .find(|change| change.field == first.field)
        {
            Some(change) => change.before.clone_from(&first.before),
            None => changes.push(first.clone()),
        }
    }
}

/// Why a row can't be sent, though its member is known.
#[derive(Debug)]
struct Problem {
    outcome: Outcome,
    message: Box<str>,
}

/// Returns the changes that bring `member` to what the row asks for; empty if it is there already.
fn changes(
    row: &Row,
    member: &Member,
    others: &Others,
    rules: &Rules,
    send_unchanged: bool,
) -> Result<Vec<Change>, Problem> {
    let desired = match &row.request {
        RowRequest::Desired(desired) => desired,
        RowRequest::Planned { changes, .. } => {
            return planned(member, changes).map_err(|message| Problem {
                outcome: Outcome::Conflict,
                message: message.into(),
            });
        }
    };
    let mut desired = Cow::Borrowed(desired);
    let invalid = |message: String| Problem {
        outcome: Outcome::Invalid,
        message: message.into(),
    };
    if let (Some(name), Some(owner)) = (row.owner(), &others.owner) {
        let id = owner_id(name, owner, member).map_err(invalid)?;
        desired.to_mut().set(Field::NewOwner, Some(Value::Text(id)));
    }
    if let Some(listed) = desired
        .text(Field::MemberType)
        .and_then(|name| rules.type_as_listed(name))
    {
        let listed = Value::text(listed);
        desired.to_mut().set(Field::MemberType, Some(listed));
    }
    let changes = diff(member, &desired, send_unchanged);
    for change in &changes {
        check_change(change, member, others).map_err(invalid)?;
    }
    Ok(changes)
}

/// Checks a change against what is known of the member and of others.
///
/// # Errors
/// If the value is damaged, or the email is taken.
fn check_change(change: &Change, member: &Member, others: &Others) -> Result<(), String> {
    if let (Some(Value::Text(before)), Value::Text(after)) = (&change.before, &change.after)
        && is_decoded_wrongly(after, before)
    {
        return Err(format!(
            "{} is {}, which is the present value {} read with the wrong encoding: save the file as \"CSV UTF-8\"",
            change.field.column(),
            quoted(after),
            quoted(before)
        ));
    }
    let is_taken = match &others.new_email {
        Some(Found::One(holder)) => holder.id != member.id,
        Some(Found::Ambiguous(_)) => true,
        Some(Found::Nobody) | None => false,
    };
    if change.field == Field::Email && is_taken {
        return Err(format!(
            "New Email {} belongs to another member, who keeps it",
            quoted(&change.after.to_string())
        ));
    }
    Ok(())
}

/// Returns the message for a row whose email nobody has. The rename may have been done before.
fn nobody(row: &Row, others: &Others) -> String {
    match (&others.new_email, row.value(Field::Email)) {
        (Some(Found::One(_)), Some(new_email)) => format!(
            "no member has this email, but one has {new_email}: a member who has this email already?"
        ),
        _ => "no member has this email".to_owned(),
    }
}

/// Returns the id of the new owner that a row names.
///
/// # Errors
/// If it is not exactly one active member other than the row's own, or if the file archives it too.
fn owner_id(name: &str, owner: &Owner, member: &Member) -> Result<Box<str>, String> {
    let shown = quoted(name);
    let kind = if name.contains('@') { "email" } else { "id" };
    match &owner.found {
        Found::Nobody => Err(format!("newOwner: no member has the {kind} {shown}")),
        Found::Ambiguous(members) => Err(format!(
            "newOwner: {members} members fit the email {shown} equally: write the member's id instead"
        )),
        Found::One(found) if found.id == member.id => {
            Err("newOwner is the member itself: name another one".to_owned())
        }
        Found::One(found)
            if found.values.is_true(Field::IsArchived)
                || found.values.is_true(Field::IsInactive) =>
        {
            Err(format!(
                "newOwner {shown} is archived: name a member who is active"
            ))
        }
        Found::One(_) if owner.is_archived_by_file => Err(format!(
            "newOwner {shown} is archived by another row of this file: name a member who stays active"
        )),
        Found::One(found) => Ok(found.id.clone()),
    }
}

/// Returns what to send so that `member` holds `desired`; empty if nothing is to be sent.
///
/// Only what differs is sent, unless `send_unchanged`. Write-only fields can't be compared. One that asks for
/// something (a new owner, or `true`) is always sent, together with the archive flag beside it, because the API
/// accepts it only then; one that is `false` is sent if the archive flag is.
fn diff(member: &Member, desired: &Values, send_unchanged: bool) -> Vec<Change> {
    let asks = desired
        .iter()
        .any(|(field, value)| field.is_write_only() && *value != Value::Flag(false));
    let sends = |field: Field, value: &Value| {
        (field.archives() && asks && *value == Value::Flag(true))
            || field.differs(member.values.get(field), value)
    };
    let archives = desired
        .iter()
        .any(|(field, value)| field.archives() && sends(field, value));
    desired
        .iter()
        .filter(|&(field, value)| {
            send_unchanged
                || if field.is_write_only() {
                    asks || archives
                } else {
                    sends(field, value)
                }
        })
        .map(|(field, value)| Change {
            field,
            before: member.values.get(field).cloned(),
            after: value.clone(),
        })
        .collect()
}

/// Returns the part of a plan's changes that the member does not have yet.
///
/// # Errors
/// If the member holds neither the plan's value before nor its target value.
fn planned(member: &Member, changes: &[Change]) -> Result<Vec<Change>, String> {
    let mut left = Vec::new();
    // The API may have folded the case of what was set. A value that is exactly the one or the other settles it.
    let fits = |field: Field, now: Option<&Value>, value: Option<&Value>| match value {
        Some(value) => field.matches(now, value),
        None => now.is_none(),
    };
    for change in changes {
        let now = member.values.get(change.field);
        let is_done = now == Some(&change.after)
            || (!fits(change.field, now, change.before.as_ref())
                && change.field.matches(now, &change.after));
        if change.field.is_write_only() {
            left.push(change.clone());
        } else if is_done {
            // It need not be sent, unless a write-only field needs it.
            if changes.iter().any(|other| other.field.is_write_only()) {
                left.push(change.clone());
            }
        } else if fits(change.field, now, change.before.as_ref()) {
            left.push(change.clone());
        } else {
            let shown = |value: Option<&Value>| {
                value.map_or_else(|| "nothing".to_owned(), |v| quoted(&v.to_string()))
            };
            return Err(format!(
                "{} is now {}, not {} as in the plan: nothing was sent",
                change.field.column(),
                shown(now),
                shown(change.before.as_ref()),
            ));
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "ann@x.org";

    fn member(values: &[(Field, Value)]) -> Member {
        Member {
            id: "m1".into(),
            values: values.iter().cloned().collect(),
        }
    }

    fn ann() -> Member {
        member(&[
            (Field::FirstName, Value::text("Ann")),
            (Field::Email, Value::text(ANN)),
            (Field::MemberType, Value::text("Viewer")),
            (Field::IsArchived, Value::Flag(false)),
            (Field::IsInactive, Value::Flag(false)),
        ])
    }

    fn desired(values: &[(Field, Value)]) -> Row {
        Row {
            number: 7,
            line: 8,
            email: ANN.into(),
            request: RowRequest::Desired(values.iter().cloned().collect()),
            trimmed: 0,
        }
    }

    fn planned_row(changes: Vec<Change>) -> Row {
        Row {
            request: RowRequest::Planned {
                member_id: "m1".into(),
                changes,
            },
            ..desired(&[])
        }
    }

    fn change(field: Field, before: &str, after: &str) -> Change {
        Change {
            field,
            before: Some(Value::text(before)),
            after: Value::text(after),
        }
    }

    /// The decision in one word, or the columns that are sent.
    fn short(decision: &Decision) -> String {
        match decision {
            Decision::Skip(outcome) => outcome.outcome.to_string(),
            Decision::Send { changes, .. } => changes
                .iter()
                .map(|change| change.field.api_name())
                .collect::<Vec<_>>()
                .join("+"),
        }
    }

    fn decide(row: &Row, found: Found, others: &Others, rules: &Rules, all: bool) -> String {
        match before_lookup(row, rules) {
            Some(outcome) => outcome.outcome.to_string(),
            None => short(&super::row(row, found, others, rules, all)),
        }
    }

    /// The values of a row; what is sent to Ann; and what is sent with `--send-unchanged`.
    type Case = (Vec<(Field, Value)>, &'static str, &'static str);

    /// Every kind of match for the member, every kind of field, with and without `--send-unchanged`.
    #[test]
    fn every_match_and_field_has_one_decision() {
        use Field::{
            ArchiveDocuments, Email, FirstName, IsArchived, LastName, MemberType, NewOwner,
        };
        let text = Value::text;
        let (yes, no) = (Value::Flag(true), Value::Flag(false));
        let cases: Vec<Case> = vec![
            (vec![], "empty", "empty"),
            (vec![(FirstName, text("Ann"))], "unchanged", "firstName"),
            (vec![(FirstName, text("ann"))], "firstName", "firstName"),
            (
                vec![(FirstName, text("Ann")), (LastName, text("B"))],
                "lastName",
                "firstName+lastName",
            ),
            (vec![(Email, text(ANN))], "unchanged", "email"),
            (vec![(Email, text("Ann@x.org"))], "email", "email"),
            (
                vec![(MemberType, text("VIEWER"))],
                "unchanged",
                "memberType",
            ),
            (
                vec![(MemberType, text("Creator"))],
                "memberType",
                "memberType",
            ),
            (vec![(IsArchived, no.clone())], "unchanged", "isArchived"),
            (vec![(IsArchived, yes.clone())], "isArchived", "isArchived"),
            (
                vec![(IsArchived, yes.clone()), (NewOwner, text("m2"))],
                "isArchived+newOwnerId",
                "isArchived+newOwnerId",
            ),
            (vec![(NewOwner, text("m2"))], "newOwnerId", "newOwnerId"),
            (
                vec![(ArchiveDocuments, no.clone())],
                "unchanged",
                "archiveDocuments",
            ),
            (
                vec![(IsArchived, yes.clone()), (ArchiveDocuments, no)],
                "isArchived+archiveDocuments",
                "isArchived+archiveDocuments",
            ),
        ];
        let rules = Rules::default();
        for (values, sent, sent_with_all) in cases {
            let row = desired(&values);
            let is_empty = sent == "empty";
            let expected = |outcome| if is_empty { "empty" } else { outcome };
            for (found, plain, all) in [
                (Found::One(ann()), sent, sent_with_all),
                (Found::Nobody, expected("not_found"), expected("not_found")),
                (
                    Found::Ambiguous(2),
                    expected("invalid"),
                    expected("invalid"),
                ),
            ] {
                let got = [false, true]
                    .map(|send| decide(&row, found.clone(), &Others::default(), &rules, send));
                assert_eq!(got, [plain, all], "{values:?} for {found:?}");
            }
        }
    }

    fn named(id: &str, changes: &[(Field, Value)]) -> Found {
        let mut member = ann();
        member.id = id.into();
        for (field, value) in changes {
            member.values.set(*field, Some(value.clone()));
        }
        Found::One(member)
    }

    #[test]
    fn a_new_owner_must_be_another_active_member() {
        let row = desired(&[
            (Field::IsArchived, Value::Flag(true)),
            (Field::NewOwner, Value::text("bob@x.org")),
        ]);
        let yes = Value::Flag(true);
        for (found, is_archived_by_file, expected) in [
            (named("m2", &[]), false, "isArchived+newOwnerId"),
            (named("m2", &[]), true, "invalid"),
            (named("m1", &[]), false, "invalid"),
            (
                named("m2", &[(Field::IsArchived, yes.clone())]),
                false,
                "invalid",
            ),
            (named("m2", &[(Field::IsInactive, yes)]), false, "invalid"),
            (Found::Nobody, false, "invalid"),
            (Found::Ambiguous(3), false, "invalid"),
        ] {
            let others = Others {
                owner: Some(Owner {
                    found,
                    is_archived_by_file,
                }),
                ..Others::default()
            };
            let found = Found::One(ann());
            let decision = super::row(&row, found, &others, &Rules::default(), false);
            assert_eq!(short(&decision), expected, "{others:?}");
            if let Decision::Send { changes, .. } = decision {
                assert_eq!(changes[1].after, Value::text("m2"), "the id is sent");
            }
        }
    }

    #[test]
    fn a_taken_email_is_invalid_and_a_done_rename_says_so() {
        let row = desired(&[(Field::Email, Value::text("new@x.org"))]);
        for (new_email, found, expected, says) in [
            (Some(Found::Nobody), Found::One(ann()), "email", ""),
            (None, Found::One(ann()), "email", ""),
            (Some(named("m1", &[])), Found::One(ann()), "email", ""),
            (
                Some(named("m2", &[])),
                Found::One(ann()),
                "invalid",
                "belongs to another",
            ),
            (
                Some(Found::Ambiguous(2)),
                Found::One(ann()),
                "invalid",
                "belongs to another",
            ),
            (
                Some(named("m1", &[])),
                Found::Nobody,
                "not_found",
                "already",
            ),
            (Some(Found::Nobody), Found::Nobody, "not_found", "no member"),
        ] {
            let others = Others {
                new_email,
                ..Others::default()
            };
            let decision = super::row(&row, found, &others, &Rules::default(), false);
            assert_eq!(short(&decision), expected, "{others:?}");
            if let Decision::Skip(outcome) = decision {
                assert!(outcome.message().contains(says), "{}", outcome.message());
            }
        }
    }

    #[test]
    fn the_present_value_decoded_wrongly_is_invalid() {
        let mut zoe = ann();
        zoe.values.set(Field::FirstName, Some(Value::text("Zoë")));
        for (first, expected) in [
            ("ZoÃ«", "invalid"),
            ("Zo?", "invalid"),
            ("Zoe", "firstName"),
            ("Zoë", "unchanged"),
            ("Chloë", "firstName"),
        ] {
            let row = desired(&[(Field::FirstName, Value::text(first))]);
            let found = Found::One(zoe.clone());
            let decision = super::row(&row, found, &Others::default(), &Rules::default(), false);
            assert_eq!(short(&decision), expected, "{first}");
        }
    }

    #[test]
    fn archived_members_still_get_a_new_owner() {
        let archived = member(&[(Field::IsArchived, Value::Flag(true))]);
        let row = desired(&[
            (Field::IsArchived, Value::Flag(true)),
            (Field::NewOwner, Value::text("m2")),
            (Field::ArchiveDocuments, Value::Flag(false)),
        ]);
        let Decision::Send { changes, .. } = super::row(
            &row,
            Found::One(archived),
            &Others::default(),
            &Rules::default(),
            false,
        ) else {
            panic!("it is sent")
        };
        assert_eq!(changes.len(), 3, "the archive flag goes with the new owner");
        assert!(!changes.iter().any(Change::is_visible));
    }

    #[test]
    fn rules_come_before_what_differs() {
        let archive = desired(&[(Field::IsArchived, Value::Flag(true))]);
        let own = Rules::new(&[], Some("m1".to_owned()));
        let protected = Rules::new(&["Ann@x.org".to_owned()], None);
        let mut typed = Rules::default();
        typed.set_types(vec!["Creator".to_owned()]);
        let creator = |name| desired(&[(Field::MemberType, Value::text(name))]);
        for (row, rules, expected) in [
            (&archive, &own, "invalid"),
            (&archive, &protected, "invalid"),
            (&desired(&[]), &protected, "invalid"),
            (&archive, &Rules::default(), "isArchived"),
            (&creator("CREATOR"), &typed, "memberType"),
            (&creator("Explorer"), &typed, "invalid"),
            (&creator("viewer"), &typed, "unchanged"),
        ] {
            let got = decide(row, Found::One(ann()), &Others::default(), rules, false);
            assert_eq!(got, expected, "{row:?} under {rules:?}");
        }
        let Decision::Send { changes, .. } = super::row(
            &creator("CREATOR"),
            Found::One(ann()),
            &Others::default(),
            &typed,
            false,
        ) else {
            panic!("it is sent")
        };
        assert_eq!(changes[0].after, Value::text("Creator"), "as it is listed");
    }

    /// A member holds the value before, the target value, or another one; for each kind of comparison.
    #[test]
    fn a_plan_is_sent_done_or_a_conflict() {
        let email = |before, after| change(Field::Email, before, after);
        let has = |now: &str| member(&[(Field::Email, Value::text(now))]);
        for (now, change, expected) in [
            ("new@x", email("new@x", "old@x"), "email"),
            ("new@x", email("New@x", "old@x"), "email"),
            ("old@x", email("New@x", "Old@x"), "unchanged"),
            ("ann@x", email("ann@x", "Ann@x"), "email"),
            ("Ann@x", email("ann@x", "Ann@x"), "unchanged"),
            ("other@x", email("New@x", "old@x"), "conflict"),
        ] {
            let row = planned_row(vec![change]);
            let got = decide(
                &row,
                Found::One(has(now)),
                &Others::default(),
                &Rules::default(),
                false,
            );
            assert_eq!(got, expected, "{now}");
        }
        let gone = planned_row(vec![email("a", "b")]);
        let got = decide(
            &gone,
            Found::Nobody,
            &Others::default(),
            &Rules::default(),
            false,
        );
        assert_eq!(got, "not_found");
    }

    #[test]
    fn a_prior_intent_is_confirmed_only_if_nothing_is_left() {
        let prior = Intent {
            row: 7,
            hash: crate::event::ContentHash(0),
            member_id: "m1".into(),
            changes: [change(Field::FirstName, "Ann", "Anna")].into(),
        };
        let now = |first: &str| {
            let mut now = ann();
            now.values.set(Field::FirstName, Some(Value::text(first)));
            now
        };
        let rules = Rules::default();
        let confirm = |row: &Row, member: &Member| {
            confirm_prior(row, &prior, member, &Others::default(), &rules)
        };
        let row = desired(&[(Field::FirstName, Value::text("Anna"))]);
        let outcome = confirm(&row, &now("Anna")).expect("it was applied");
        assert_eq!(outcome.outcome, Outcome::Updated);
        assert_eq!(confirm(&row, &now("Ann")), None, "it was not applied");
        let more = desired(&[
            (Field::FirstName, Value::text("Anna")),
            (Field::LastName, Value::text("B")),
        ]);
        assert_eq!(confirm(&more, &now("Anna")), None, "the last name is left");

        let mut changes = vec![change(Field::FirstName, "Anne", "Anna")];
        merge_prior(&mut changes, &prior);
        assert_eq!(
            changes,
            prior.changes.to_vec(),
            "the first value before stays"
        );
    }
}
