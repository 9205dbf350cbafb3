//! What must be known before the first change: the account types, who the rows mean, and whether a person agrees.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::jobs::Job;
use super::{Context, RunError};
use crate::change::{Field, Value, diff};
use crate::directory::{Found, ambiguous, owner_problem};
use crate::gateway::{Cause, Gateway};
use crate::input::relations::contradictions;
use crate::input::{Ask, Entry, Preflight, Row};
use crate::lookup::{Lookup, LookupError};
use crate::output::{Lines, Plain, count, grouped, is_interactive};
use crate::pipeline::limits::Limit;
use crate::pipeline::rules::Rules;
use crate::report::journal::InputKind;
use crate::report::ledger::open_rows;
use crate::settings::Settings;
use crate::sigma::{Request, TypesPage};
use crate::stop::Stop;

/// What would become of the rows.
#[derive(Debug, Default)]
struct Forecast {
    changed: u64,
    /// Whom these rows name.
    members: u64,
    as_wanted: u64,
    /// Rows that are wrong, and those whose member is not there.
    impossible: u64,
}

/// What would become of one.
enum Outlook {
    Change,
    AsWanted,
    Wrong(Box<str>),
    /// Nobody has the email, or nobody can tell yet.
    Unknown,
}

/// What is needed to find out what must be known before the first change.
pub(super) struct Preparing<'a> {
    pub(super) context: &'a Context,
    pub(super) settings: &'a Settings,
    pub(super) job: &'a Job,
    pub(super) gateway: &'a Gateway,
    pub(super) lookup: &'a Lookup,
    pub(super) preflight: &'a Preflight,
    pub(super) stop: &'a Stop,
    /// Every row has its outcome already.
    pub(super) nothing_left: bool,
}

impl Preparing<'_> {
    /// Answers how long a person thought about it, which is not the run's time.
    pub(super) async fn prepare(
        &self,
        rules: &mut Rules,
        is_resumed: bool,
    ) -> Result<Duration, RunError> {
        if self.nothing_left {
            return Ok(Duration::ZERO);
        }
        if self.preflight.stray_companions > 0 {
            tracing::warn!(
                rows = self.preflight.stray_companions,
                "some rows set newOwner, archiveDocuments or archiveScheduledExports without isArchived or isInactive true; the API documents them only together"
            );
        }
        if self.preflight.has_types
            && let Some(types) = self.account_types().await
        {
            rules.set_types(types);
        }
        let counting = self.settings.max_changes.is_some();
        let is_strict = self.settings.strict && !is_resumed;
        self.lookup
            .prepare(
                self.settings.lookup,
                counting || is_strict,
                self.settings.concurrency,
            )
            .await
            .map_err(|error| self.not_listed(&error))?;
        self.settle_spellings(rules).await?;
        if is_strict {
            self.refuse_wrong_rows(rules)?;
        }
        let asks = !self.settings.yes && is_interactive();
        if is_resumed || self.settings.dry_run || !(counting || asks) {
            return Ok(Duration::ZERO);
        }
        let forecast = if self.lookup.is_listed() || counting {
            Some(self.forecast(rules)?)
        } else {
            None
        };
        // A plan's rows are all changes: a share of them says nothing.
        let is_meant =
            |most: &Limit| self.job.head.kind == InputKind::Csv || matches!(most, Limit::Count(_));
        if let (Some(most), Some(forecast)) =
            (self.settings.max_changes.filter(is_meant), &forecast)
            && most.is_exceeded(forecast.members, self.preflight.rows.into())
        {
            return Err(RunError::Refused(format!(
                "{} would be changed, which is more than --max-changes allows: nothing was sent; look with --dry-run",
                count(forecast.members, "member")
            )));
        }
        let asked_at = Instant::now();
        if asks && !self.is_agreed(forecast.as_ref()).await {
            return Err(RunError::Refused("nothing was sent".to_owned()));
        }
        Ok(asked_at.elapsed())
    }

    fn not_listed(&self, error: &LookupError) -> RunError {
        let message = error.to_string();
        match error {
            LookupError::List(Cause::SignIn(_)) | LookupError::Each(Cause::SignIn(_)) => {
                RunError::SignIn {
                    host: self.job.head.base_url.clone(),
                    why: message,
                }
            }
            _ => RunError::Api(message),
        }
    }

    /// The organization's account types, where the credentials may read them.
    async fn account_types(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let mut page: Option<String> = None;
        // A listing that goes round would never end.
        let mut been = HashSet::new();
        loop {
            let reply = match self
                .gateway
                .call(Request::AccountTypes {
                    page: page.as_deref(),
                })
                .await
            {
                Ok(reply) => reply,
                Err(failure) => {
                    tracing::info!(cause = %failure.cause, "account types are not checked beforehand");
                    return None;
                }
            };
            let (more, next) = TypesPage::parse(&reply.answer.body).ok()?.into_parts();
            let ended = more.is_empty();
            names.extend(more);
            let Some(next) = next.filter(|next| !ended && !been.contains(next)) else {
                return Some(names).filter(|names| !names.is_empty());
            };
            been.insert(next.clone());
            page = Some(next);
        }
    }

    /// Rows whose emails differ in case alone may mean one member: then they must not contradict one another.
    async fn settle_spellings(&self, rules: &mut Rules) -> Result<(), RunError> {
        for claims in &self.preflight.relations.mixed {
            let mut of_member: BTreeMap<Box<str>, Vec<_>> = BTreeMap::new();
            for claim in claims {
                let found = self.lookup.email(&claim.email).await;
                let found = found.map_err(|failure| RunError::Api(failure.cause.to_string()))?;
                if let Found::One(member) = found {
                    of_member.entry(member.id).or_default().push(claim);
                }
            }
            for claims in of_member.values() {
                rules.add_problems(contradictions(claims));
            }
        }
        Ok(())
    }

    /// With `--strict`, rows that are wrong by what the API told are as bad as those that are wrong by themselves.
    fn refuse_wrong_rows(&self, rules: &Rules) -> Result<(), RunError> {
        let mut rows = open_rows(&self.job.head, &self.job.dir)?;
        while let Some((_, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry
                && let Outlook::Wrong(problem) = self.outlook(rules, &row)
            {
                return Err(RunError::Refused(format!(
                    "line {} is wrong, and --strict is given: nothing was sent\n  line {0}: {problem}",
                    row.line
                )));
            }
        }
        Ok(())
    }

    /// What would become of a row, as far as it is known without a further request.
    fn outlook(&self, rules: &Rules, row: &Row) -> Outlook {
        if let Some(problem) = rules.problem(row) {
            return Outlook::Wrong(problem);
        }
        if let Some(email) = row.owner_email()
            && let Some(found) = self.lookup.known_email(email)
            && let Some(problem) = owner_problem(email, &found)
        {
            return Outlook::Wrong(problem.into());
        }
        let is_change = match (&row.ask, self.lookup.known(row)) {
            (Ask::Wanted(wanted), _) if wanted.is_empty() => false,
            (Ask::Wanted(wanted), Some(Found::One(member))) => {
                let changes = diff(&member, wanted, self.settings.send_unchanged);
                if let Some(objection) = rules.objection(&member, &changes) {
                    return Outlook::Wrong(objection);
                }
                !changes.is_empty()
            }
            (Ask::Planned { changes, .. }, Some(Found::One(member))) => !member.bears(changes),
            (_, Some(Found::Ambiguous(members))) => {
                return Outlook::Wrong(ambiguous(members).into());
            }
            (_, Some(Found::Nobody)) => return Outlook::Unknown,
            (_, None) => {
                let wanted = row.wants(Field::MemberType).and_then(Value::as_text);
                let problem = wanted.and_then(|wanted| rules.type_problem(wanted));
                return problem.map_or(Outlook::Unknown, Outlook::Wrong);
            }
        };
        if is_change {
            Outlook::Change
        } else {
            Outlook::AsWanted
        }
    }

    /// What would become of the rows, as far as it is known without a further request.
    fn forecast(&self, rules: &Rules) -> Result<Forecast, RunError> {
        let mut forecast = Forecast::default();
        let problems = &self.preflight.relations.problems;
        let mut counted = HashSet::new();
        let mut rows = open_rows(&self.job.head, &self.job.dir)?;
        while let Some((_, entry)) = rows.next_entry()? {
            let outlook = match &entry {
                Entry::Row(row) if !problems.contains_key(&row.number) => self.outlook(rules, row),
                _ => Outlook::Unknown,
            };
            if let (Outlook::Change, Entry::Row(row)) = (&outlook, &entry) {
                let name = self.preflight.names.find(&row.key());
                let again = name
                    .filter(|name| self.preflight.relations.repeated.contains(name))
                    .is_some_and(|name| !counted.insert(name));
                forecast.members += u64::from(!again);
            }
            *match outlook {
                Outlook::Change => &mut forecast.changed,
                Outlook::AsWanted => &mut forecast.as_wanted,
                Outlook::Wrong(_) | Outlook::Unknown => &mut forecast.impossible,
            } += 1;
        }
        Ok(forecast)
    }

    async fn is_agreed(&self, forecast: Option<&Forecast>) -> bool {
        let rows = self.preflight.rows;
        let what = match forecast {
            Some(forecast) => format!(
                "{} to change, {} as wanted already, {} not possible",
                grouped(forecast.changed),
                grouped(forecast.as_wanted),
                grouped(forecast.impossible)
            ),
            None => {
                let bad = self.preflight.bad_rows.min(rows);
                format!(
                    "at most {} to change, {} not possible",
                    grouped((rows - bad).into()),
                    grouped(bad.into())
                )
            }
        };
        let question = format!(
            "{} in {}: {what}; at {} (organization {}).\nGo on? [y/N]",
            count(rows.into(), "row"),
            Plain(&self.job.head.input),
            self.job.head.base_url,
            self.job.head.organization.as_deref().unwrap_or("unknown"),
        );
        let output = self.context.output.clone();
        let answer = tokio::task::spawn_blocking(move || output.ask(Lines(question)));
        tokio::select! {
            answer = answer => match answer {
                Ok(Ok(answer)) => matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"),
                _ => false,
            },
            () = self.stop.raised() => false,
        }
    }
}
