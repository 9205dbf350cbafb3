//! `export`: the members as a CSV that `update` reads back without a change. Pages are written as they come, so that the
//! memory stays flat.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::finish::printing_failed;
use super::prepared::base_url;
use super::sign_in::Connection;
use super::signals::listen;
use super::{Context, RunError};
use crate::cli::ExportArgs;
use crate::exit_code;
use crate::input::cells::reads_back;
use crate::input::header::READ_ONLY;
use crate::members::{ListingEvidence, LookupError, Pages};
use crate::model::{Field, Value, fold, is_email};
use crate::output::{count, grouped, is_gone, stdout_file};
use crate::report::csv_file::{CsvFormat, Encoder, write_cells};
use crate::report::progress::Stages;
use crate::settings::Settings;
use crate::sigma::{Cursors, ListedMember, MemberFilter, Page};
use crate::stop::Stop;
use crate::store::run_dir::Replacement;

/// The columns that an update reads.
const COLUMNS: [Field; 7] = [
    Field::FirstName,
    Field::LastName,
    Field::Email,
    Field::MemberType,
    Field::IsArchived,
    Field::IsInactive,
    Field::UserKind,
];

/// What an export came to.
#[derive(Debug, Default)]
struct Exported {
    /// Members that the API listed.
    listed: u64,
    /// Members that were written.
    written: u64,
    /// Values that no cell can hold exactly, and that are left blank.
    blanked: u64,
    /// Members without a usable email, whom no row can name.
    nameless: u64,
    /// Members of whom the API does not say when they were updated.
    undated: u64,
}

pub(super) async fn export(
    context: &Context,
    settings: &Settings,
    file: Option<&Path>,
    options: &ExportArgs,
) -> Result<u8, RunError> {
    let format = if options.excel {
        CsvFormat::EXCEL
    } else {
        CsvFormat::PLAIN
    };
    let file = file.filter(|file| file.as_os_str() != "-");
    let mut target = Target::open(file, settings.force)?;
    let failing = |source: io::Error, name: &str| {
        RunError::Recording(format!("{name} can't be written: {source}"))
    };
    let name = target.name();
    if options.template {
        write_template(format, target.writer()).map_err(|source| failing(source, &name))?;
        target.commit().map_err(|source| failing(source, &name))?;
        say(
            context,
            settings,
            &format!("A template was written to {name}."),
        );
        return Ok(exit_code::SUCCESS);
    }
    settings.credentials()?;
    let host = base_url(settings)?;
    let stop = Arc::new(Stop::default());
    listen(&stop, settings, None, &context.output)?;
    let stages = context.stages(settings);
    stages.begin(format!("signing in at {host}"));
    let connection = Connection::open(context, settings, &host, &stop).await?;
    let mut writer = format
        .writer(target.writer())
        .map_err(|source| failing(source, &name))?;
    let exported = write_members(&connection, options, &stages, &mut writer).await;
    stages.end();
    if let Some(reason) = stop.reason() {
        context
            .output
            .note("The export was stopped; nothing is kept.");
        return Ok(reason.exit_code());
    }
    let (exported, doubt) = match exported {
        Ok(exported) => exported,
        Err(ExportError::Listing(error)) => return Err(error.into()),
        // Whoever reads the export has enough of it.
        Err(ExportError::Writing(source)) if is_gone(&source) => return Ok(exit_code::HANGUP),
        Err(ExportError::Writing(source)) => return Err(failing(source, &name)),
    };
    drop(writer);
    match target.commit() {
        Err(source) if is_gone(&source) => return Ok(exit_code::HANGUP),
        committed => committed.map_err(|source| failing(source, &name))?,
    }
    report(context, settings, &exported, doubt.as_deref(), file)?;
    Ok(exit_code::SUCCESS)
}

enum ExportError {
    Listing(LookupError),
    Writing(io::Error),
}

impl From<csv::Error> for ExportError {
    fn from(error: csv::Error) -> Self {
        Self::Writing(match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        })
    }
}

/// Writes all members that the options name, and returns why the listing may be incomplete, if it may be.
async fn write_members<W: Write>(
    connection: &Connection,
    options: &ExportArgs,
    stages: &Stages,
    writer: &mut csv::Writer<Encoder<W>>,
) -> Result<(Exported, Option<String>), ExportError> {
    let own_columns = COLUMNS.iter().map(|field| field.column());
    writer.write_record(std::iter::once("Email").chain(own_columns).chain(READ_ONLY))?;
    let mut exported = Exported::default();
    let mut evidence = ListingEvidence::new(connection.identity.user_id.as_deref());
    let (pages, mut cursors, mut page_number) = (Pages::default(), Cursors::default(), 1);
    stages.begin("listing members");
    loop {
        let page = pages
            .get(
                &connection.gateway,
                MemberFilter::All,
                cursors.current(),
                Page::<ListedMember>::parse,
            )
            .await
            .map_err(|failure| {
                ExportError::Listing(LookupError::List {
                    page: page_number,
                    cause: failure.cause,
                })
            })?;
        evidence.add(&page, |listed| &listed.member.id);
        exported.listed += page.entries.len() as u64;
        for listed in &page.entries {
            if is_wanted(listed, options, &mut exported) {
                write_member(listed, writer, &mut exported)?;
            }
        }
        let listed = grouped(exported.listed);
        stages.update(match page.total {
            Some(total) if total >= exported.listed => {
                format!("listing members: {listed} of {}", grouped(total))
            }
            _ => format!("listing members: {listed}"),
        });
        let Some(next) = page.next else { break };
        if !cursors.advance(next) {
            return Err(ExportError::Listing(LookupError::RepeatedCursor));
        }
        page_number += 1;
    }
    writer.flush().map_err(ExportError::Writing)?;
    Ok((exported, evidence.doubt()))
}

fn is_wanted(listed: &ListedMember, options: &ExportArgs, exported: &mut Exported) -> bool {
    let values = &listed.member.values;
    let text = |field| values.text(field).unwrap_or_default();
    let is_type = |name: &String| fold(name) == fold(text(Field::MemberType));
    let domain = listed
        .member
        .email()
        .rsplit_once('@')
        .map(|(_, domain)| domain);
    let is_domain = |name: &String| {
        domain.is_some_and(|domain| fold(domain) == fold(name.trim_start_matches('@')))
    };
    let fits = (options.types.is_empty() || options.types.iter().any(is_type))
        && (options.kind.as_ref())
            .is_none_or(|kind| kind.eq_ignore_ascii_case(text(Field::UserKind)))
        && (options.archived).is_none_or(|flag| flag == values.is_true(Field::IsArchived))
        && (options.inactive).is_none_or(|flag| flag == values.is_true(Field::IsInactive))
        && (options.domains.is_empty() || options.domains.iter().any(is_domain));
    let Some(since) = options.not_updated_since.filter(|_| fits) else {
        return fits;
    };
    let updated_at = listed.record.updated_at.as_deref();
    match updated_at.and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(updated_at) => updated_at < since,
        None => {
            exported.undated += 1;
            false
        }
    }
}

fn write_member<W: Write>(
    listed: &ListedMember,
    writer: &mut csv::Writer<W>,
    exported: &mut Exported,
) -> csv::Result<()> {
    let ListedMember { member, record } = listed;
    if !is_email(member.email()) {
        exported.nameless += 1;
        return Ok(());
    }
    exported.written += 1;
    let cells = COLUMNS.map(|field| match member.values.get(field) {
        // The email names the member, so that this column is for another one.
        _ if field == Field::Email => "",
        Some(value) if reads_back(field, value) => value.as_str(),
        None => "",
        Some(value) => {
            exported.blanked += u64::from(!value.as_str().is_empty());
            ""
        }
    });
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let records = [
        member.id.to_string(),
        text(&record.created_at),
        text(&record.updated_at),
        text(&record.created_by),
        text(&record.updated_by),
    ];
    let records = records.iter().map(String::as_str);
    write_cells(
        writer,
        std::iter::once(member.email()).chain(cells).chain(records),
    )
}

/// Writes the header of all columns, and one row as an example.
fn write_template(format: CsvFormat, file: impl Write) -> io::Result<()> {
    let mut writer = format.writer(file)?;
    let columns = Field::ALL.map(super::super::model::field::Field::column);
    writer.write_record(std::iter::once("Email").chain(columns))?;
    let example = Field::ALL.map(|field| match field {
        Field::FirstName => Value::text("Ana"),
        Field::LastName => Value::text("García"),
        Field::MemberType => Value::text("Viewer"),
        Field::IsArchived => Value::Flag(false),
        _ => Value::text(""),
    });
    let cells = example.iter().map(Value::as_str);
    write_cells(
        &mut writer,
        std::iter::once("ana.garcia@example.com").chain(cells),
    )?;
    writer.flush()
}

fn report(
    context: &Context,
    settings: &Settings,
    exported: &Exported,
    doubt: Option<&str>,
    file: Option<&Path>,
) -> Result<(), RunError> {
    if let Some(file) = file.filter(|_| settings.json) {
        let document = serde_json::json!({
            "file": file.display().to_string(),
            "listed": exported.listed,
            "written": exported.written,
            "left_blank": exported.blanked,
            "without_email": exported.nameless,
            "incomplete": doubt,
            "exit_code": exit_code::SUCCESS,
        });
        let printed = context.output.print(format_args!("{document:#}\n"));
        printed.map_err(printing_failed)?;
    }
    let name = file.map_or_else(
        || "standard output".to_owned(),
        |file| file.display().to_string(),
    );
    let mut text = format!("{} written to {name}", count(exported.written, "member"));
    if exported.written < exported.listed {
        text = format!("{text}, of {} listed", grouped(exported.listed));
    }
    say(context, settings, &format!("{text}."));
    let note = |what: String| context.output.note(format_args!("warning: {what}"));
    if exported.blanked > 0 {
        note(format!(
            "{} left blank, because no cell holds it exactly (blanks around it, control characters, an unknown word): update leaves them as they are",
            count(exported.blanked, "value")
        ));
    }
    if exported.nameless > 0 {
        note(format!(
            "{} left out, because their email is no email address: no row can name them",
            count(exported.nameless, "member")
        ));
    }
    if exported.undated > 0 {
        note(format!(
            "{} left out, because the API does not say when they were updated",
            count(exported.undated, "member")
        ));
    }
    if let Some(why) = doubt {
        note(format!("the listing may be incomplete: {why}"));
    }
    Ok(())
}

fn say(context: &Context, settings: &Settings, text: &str) {
    if !settings.quiet {
        context.output.note(text);
    }
}

/// Where an export is written: standard output, or a file that appears complete or not at all.
enum Target {
    Stdout(BufWriter<io::Stdout>),
    File(PathBuf, Replacement),
}

impl Target {
    fn open(path: Option<&Path>, overwrites: bool) -> Result<Self, RunError> {
        let Some(path) = path else {
            return Ok(Self::Stdout(stdout_file()));
        };
        let shown = path.display();
        if path.exists() && !overwrites {
            return Err(RunError::Refused(format!(
                "{shown} exists already; use another name, or --force to overwrite it"
            )));
        }
        let file = Replacement::private(path)
            .map_err(|source| RunError::Refused(format!("{shown} can't be written: {source}")))?;
        Ok(Self::File(path.to_owned(), file))
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "standard output".to_owned(),
            Self::File(path, _) => path.display().to_string(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(file) => file,
            Self::File(_, file) => file,
        }
    }

    fn commit(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut file) => file.flush(),
            Self::File(_, file) => file.commit(),
        }
    }
}
