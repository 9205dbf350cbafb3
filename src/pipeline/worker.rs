//! One row, from its member to its outcome: look-up, difference, update, and what the API's answer means.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::canary::{Canary, Pass};
use super::limits::Limits;
use super::rules::Rules;
use super::{Events, Job};
use crate::change::{Change, Field, Member, Outcome, Value, diff};
use crate::directory::{Found, ambiguous, owner_problem};
use crate::event::{ContentHash, Event, Finished, Intent};
use crate::gateway::{Cause, Failure, Gateway, Reply};
use crate::input::{Ask, Row};
use crate::lookup::Lookup;
use crate::sigma::Request;
use crate::stop::{Stop, StopReason};

/// How rows are brought to their outcomes.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Nothing is sent but reads.
    pub dry_run: bool,
    /// Values that the member has already are sent all the same.
    pub send_unchanged: bool,
}

/// Brings rows to their outcomes; one for the whole pool, for it holds nothing of a row.
#[derive(Debug)]
pub struct Worker {
    /// The API.
    pub gateway: Arc<Gateway>,
    /// Who rows mean.
    pub lookup: Arc<Lookup>,
    /// What rows must keep to.
    pub rules: Arc<Rules>,
    /// When failures end the run.
    pub limits: Limits,
    /// The first rows, looked at.
    pub canary: Canary,
    /// Where it is told.
    pub events: Events,
    /// Ends the run.
    pub stop: Arc<Stop>,
    /// How.
    pub options: WorkerOptions,
}

/// How a row ended.
#[derive(Debug)]
enum End {
    /// With an outcome.
    Outcome(Settled),
    /// The run stopped before it had one; `withdraws` takes back an intent of which nothing was sent.
    Abandoned { withdraws: bool },
}

/// An outcome and what is known with it.
#[derive(Debug)]
struct Settled {
    outcome: Outcome,
    member_id: Option<Box<str>>,
    status: Option<u16>,
    attempts: u32,
    changes: Arc<[Change]>,
    recorded: bool,
    partly: bool,
    message: Option<Box<str>>,
}

/// What a member shows of changes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Borne {
    All,
    Part,
    None,
}

impl Borne {
    /// Whatever of the changes differed before and does not now was done.
    fn of(now: &Member, changes: &[Change]) -> Self {
        let mut visible = changes.iter().filter(|change| change.is_visible());
        if now.bears(changes) {
            Self::All
        } else if visible.any(|change| now.bears(std::slice::from_ref(change))) {
            Self::Part
        } else {
            Self::None
        }
    }
}

impl Settled {
    fn new(outcome: Outcome, message: Option<Box<str>>) -> Self {
        Self {
            outcome,
            member_id: None,
            status: None,
            attempts: 0,
            changes: Arc::default(),
            recorded: false,
            partly: false,
            message,
        }
    }

    /// What becomes of a row that an earlier piece of the run may have sent.
    fn of_prior(prior: &Intent, status: Option<u16>, outcome: Outcome, message: Box<str>) -> Self {
        Self {
            member_id: Some(prior.member_id.clone()),
            status,
            changes: Arc::clone(&prior.changes),
            recorded: true,
            ..Self::new(outcome, Some(message))
        }
    }

    /// What a second look at an update that was answered rightly makes of it; answers whether it is right.
    fn look_at(&mut self, borne: &Result<Borne, String>) -> bool {
        let (outcome, message) = match borne {
            Ok(Borne::All) => return true,
            Ok(borne) => {
                self.partly = *borne == Borne::Part;
                (
                    Outcome::Failed,
                    "the API took it, and the member read again does not bear it".to_owned(),
                )
            }
            Err(why) => (
                Outcome::Unknown,
                format!("the API took it, and a second look came to nothing ({why})"),
            ),
        };
        self.outcome = outcome;
        self.message = Some(message.into());
        false
    }

    fn of(mut self, member: &Member) -> Self {
        self.member_id = Some(member.id.clone());
        self
    }

    fn end(self) -> End {
        End::Outcome(self)
    }
}

fn end(outcome: Outcome, message: impl Into<Box<str>>) -> End {
    Settled::new(outcome, Some(message.into())).end()
}

impl Worker {
    /// Brings a row to its outcome and tells it.
    pub async fn run(&self, job: &Job) {
        let event = match self.settle(job).await {
            End::Abandoned { withdraws } => Event::Abandoned {
                row: job.row.number,
                withdraws,
            },
            End::Outcome(settled) => {
                self.limits.note(settled.outcome);
                Event::Finished(finished(&job.row, settled))
            }
        };
        // Nobody listens only when the process ends.
        let _ = self.events.send(event).await;
    }

    /// Tells that a row ended by a fault of this program.
    pub async fn panicked(&self, row: &Row) {
        self.limits.note(Outcome::Unknown);
        let message =
            "a fault in sigma-bulk itself ended this row: please report it; look at the member";
        let settled = Settled::new(Outcome::Unknown, Some(message.into()));
        let _ = self
            .events
            .send(Event::Finished(finished(row, settled)))
            .await;
    }

    async fn settle(&self, job: &Job) -> End {
        let row = &job.row;
        if let Ask::Wanted(values) = &row.ask
            && values.is_empty()
        {
            return Settled::new(Outcome::Empty, None).end();
        }
        let member = match &job.prior {
            Some(prior) => match Box::pin(self.look_again(row, prior)).await {
                Ok(member) => member,
                Err(end) => return end,
            },
            None => match self.lookup.member(job.key, row).await {
                Err(failure) => return self.not_looked_up(&failure),
                Ok(Found::Nobody) => return end(Outcome::NotFound, nobody(row)),
                Ok(Found::Ambiguous(members)) => {
                    return end(Outcome::Invalid, ambiguous(members));
                }
                Ok(Found::One(member)) => member,
            },
        };
        let changes = match self.changes(row, &member).await {
            Ok(changes) => changes,
            Err(end) => return end,
        };
        if let Some(objection) = self.rules.objection(&member, &changes) {
            return Settled::new(Outcome::Invalid, Some(objection))
                .of(&member)
                .end();
        }
        if changes.is_empty() {
            return Settled::new(Outcome::Unchanged, None).of(&member).end();
        }
        if self.options.dry_run {
            let mut settled = Settled::new(Outcome::WouldUpdate, None).of(&member);
            // Further rows of the member find it as this one would leave it.
            self.lookup.learn(job.key, member.after(&changes));
            settled.changes = changes.into();
            return settled.end();
        }
        self.send(job, member, changes).await
    }

    /// Reads the member back for which an earlier piece of the run recorded an intent. If it bears what was meant, and
    /// all else that the row wants, the row is done.
    async fn look_again(&self, row: &Row, prior: &Intent) -> Result<Member, End> {
        let nobody_can_tell = |status, why: &str| {
            let message = format!("an earlier piece of this run may have sent it, and {why}");
            Settled::of_prior(prior, status, Outcome::Unknown, message.into()).end()
        };
        let id = &prior.member_id;
        let reply = match self.gateway.call(Request::Member { id }).await {
            Ok(reply) => reply,
            Err(failure) => {
                let Cause::Attempt(error) = &failure.cause else {
                    return Err(self.not_looked_up(&failure));
                };
                let why = format!("reading the member failed: {error}");
                return Err(nobody_can_tell(error.status(), &why));
            }
        };
        let status = Some(reply.answer.status);
        let member = reply.answer.member().map_err(|error| {
            nobody_can_tell(status, &format!("the member can't be read: {error}"))
        })?;
        if member.id != prior.member_id {
            return Err(nobody_can_tell(status, "reading the member showed another"));
        }
        if prior.changes.iter().any(Change::is_visible)
            && member.bears(&prior.changes)
            && !(self.changes(row, &member).await?.iter()).any(Change::is_visible)
        {
            let message = "sent by an earlier piece of this run; the member was read to confirm it";
            return Err(Settled::of_prior(prior, status, Outcome::Updated, message.into()).end());
        }
        Ok(member)
    }

    fn not_looked_up(&self, failure: &Failure) -> End {
        match &failure.cause {
            Cause::Stopped => End::Abandoned { withdraws: false },
            Cause::SignIn(_) => {
                self.sign_in_failed(&failure.cause);
                End::Abandoned { withdraws: false }
            }
            Cause::Attempt(error) => {
                let message =
                    format!("the member can't be looked up, and nothing was sent: {error}");
                let mut settled = Settled::new(Outcome::Failed, Some(message.into()));
                settled.status = failure.cause.status();
                settled.end()
            }
        }
    }

    fn sign_in_failed(&self, cause: &Cause) {
        tracing::error!(error = %cause, "the run stops");
        self.stop.raise(StopReason::SignIn);
    }

    /// What is to be sent; empty if the member has it all.
    async fn changes(&self, row: &Row, member: &Member) -> Result<Vec<Change>, End> {
        let wanted = match &row.ask {
            Ask::Wanted(wanted) => wanted,
            Ask::Planned { changes, .. } => {
                return planned(member, changes).map_err(|message| {
                    Settled::new(Outcome::Conflict, Some(message.into()))
                        .of(member)
                        .end()
                });
            }
        };
        let mut wanted = Cow::Borrowed(wanted);
        if let Some(email) = row.owner_email() {
            match self.lookup.email(email).await {
                Ok(Found::One(owner)) => {
                    wanted
                        .to_mut()
                        .set(Field::NewOwner, Some(Value::Text(owner.id)));
                }
                Ok(found) => {
                    let problem = owner_problem(email, &found).unwrap_or_default();
                    return Err(end(Outcome::Invalid, problem));
                }
                Err(failure) => return Err(self.not_looked_up(&failure)),
            }
        }
        if let Some(listed) = wanted
            .text(Field::MemberType)
            .and_then(|name| self.rules.type_as_listed(name))
        {
            let listed = Value::text(listed);
            wanted.to_mut().set(Field::MemberType, Some(listed));
        }
        Ok(diff(member, &wanted, self.options.send_unchanged))
    }

    async fn send(&self, job: &Job, member: Member, mut changes: Vec<Change>) -> End {
        let pass = tokio::select! {
            biased;
            () = self.stop.raised() => return End::Abandoned { withdraws: false },
            pass = self.canary.pass() => pass,
        };
        let watch = match pass {
            Pass::Watched(watch) => Some(watch),
            Pass::Free => None,
            Pass::Halt => {
                self.stop.raise(StopReason::FailureLimit);
                return End::Abandoned { withdraws: false };
            }
        };
        // The values that were recorded first are the ones to which an undo goes back.
        if let Some(prior) = &job.prior {
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
        let changes: Arc<[Change]> = changes.into();
        let (recorded, is_recorded) = oneshot::channel();
        let intent = Intent {
            row: job.row.number,
            hash: ContentHash(job.row.content_hash()),
            member_id: member.id.clone(),
            changes: Arc::clone(&changes),
        };
        let told = self.events.send(Event::Intent(intent, recorded)).await;
        if told.is_err() || is_recorded.await.is_err() {
            return End::Abandoned { withdraws: false };
        }
        let result = self
            .gateway
            .call(Request::Update {
                id: &member.id,
                changes: &changes,
            })
            .await;
        let mut end = self.judge(job, &member, &changes, result).await;
        if let Some(watch) = watch {
            let is_right = match &mut end {
                End::Outcome(settled) if settled.outcome == Outcome::Updated => {
                    let now = Box::pin(self.read_again(&member)).await;
                    settled.look_at(&now.map(|now| Borne::of(&now, &changes)))
                }
                _ => false,
            };
            // One that was not sent, for the run stops, is not wrong.
            if !is_right && let End::Outcome(_) = &end {
                tracing::error!(
                    row = job.row.number,
                    "a canary row did not come out right: the run stops"
                );
                self.stop.raise(StopReason::FailureLimit);
            }
            watch.judge(is_right);
        }
        end
    }

    /// What the answer to an update means for the row.
    async fn judge(
        &self,
        job: &Job,
        member: &Member,
        changes: &Arc<[Change]>,
        result: Result<Reply, Failure>,
    ) -> End {
        let (attempts, status) = match &result {
            Ok(reply) => (reply.attempts, Some(reply.answer.status)),
            Err(failure) => (failure.attempts, failure.cause.status()),
        };
        let settled = |outcome, message: Option<String>| {
            let mut settled = Settled::new(outcome, message.map(Into::into)).of(member);
            settled.status = status;
            settled.attempts = attempts;
            settled.changes = Arc::clone(changes);
            settled.recorded = true;
            settled
        };
        let mut stopped = false;
        let reason = match result {
            Ok(reply) => match reply.answer.member() {
                Ok(now) if now.id == member.id && shows(&now, changes) => {
                    let first = now.first_unborne(changes);
                    let message = first.map(|change| unborne(&now, change));
                    // A flag that the answer leaves out looks like one that is false.
                    if first.is_some_and(|change| change.after == Value::Flag(true)) {
                        message.unwrap_or_default()
                    } else {
                        let outcome = match message {
                            Some(_) => Outcome::Failed,
                            None => Outcome::Updated,
                        };
                        self.lookup.learn(job.key, now);
                        return settled(outcome, message).end();
                    }
                }
                Ok(_) => "the answer does not show the values".to_owned(),
                Err(error) => format!("the answer can't be read: {error}"),
            },
            Err(failure) => {
                if let Cause::SignIn(_) = &failure.cause {
                    self.sign_in_failed(&failure.cause);
                }
                if !failure.may_be_applied {
                    return match &failure.cause {
                        Cause::Attempt(error) => {
                            settled(Outcome::Failed, Some(error.to_string())).end()
                        }
                        Cause::SignIn(_) | Cause::Stopped => End::Abandoned { withdraws: true },
                    };
                }
                stopped = !matches!(failure.cause, Cause::Attempt(_));
                failure.cause.to_string()
            }
        };
        // It was sent, and what became of it is not known: the member tells. A run that stops has not used its tries
        // up, so that a resume goes on with the row. It may be done late, behind a proxy that has given up: so the intent
        // stays, with the values before.
        let borne = Box::pin(self.reads_back(member, changes)).await;
        match borne {
            Ok(Borne::None | Borne::Part) | Err(_) if stopped => {
                End::Abandoned { withdraws: false }
            }
            Ok(Borne::All) => settled(
                Outcome::Updated,
                Some(format!("confirmed by reading the member again ({reason})")),
            )
            .end(),
            Ok(Borne::Part) => Settled {
                partly: true,
                ..settled(
                    Outcome::Failed,
                    Some(format!("the member bears a part of the values ({reason})")),
                )
            }
            .end(),
            Ok(Borne::None) => {
                let answered = status.is_some_and(|status| (200..300).contains(&status));
                let message = if answered {
                    format!("the member does not bear the values ({reason})")
                } else {
                    reason
                };
                settled(Outcome::Failed, Some(message)).end()
            }
            Err(why) => settled(
                Outcome::Unknown,
                Some(format!(
                    "sent, and nobody can tell whether it was done ({reason}; {why})"
                )),
            )
            .end(),
        }
    }

    /// What of the changes the member, read now, bears; or why that can't be told.
    async fn reads_back(&self, member: &Member, changes: &[Change]) -> Result<Borne, String> {
        if !changes.iter().any(Change::is_visible) {
            return Err("the API does not show what was set".to_owned());
        }
        let now = self.read_again(member).await?;
        Ok(Borne::of(&now, changes))
    }

    /// The member as it is now, or why it can't be read.
    async fn read_again(&self, member: &Member) -> Result<Member, String> {
        let reply = self
            .gateway
            .last_look(Request::Member { id: &member.id })
            .await
            .map_err(|failure| format!("reading it again failed: {}", failure.cause))?;
        let now = reply
            .answer
            .member()
            .map_err(|error| format!("reading it again failed: {error}"))?;
        if now.id != member.id {
            return Err("reading it again showed another member".to_owned());
        }
        Ok(now)
    }
}

fn finished(row: &Row, settled: Settled) -> Finished {
    Finished {
        row: row.number,
        line: row.line,
        email: row.email.clone(),
        member_id: settled.member_id,
        outcome: settled.outcome,
        status: settled.status,
        attempts: settled.attempts,
        changes: settled.changes,
        recorded: settled.recorded,
        partly: settled.partly,
        message: settled.message,
    }
}

fn nobody(row: &Row) -> String {
    match &row.ask {
        Ask::Wanted(_) => "no member has this email".to_owned(),
        Ask::Planned { member_id, .. } => format!("there is no member {member_id} any more"),
    }
}

/// Whether the answer shows every field that was set, so that it can be judged by it.
fn shows(member: &Member, changes: &[Change]) -> bool {
    changes
        .iter()
        .all(|change| change.field.is_write_only() || member.values.get(change.field).is_some())
}

fn unborne(member: &Member, change: &Change) -> String {
    format!(
        "the API took it, and {} is \"{}\" all the same (\"{}\" was sent)",
        change.field.column(),
        member
            .values
            .get(change.field)
            .map(ToString::to_string)
            .unwrap_or_default(),
        change.after,
    )
}

/// What of a planned row is to be sent: nothing that the member has already, and all of it only if the member
/// holds what it held when the plan was made.
fn planned(member: &Member, changes: &[Change]) -> Result<Vec<Change>, String> {
    let mut left = Vec::new();
    // As the API may have folded them when they were set; but exactly the one or the other is no question.
    let fits = |field: Field, now: Option<&Value>, value: Option<&Value>| match value {
        Some(value) => field.bears(now, value),
        None => now.is_none(),
    };
    for change in changes {
        let now = member.values.get(change.field);
        let is_done = now == Some(&change.after)
            || (!fits(change.field, now, change.before.as_ref())
                && change.field.bears(now, &change.after));
        if change.field.is_write_only() {
            left.push(change.clone());
        } else if is_done {
            // Nothing to send, unless a write-only field needs it beside it.
            if changes.iter().any(|other| other.field.is_write_only()) {
                left.push(change.clone());
            }
        } else if fits(change.field, now, change.before.as_ref()) {
            left.push(change.clone());
        } else {
            let shown = |value: Option<&Value>| {
                value.map_or_else(|| "nothing".to_owned(), |v| format!("\"{v}\""))
            };
            return Err(format!(
                "{} is {} and no longer {}: nothing was sent",
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

    #[test]
    fn a_plan_takes_values_as_the_api_may_have_folded_them() {
        let email = |before: &str, after: &str| Change {
            field: Field::Email,
            before: Some(Value::text(before)),
            after: Value::text(after),
        };
        let has = |now: &str| Member {
            id: "m".into(),
            values: [(Field::Email, Value::text(now))].into_iter().collect(),
        };
        let left = |now: &str, change: Change| planned(&has(now), &[change]).map(|left| left.len());
        assert_eq!(left("new@x", email("New@x", "old@x")), Ok(1));
        assert_eq!(left("old@x", email("New@x", "Old@x")), Ok(0));
        assert_eq!(
            left("ann@x", email("ann@x", "Ann@x")),
            Ok(1),
            "its case alone"
        );
        assert_eq!(left("Ann@x", email("ann@x", "Ann@x")), Ok(0));
        assert!(left("other@x", email("New@x", "old@x")).is_err());
    }
}
