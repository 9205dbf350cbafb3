//! What must be known before the first change: the account types, the members, and whether a person agrees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::prepared::PreparedRun;
use super::sign_in::Connection;
use super::strict::InvalidRows;
use super::{Context, RunError};
use crate::decide::{self, Counts, Decision, Others, Rules, Tense};
use crate::gateway::FailureCause;
use crate::input::relations::contradictions;
use crate::input::{Entry, Preflight, Row};
use crate::members::{KeyKind, Lookup, LookupError, LookupProgress};
use crate::model::{Field, Found, Outcome};
use crate::output::{Plain, count, grouped, is_interactive};
use crate::pipeline::limits::Threshold;
use crate::report::closing::preview_counts;
use crate::report::preview::describe;
use crate::report::progress::Stages;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::store::history::{FirstEmails, open_rows};
use crate::store::journal::InputKind;

/// Returns the look-up of a run's members. `first_emails` are the emails that members had before earlier sessions renamed
/// them.
pub(super) fn lookup(
    run: &PreparedRun,
    connection: &Connection,
    preflight: &Arc<Preflight>,
    first_emails: FirstEmails,
    stages: &Stages,
) -> Result<Arc<Lookup>, RunError> {
    let kind = match run.head.kind {
        InputKind::Csv => KeyKind::Email,
        InputKind::Plan => KeyKind::Id,
    };
    let mut fields = open_rows(&run.head, &run.dir)?.fields();
    if fields.contains(&Field::NewOwner) {
        // A new owner is shown by name, and whether it is active must be known.
        fields.extend([Field::FirstName, Field::LastName]);
        fields.extend(Field::ALL.into_iter().filter(|field| field.archives()));
        fields.sort_unstable();
        fields.dedup();
    }
    let display = stages.clone();
    let lookup = Lookup::new(
        Arc::clone(&connection.gateway),
        Arc::clone(preflight),
        kind,
        &fields,
        first_emails,
        connection.identity.user_id.clone(),
    );
    Ok(Arc::new(lookup.observed(move |status| {
        display.update(describe_progress(status));
    })))
}

/// Returns what a look-up is doing: `listing members: 3,000 of 12,400`.
fn describe_progress(progress: LookupProgress) -> String {
    let (what, done, of) = match progress {
        LookupProgress::Listing(listing) => ("listing", listing.members, listing.total),
        LookupProgress::Each { done, of } => ("looking up", done as u64, Some(of as u64)),
    };
    match of {
        Some(of) if of >= done => format!("{what} members: {} of {}", grouped(done), grouped(of)),
        _ => format!("{what} members: {}", grouped(done)),
    }
}

/// What the preparation needs.
pub(super) struct Preparation<'a> {
    pub(super) context: &'a Context,
    pub(super) settings: &'a Settings,
    pub(super) run: &'a PreparedRun,
    pub(super) connection: &'a Connection,
    pub(super) stages: &'a Stages,
    pub(super) lookup: &'a Lookup,
    pub(super) preflight: &'a Preflight,
    pub(super) stop: &'a Stop,
    pub(super) is_resumed: bool,
}

impl Preparation<'_> {
    /// Prepares the run, and returns how long a person thought about the question, which is not the run's time.
    pub(super) async fn prepare(&self, rules: &mut Rules) -> Result<Duration, RunError> {
        self.show_warnings();
        let is_strict = self.settings.strict && !self.is_resumed;
        let is_counted = !self.is_resumed && !self.settings.dry_run;
        let max_changes = self.settings.max_changes.filter(|_| is_counted);
        let asks = is_counted && !self.settings.yes && is_interactive();
        // Everybody is looked up first where all rows must be decided first.
        let everybody = is_strict || asks || max_changes.is_some();
        self.look_up(rules, everybody).await?;
        if !everybody {
            return Ok(Duration::ZERO);
        }
        let (counts, invalid) = self.decide_all(rules)?;
        self.stages.end();
        if is_strict {
            invalid.refuse()?;
        }
        if let Some(most) = max_changes {
            self.check_max_changes(most, &counts)?;
        }
        let asked_at = Instant::now();
        if asks && !self.is_agreed(&counts).await {
            return Err(RunError::Refused("nothing was sent".to_owned()));
        }
        Ok(asked_at.elapsed())
    }

    /// Looks up everybody, and returns what would become of the rows.
    pub(super) async fn count_all(&self, rules: &mut Rules) -> Result<Counts, RunError> {
        self.look_up(rules, true).await?;
        let counted = self.decide_all(rules);
        self.stages.end();
        Ok(counted?.0)
    }

    /// Fetches what must be known before the first change: the account types, and members.
    async fn look_up(&self, rules: &mut Rules, everybody: bool) -> Result<(), RunError> {
        self.stages.begin("looking up members");
        if self.preflight.has_types
            && let Some(types) = self.account_types().await
        {
            rules.set_types(types);
        }
        self.lookup
            .prepare(self.settings.lookup, everybody, self.settings.concurrency)
            .await
            .map_err(|error| self.lookup_error(error))?;
        self.compare_spellings(rules).await
    }

    /// Shows what the file makes people think twice about. A dry run shows it with the preview.
    fn show_warnings(&self) {
        if self.settings.dry_run || self.settings.quiet || self.is_resumed {
            return;
        }
        for line in self.preflight.warning_lines() {
            self.context
                .output
                .note(format_args!("warning: {}", Plain(line)));
        }
    }

    fn lookup_error(&self, error: LookupError) -> RunError {
        match error {
            LookupError::List {
                cause: FailureCause::SignIn(_),
                ..
            }
            | LookupError::Each(FailureCause::SignIn(_)) => RunError::SignIn {
                host: self.run.head.base_url.clone(),
                why: error.to_string(),
                source: error.into(),
            },
            error => error.into(),
        }
    }

    /// Returns the organization's account types, if the credentials may read them. An incomplete list would make rows
    /// invalid that are right, so that it checks nothing.
    async fn account_types(&self) -> Option<Vec<String>> {
        let types = self.connection.account_types().await;
        if let Err(why) = &types {
            tracing::info!(%why, "account types are not checked beforehand");
        }
        types.ok()
    }

    /// Rows whose emails differ only in case may name one member. Then they must not contradict each other.
    async fn compare_spellings(&self, rules: &mut Rules) -> Result<(), RunError> {
        for claims in &self.preflight.relations.mixed {
            let mut of_member: BTreeMap<Box<str>, Vec<_>> = BTreeMap::new();
            for claim in claims {
                let found = self.lookup.email(&claim.email).await;
                let found = found.map_err(|failure| LookupError::Each(failure.cause))?;
                if let Found::One(member) = found {
                    of_member.entry(member.id).or_default().push(claim);
                }
            }
            for claims in of_member.values() {
                rules.add_row_problems(contradictions(claims));
            }
        }
        Ok(())
    }

    /// Decides all rows, as a dry run would, and returns the counts and the invalid rows.
    fn decide_all(&self, rules: &Rules) -> Result<(Counts, InvalidRows), RunError> {
        self.stages.begin("preparing the changes");
        let mut counts = Counts::default();
        let mut invalid = InvalidRows::default();
        let mut rows = open_rows(&self.run.head, &self.run.dir)?;
        while let Some((_, entry)) = rows.next_entry()? {
            let row = match entry {
                Entry::Row(row) => row,
                Entry::Bad(bad) => {
                    invalid.add(bad.line, &bad.problem);
                    counts.add_example(bad.line, &bad.problem);
                    counts.add_outcome(Outcome::Invalid);
                    continue;
                }
            };
            let decision = self.decide(&row, &counts, rules)?;
            if let Decision::Skip(outcome) = &decision
                && !outcome.outcome.is_success()
            {
                counts.add_example(row.line, outcome.message());
                if outcome.outcome == Outcome::Invalid {
                    invalid.add(row.line, outcome.message());
                }
            }
            let key = self.preflight.keys.find(&row.key());
            let is_repeated = key.is_some_and(|key| self.preflight.relations.is_repeated(key));
            counts.add(decision, is_repeated);
        }
        Ok((counts, invalid))
    }

    fn decide(&self, row: &Row, counts: &Counts, rules: &Rules) -> Result<Decision, RunError> {
        if let Some(outcome) = decide::before_lookup(row, rules) {
            return Ok(Decision::Skip(outcome));
        }
        let not_cached = || RunError::NotLookedUp { line: row.line };
        let found = self.lookup.cached(row).ok_or_else(not_cached)?;
        let owner = match row.owner() {
            Some(name) => Some(self.lookup.cached_owner(name).ok_or_else(not_cached)?),
            None => None,
        };
        let others = Others {
            owner,
            new_email: self.lookup.holder_of_new_email(row),
        };
        let found = counts.latest(found);
        let send_unchanged = self.settings.send_unchanged;
        Ok(decide::row(row, found, &others, rules, send_unchanged))
    }

    fn check_max_changes(&self, most: Threshold, counts: &Counts) -> Result<(), RunError> {
        // Every row of a plan is a change, so that a share of its rows means nothing.
        let is_meant = self.run.head.kind == InputKind::Csv || matches!(most, Threshold::Count(_));
        if is_meant && most.is_exceeded(counts.members_to_change, self.preflight.rows.into()) {
            return Err(RunError::Refused(format!(
                "{} would be changed, which is more than --max-changes {most} allows: nothing was sent; look at them with --dry-run",
                count(counts.members_to_change, "member")
            )));
        }
        Ok(())
    }

    /// Shows what kinds of changes there are, where and as whom, and asks.
    async fn is_agreed(&self, counts: &Counts) -> bool {
        let head = &self.run.head;
        let style = self.context.output.stderr_style();
        let rows = preview_counts(
            counts.to_change,
            counts.unchanged,
            counts.empty,
            counts.not_possible,
        );
        let kinds = counts.kinds.kinds(Tense::Planned);
        let mut question = format!(
            "{}: {}, {rows}.\n",
            Plain(&head.input),
            count(self.preflight.rows.into(), "row"),
        );
        if !kinds.is_empty() {
            question = format!("{}\n{question}", describe(&kinds, "", style));
        }
        if let Some(warning) = counts.kinds.warning() {
            question = format!("{question}warning: {warning}\n");
        }
        let place = self.connection.describe(&head.base_url).await;
        let question = format!("{question}{place}.\nGo on? [y/N]");
        let output = self.context.output.clone();
        let answer = tokio::task::spawn_blocking(move || output.ask(question));
        tokio::select! {
            answer = answer => match answer {
                Ok(Ok(answer)) => matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"),
                _ => false,
            },
            () = self.stop.raised() => false,
        }
    }
}
