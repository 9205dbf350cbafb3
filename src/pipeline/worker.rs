//! One row, from its member to its outcome. A worker is plumbing: it fetches the member, asks [`crate::decide`] what
//! to do, records the intent, sends the update, and asks `decide` what the answer means.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::canary::{Canary, CanaryGuard, Clearance};
use super::limits::FailureLimits;
use super::{Events, RowTask};
use crate::decide::verdict::{self, CanaryVerdict, Reread, SentUpdate, UpdateAnswer, Verdict};
use crate::decide::{self, Decision, Others, Rules};
use crate::event::{ContentHash, Event, Intent};
use crate::gateway::{Failure, FailureCause, Gateway, Reply};
use crate::input::{Row, RowRequest};
use crate::members::Lookup;
use crate::model::{Change, Found, Member, Outcome, RowOutcome};
use crate::sigma::{Request, parse_member};
use crate::stop::{Stop, StopReason};

/// How rows are brought to their outcomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerOptions {
    /// Whether only reads are sent.
    pub dry_run: bool,
    /// Whether values that the member has already are sent as well.
    pub send_unchanged: bool,
    /// Whether earlier sessions of the run may have changed members.
    pub is_resumed: bool,
}

/// Brings rows to their outcomes. The whole pool shares one, because it holds no state of a row.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The API.
    pub gateway: Arc<Gateway>,
    /// Finds the members that rows name.
    pub lookup: Arc<Lookup>,
    /// What rows must keep to.
    pub rules: Arc<Rules>,
    /// When failures end the run.
    pub limits: FailureLimits,
    /// Verifies the first rows before the others go.
    pub canary: Canary,
    /// The channel to the reporter.
    pub events: Events,
    /// Ends the run.
    pub stop: Arc<Stop>,
    /// The options.
    pub options: WorkerOptions,
}

/// How the work on a row ended.
#[derive(Debug)]
enum RowEnd {
    /// With an outcome.
    Outcome(RowOutcome),
    /// The run stopped before there was one. `withdraws` voids an intent of which nothing was sent.
    Abandoned { withdraws: bool },
}

impl Worker {
    /// Brings a row to its outcome and reports it.
    pub(crate) async fn run(&self, task: &RowTask) {
        match self.process(task).await {
            RowEnd::Outcome(outcome) => self.report(&task.row, outcome).await,
            RowEnd::Abandoned { withdraws } => {
                let row = task.row.number;
                // Nobody listens only when the process ends.
                let _ = self.events.send(Event::Abandoned { row, withdraws }).await;
            }
        }
    }

    /// Reports that a bug in this program ended a row.
    pub(crate) async fn report_panic(&self, row: &Row) {
        let message =
            "a bug in sigma-bulk ended this row: please report it, and look at the member";
        let outcome = RowOutcome::new(row.number, Outcome::Unknown, Some(message.into()));
        self.report(row, outcome).await;
    }

    async fn report(&self, row: &Row, outcome: RowOutcome) {
        self.limits.record(outcome.outcome);
        let event = Event::Finished {
            line: row.line,
            email: row.email.clone(),
            outcome,
        };
        let _ = self.events.send(event).await;
    }

    async fn process(&self, task: &RowTask) -> RowEnd {
        let row = &task.row;
        if let Some(outcome) = decide::before_lookup(row, &self.rules) {
            return RowEnd::Outcome(outcome);
        }
        let found = match &task.prior {
            Some(prior) => match Box::pin(self.read_prior(row, prior)).await {
                Ok(member) => Found::One(member),
                Err(end) => return end,
            },
            None => match self.find(task).await {
                Ok(found) => found,
                Err(failure) => return self.lookup_failed(row, &failure),
            },
        };
        let mut others = Others {
            owner: None,
            new_email: self.lookup.holder_of_new_email(row),
        };
        if matches!(found, Found::One(_)) {
            match self.lookup.owner(row).await {
                Ok(owner) => others.owner = owner,
                Err(failure) => return self.lookup_failed(row, &failure),
            }
        }
        if let (Some(prior), Found::One(member)) = (&task.prior, &found)
            && let Some(outcome) = decide::confirm_prior(row, prior, member, &others, &self.rules)
        {
            return RowEnd::Outcome(outcome);
        }
        let send_unchanged = self.options.send_unchanged;
        match decide::row(row, found, &others, &self.rules, send_unchanged) {
            Decision::Skip(outcome) => RowEnd::Outcome(outcome),
            Decision::Send { member, changes } if self.options.dry_run => {
                let outcome = RowOutcome {
                    member_id: Some(member.id.clone()),
                    changes: changes.into(),
                    owner: describe_owner(&others),
                    ..RowOutcome::new(row.number, Outcome::WouldUpdate, None)
                };
                // Further rows of the member find it as this one would leave it.
                self.lookup
                    .remember_latest(task.key, member.after(&outcome.changes));
                RowEnd::Outcome(outcome)
            }
            Decision::Send { member, changes } => {
                let mut end = self.send(task, &member, changes).await;
                if let RowEnd::Outcome(outcome) = &mut end {
                    outcome.owner = describe_owner(&others);
                }
                end
            }
        }
    }

    /// Returns the member that a row names, as it is now where that matters: a plan must not overwrite what somebody has
    /// changed since, and an earlier session of the run may have changed a member that several rows name.
    async fn find(&self, task: &RowTask) -> Result<Found, Failure> {
        let row = &task.row;
        if let RowRequest::Planned { member_id, .. } = &row.request {
            return Box::pin(self.lookup.read_again(task.key, member_id, row)).await;
        }
        let found = self.lookup.member(task.key, row).await?;
        match &found {
            Found::One(member) if self.options.is_resumed && self.lookup.is_repeated(task.key) => {
                Box::pin(self.lookup.read_again(task.key, &member.id, row)).await
            }
            _ => Ok(found),
        }
    }

    /// Reads the member of an intent that an earlier session recorded. The update may have been applied, so that the
    /// outcome is unknown if the member can't be read.
    async fn read_prior(&self, row: &Row, prior: &Intent) -> Result<Member, RowEnd> {
        let id = &prior.member_id;
        let read = self
            .gateway
            .read(Request::Member { id }, parse_member)
            .await;
        let (status, why) = match read {
            Ok(member) if member.id == *id => return Ok(member),
            Ok(_) => (Some(200), "the API returned another member".to_owned()),
            Err(failure) => match &failure.cause {
                FailureCause::Attempt(error) => (
                    error.status(),
                    format!("reading the member failed: {error}"),
                ),
                _ => return Err(self.lookup_failed(row, &failure)),
            },
        };
        let message = format!("an earlier session of this run may have sent it, but {why}");
        Err(RowEnd::Outcome(RowOutcome {
            member_id: Some(id.clone()),
            status,
            changes: Arc::clone(&prior.changes),
            ..RowOutcome::new(row.number, Outcome::Unknown, Some(message.into()))
        }))
    }

    fn lookup_failed(&self, row: &Row, failure: &Failure) -> RowEnd {
        match &failure.cause {
            FailureCause::Stopped => RowEnd::Abandoned { withdraws: false },
            FailureCause::SignIn(_) => {
                self.sign_in_failed(&failure.cause);
                RowEnd::Abandoned { withdraws: false }
            }
            FailureCause::Attempt(error) => {
                let message =
                    format!("looking up the member failed, and nothing was sent: {error}");
                RowEnd::Outcome(RowOutcome {
                    status: failure.cause.status(),
                    ..RowOutcome::new(row.number, Outcome::Failed, Some(message.into()))
                })
            }
        }
    }

    fn sign_in_failed(&self, cause: &FailureCause) {
        tracing::error!(error = %cause, "the run stops");
        self.stop.raise(StopReason::SignIn);
    }

    /// Sends an update, once the canary lets it go and its intent is recorded.
    async fn send(&self, task: &RowTask, member: &Member, mut changes: Vec<Change>) -> RowEnd {
        let clearance = tokio::select! {
            biased;
            () = self.stop.raised() => return RowEnd::Abandoned { withdraws: false },
            clearance = self.canary.clearance() => clearance,
        };
        let canary = match clearance {
            Clearance::Canary(guard) => Some(guard),
            Clearance::Proceed => None,
            Clearance::Halt => {
                self.stop.raise(StopReason::FailureLimit);
                return RowEnd::Abandoned { withdraws: false };
            }
        };
        if let Some(prior) = &task.prior {
            decide::merge_prior(&mut changes, prior);
        }
        let changes: Arc<[Change]> = changes.into();
        if !self.record_intent(task, member, &changes).await {
            return RowEnd::Abandoned { withdraws: false };
        }
        let request = Request::Update {
            id: &member.id,
            changes: &changes,
        };
        let result = self.gateway.call(request).await;
        let end = self.settle(task, member, &changes, result).await;
        match canary {
            Some(guard) => self.verify_canary(guard, member, &changes, end).await,
            None => end,
        }
    }

    /// Returns whether the intent is in the journal, so that the update may be sent.
    async fn record_intent(
        &self,
        task: &RowTask,
        member: &Member,
        changes: &Arc<[Change]>,
    ) -> bool {
        let intent = Intent {
            row: task.row.number,
            hash: ContentHash(task.row.content_hash()),
            member_id: member.id.clone(),
            changes: Arc::clone(changes),
        };
        let (recorded, is_recorded) = oneshot::channel();
        let sent = self.events.send(Event::Intent(intent, recorded)).await;
        sent.is_ok() && is_recorded.await.is_ok()
    }

    /// Finds out what the result of an update means for its row.
    async fn settle(
        &self,
        task: &RowTask,
        member: &Member,
        changes: &Arc<[Change]>,
        result: Result<Reply, Failure>,
    ) -> RowEnd {
        let (status, attempts, answer) = self.answer(result);
        let sent = SentUpdate {
            row: task.row.number,
            member_id: member.id.clone(),
            changes: Arc::clone(changes),
            status,
            attempts,
        };
        let mut now = None;
        let mut verdict = verdict::after_answer(&sent, &answer);
        if let UpdateAnswer::Member(member) = answer {
            now = Some(member);
        }
        let end = loop {
            verdict = match verdict {
                Verdict::Abandon { withdraws } => return RowEnd::Abandoned { withdraws },
                Verdict::Outcome(outcome) => break RowEnd::Outcome(outcome),
                // The change may still come. A resume looks again.
                Verdict::Reread(_, wait) if !wait.is_zero() && self.stop.is_raised() => {
                    return RowEnd::Abandoned { withdraws: false };
                }
                Verdict::Reread(doubt, wait) => {
                    let reread = Box::pin(self.reread_member(member, wait)).await;
                    let verdict = verdict::after_reread(&sent, doubt, &reread);
                    now = reread.member();
                    verdict
                }
            };
        };
        if let Some(now) = now {
            self.lookup.remember_latest(task.key, now);
        }
        end
    }

    /// Returns the status, the number of tries, and the answer, in the terms of [`verdict`].
    fn answer(&self, result: Result<Reply, Failure>) -> (Option<u16>, u32, UpdateAnswer) {
        match result {
            Ok(reply) => {
                let answer = match reply.response.member() {
                    Ok(member) => UpdateAnswer::Member(member),
                    Err(error) => UpdateAnswer::Unreadable(error.to_string()),
                };
                (Some(reply.response.status), reply.attempts, answer)
            }
            Err(failure) => {
                let Failure {
                    cause,
                    attempts,
                    may_be_applied,
                } = failure;
                if let FailureCause::SignIn(_) = &cause {
                    self.sign_in_failed(&cause);
                }
                let (status, reason) = (cause.status(), cause.to_string());
                let answer = match cause {
                    FailureCause::Attempt(_) => UpdateAnswer::Failed {
                        reason,
                        may_be_applied,
                    },
                    FailureCause::SignIn(_) | FailureCause::Stopped => UpdateAnswer::Stopped {
                        reason,
                        may_be_applied,
                    },
                };
                (status, attempts, answer)
            }
        }
    }

    /// Reads the member of a canary row to verify its outcome. A wrong one stops the run.
    async fn verify_canary(
        &self,
        guard: CanaryGuard<'_>,
        member: &Member,
        changes: &[Change],
        end: RowEnd,
    ) -> RowEnd {
        let end = match end {
            RowEnd::Outcome(outcome) if outcome.outcome == Outcome::Updated => {
                RowEnd::Outcome(self.verified(outcome, member, changes).await)
            }
            end => end,
        };
        match &end {
            RowEnd::Outcome(outcome) => {
                let is_right = outcome.outcome == Outcome::Updated;
                if !is_right {
                    tracing::error!(row = outcome.row, "a canary row is wrong: the run stops");
                    self.stop.raise(StopReason::FailureLimit);
                }
                guard.report(is_right);
            }
            // The run stops anyway: a row that was not sent is not wrong.
            RowEnd::Abandoned { .. } => guard.report(false),
        }
        end
    }

    /// Returns the outcome of a canary row after its member was read, several times if it still shows the old values.
    async fn verified(
        &self,
        outcome: RowOutcome,
        member: &Member,
        changes: &[Change],
    ) -> RowOutcome {
        let (mut looks, mut wait) = (0, Duration::ZERO);
        loop {
            let reread = Box::pin(self.reread_member(member, wait)).await;
            match verdict::after_canary_reread(&outcome, changes, &reread, looks) {
                CanaryVerdict::Outcome(outcome) => return outcome,
                CanaryVerdict::LookAgain(next) => wait = next,
            }
            looks += 1;
        }
    }

    /// Returns what the member shows after this wait, which a stop ends.
    async fn reread_member(&self, member: &Member, wait: Duration) -> Reread {
        if !wait.is_zero() {
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.raised() => {}
            }
        }
        let request = Request::Member { id: &member.id };
        match self.gateway.read_after_stop(request, parse_member).await {
            Ok(now) if now.id == member.id => Reread::Shown(now),
            Ok(_) => Reread::Unreadable("reading it again returned another member".to_owned()),
            Err(_) if self.stop.is_raised() => Reread::Stopped,
            Err(failure) => {
                Reread::Unreadable(format!("reading it again failed: {}", failure.cause))
            }
        }
    }
}

/// Returns the new owner of a member's documents for people, if the row names one.
fn describe_owner(others: &Others) -> Option<Box<str>> {
    match &others.owner.as_ref()?.found {
        Found::One(owner) => Some(owner.describe().into()),
        _ => None,
    }
}
