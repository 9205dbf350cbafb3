//! `check`: who the credentials are, what is wrong and what to do about it, and what a CSV would do. It changes nothing, and
//! names all that is wrong together.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::finish::printing_failed;
use super::preparation::{Preparation, lookup};
use super::prepared::base_url;
use super::sign_in::{Connection, TypesError};
use super::signals::listen;
use super::{Context, RunError, update};
use crate::decide::{Counts, Rules, Tense};
use crate::exit_code;
use crate::model::{Field, fold};
use crate::output::{Plain, Style, count, grouped};
use crate::paths;
use crate::report::closing::preview_counts;
use crate::report::preview::describe;
use crate::report::progress::Stages;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::store::journal::CredentialUser;

/// The account type whose members may change others.
const ADMINISTRATOR: &str = "admin";
/// The difference between two clocks that is worth a word, in seconds. Beyond this, some servers refuse what is signed.
const CLOCK_TOLERANCE: i64 = 60;

/// How long a check waits for an API that does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    what: String,
    remedy: String,
    /// The exit code of a command that stumbles over it.
    exit_code: u8,
}

/// What was found out.
#[derive(Debug, Default, Serialize)]
struct Findings {
    exit_code: u8,
    host: Option<String>,
    user: Option<CredentialUser>,
    name: Option<String>,
    /// The account type of the credentials' user.
    role: Option<String>,
    is_administrator: Option<bool>,
    organization_id: Option<String>,
    members: Option<u64>,
    account_types: Option<Vec<String>>,
    clock_offset_seconds: Option<i64>,
    csv: Option<CsvFindings>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// What a CSV would do.
#[derive(Debug, Serialize)]
struct CsvFindings {
    name: String,
    rows: u32,
    to_change: u64,
    unchanged: u64,
    empty: u64,
    not_possible: u64,
    /// The kinds of changes.
    changes: Vec<String>,
    #[serde(skip)]
    counts: Counts,
}

impl Findings {
    /// Adds an error. A message says what happened, and behind a semicolon what to do.
    fn error(&mut self, message: &str, exit_code: u8) {
        let (what, remedy) = message.split_once("; ").unwrap_or((message, ""));
        self.problem(what, remedy, exit_code);
    }

    fn problem(&mut self, what: impl Into<String>, remedy: impl Into<String>, exit_code: u8) {
        self.problems.push(Problem {
            what: what.into(),
            remedy: remedy.into(),
            exit_code,
        });
    }
}

pub(super) async fn check(context: &Context, mut settings: Settings) -> Result<u8, RunError> {
    let mut findings = Findings::default();
    // Whoever checks wants to know that the API is away, and not to wait until it is back.
    settings.outage_limit = settings.outage_limit.at_most(PATIENCE);
    let stages = context.stages(&settings);
    let credentials = settings.credentials();
    if let Err(error) = &credentials {
        findings.error(&error.to_string(), exit_code::USAGE);
    }
    match base_url(&settings) {
        Ok(host) => findings.host = Some(host),
        Err(error) => {
            findings.error(&error.to_string(), exit_code::USAGE);
        }
    }
    if let Some(path) = &settings.client_secret_file
        && paths::is_shared(path)
    {
        let warning = format!("{}: {}", path.display(), paths::SHARED);
        findings.warnings.push(warning);
    }
    let stop = Arc::new(Stop::default());
    listen(&stop, &settings, None, &context.output)?;
    let mut connection = None;
    if let (Some(host), Ok(_)) = (&findings.host, &credentials) {
        stages.begin(format!("signing in at {host}"));
        match Connection::open(context, &settings, host, &stop).await {
            Ok(open) => connection = Some(open),
            Err(error) => {
                findings.error(&error.to_string(), error.exit_code());
            }
        }
    }
    if let Some(connection) = &connection {
        look_around(&mut findings, connection).await;
    }
    let csv = settings.csv.clone();
    if csv.is_some() && findings.host.is_some() && credentials.is_ok() {
        settings.dry_run = true;
        let checked = check_csv(
            context,
            &settings,
            connection.as_ref(),
            &stages,
            &mut findings,
        );
        if let Err(error) = checked.await {
            findings.error(&error.to_string(), error.exit_code());
        }
    }
    stages.end();
    if let Some(reason) = stop.reason() {
        return Ok(reason.exit_code());
    }
    // What keeps the tool from being used at all comes before what the API says.
    let codes = findings.problems.iter().map(|problem| problem.exit_code);
    findings.exit_code = codes.min().unwrap_or(exit_code::SUCCESS);
    let printed = if settings.json {
        let document = serde_json::to_string_pretty(&findings).unwrap_or_default();
        context.output.print(format_args!("{document}\n"))
    } else {
        let style = context.output.stdout_style();
        context.output.print_lines(&render(&findings, style))
    };
    printed.map_err(printing_failed)?;
    Ok(findings.exit_code)
}

/// Finds out who the credentials are, and what they may do.
async fn look_around(findings: &mut Findings, connection: &Connection) {
    findings.user = connection.user();
    findings
        .organization_id
        .clone_from(&connection.identity.organization_id);
    if let Some(own) = &connection.own {
        findings.name = Some(own.describe());
        findings.role = own.values.text(Field::MemberType).map(str::to_owned);
    }
    findings.members = connection.member_count().await;
    findings.clock_offset_seconds = connection.clock_offset;
    let is_named_admin = (findings.role.as_deref()).map(|role| fold(role) == ADMINISTRATOR);
    let mut is_refused = false;
    match connection.account_types().await {
        Ok(types) => {
            findings.account_types = Some(types);
            findings.is_administrator = Some(true);
        }
        Err(TypesError::Failed(cause)) if cause.status() == Some(403) => {
            is_refused = true;
            findings.is_administrator = Some(false);
        }
        Err(error) => {
            findings.is_administrator = is_named_admin;
            findings
                .warnings
                .push(format!("the account types can't be read: {error}"));
        }
    }
    if is_refused || is_named_admin == Some(false) && findings.account_types.is_none() {
        let role = findings.role.as_deref().unwrap_or("unknown");
        findings.problem(
            format!("the owner of these credentials is not an administrator (account type {role})"),
            "create API credentials as a user of the account type Admin: Administration > Developer Access",
            exit_code::API,
        );
    }
    if connection.identity.user_id.is_none() {
        findings.warnings.push(
            "the API does not say who the credentials belong to, so that this user is not protected from being archived".to_owned(),
        );
    }
    if findings.members.is_none() {
        findings
            .warnings
            .push("the API does not say how many members there are".to_owned());
    }
    if let Some(offset) = connection
        .clock_offset
        .filter(|offset| offset.abs() > CLOCK_TOLERANCE)
    {
        let (amount, how) = (
            offset.unsigned_abs(),
            if offset > 0 { "ahead" } else { "behind" },
        );
        findings.warnings.push(format!(
            "the clock of this machine is {} {how} of the API's: set it by NTP, or times in the files and certificates are judged wrongly",
            count(amount, "second")
        ));
    }
}

/// Finds out what a CSV would do, as a dry run would, and keeps nothing of it.
async fn check_csv(
    context: &Context,
    settings: &Settings,
    connection: Option<&Connection>,
    stages: &Stages,
    findings: &mut Findings,
) -> Result<(), RunError> {
    let temporary = tempfile::tempdir().map_err(RunError::Temporary)?;
    let settings = Settings {
        run_dir: Some(temporary.path().join("check")),
        strict: false,
        ..settings.clone()
    };
    let mut run = update::prepare(context, &settings)?;
    // A file that can't be read is wrong whether the API answers or not.
    let Some(connection) = connection else {
        return Ok(());
    };
    run.head.organization = connection.identity.organization_id.clone();
    let guarded = (connection.identity.user_id.clone()).filter(|_| !settings.allow_self);
    let mut rules = Rules::new(&settings.protected, guarded);
    let mut preflight = std::mem::take(&mut run.preflight);
    rules.add_row_problems(std::mem::take(&mut preflight.relations.problems));
    let preflight = Arc::new(preflight);
    let lookup = lookup(&run, connection, &preflight, HashMap::new(), stages)?;
    let stop = Stop::default();
    let preparation = Preparation {
        context,
        settings: &settings,
        run: &run,
        connection,
        stages,
        lookup: &lookup,
        preflight: &preflight,
        stop: &stop,
        is_resumed: false,
    };
    let counts = preparation.count_all(&mut rules).await?;
    findings.warnings.extend(preflight.warning_lines());
    findings.warnings.extend(counts.kinds.warning());
    if counts.not_possible > 0 {
        let remedy = format!(
            "{}\nsee them all with update --dry-run",
            counts.examples.join("\n")
        );
        let verb = if counts.not_possible == 1 {
            "is"
        } else {
            "are"
        };
        findings.problem(
            format!(
                "{} of {} {verb} not possible",
                count(counts.not_possible, "row"),
                Plain(&run.head.input)
            ),
            remedy,
            exit_code::USAGE,
        );
    }
    findings.csv = Some(CsvFindings {
        name: run.head.input.clone(),
        rows: preflight.rows,
        to_change: counts.to_change,
        unchanged: counts.unchanged,
        empty: counts.empty,
        not_possible: counts.not_possible,
        changes: (counts.kinds.kinds(Tense::Planned).into_iter())
            .map(|kind| kind.text)
            .collect(),
        counts,
    });
    Ok(())
}

fn render(findings: &Findings, style: Style) -> String {
    let Style {
        red,
        green,
        yellow,
        bold,
        off,
        ..
    } = style;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{green}✓{off} {name:14} {value}");
    };
    let is_signed_in = findings.organization_id.is_some() || findings.user.is_some();
    if let Some(host) = &findings.host {
        line("Host", Plain(host).to_string());
    }
    if is_signed_in {
        let user = findings.user.as_ref();
        let who = (findings.name.clone())
            .or_else(|| user.and_then(|user| user.email.clone()))
            .or_else(|| user.map(|user| user.id.clone()))
            .unwrap_or_else(|| "unknown".to_owned());
        let role = (findings.role.as_ref()).map_or_else(String::new, |role| format!(", {role}"));
        line("Signed in as", Plain(format!("{who}{role}")).to_string());
        let organization = findings.organization_id.as_deref().unwrap_or("unknown");
        let members = (findings.members).map_or_else(String::new, |members| {
            format!(", {}", count(members, "member"))
        });
        line("Organization", format!("{}{members}", Plain(organization)));
    }
    if let Some(types) = &findings.account_types {
        line("Account types", Plain(types.join(", ")).to_string());
    }
    if let Some(offset) = findings
        .clock_offset_seconds
        .filter(|offset| offset.abs() <= CLOCK_TOLERANCE)
    {
        line(
            "Clock",
            format!("{} off", count(offset.unsigned_abs(), "second")),
        );
    }
    if let Some(csv) = &findings.csv {
        let counts = preview_counts(csv.to_change, csv.unchanged, csv.empty, csv.not_possible);
        line(
            "CSV",
            format!(
                "{}: {} {}, {counts}",
                Plain(&csv.name),
                grouped(csv.rows.into()),
                if csv.rows == 1 { "row" } else { "rows" }
            ),
        );
        let kinds = csv.counts.kinds.kinds(Tense::Planned);
        if !kinds.is_empty() {
            let _ = writeln!(text, "{}", describe(&kinds, &" ".repeat(17), style));
        }
    }
    for warning in &findings.warnings {
        let _ = writeln!(text, "{yellow}!{off} {}", Plain(warning));
    }
    for problem in &findings.problems {
        let _ = writeln!(text, "{red}✗ {bold}{}{off}", Plain(&problem.what));
        for line in problem.remedy.lines() {
            let _ = writeln!(text, "    {}", Plain(line));
        }
    }
    if findings.problems.is_empty() {
        let _ = writeln!(text, "\nEverything is in order.");
    } else {
        let _ = writeln!(
            text,
            "\n{}.",
            count(findings.problems.len() as u64, "problem")
        );
    }
    text
}
