//! `update`: the rows of a CSV.

use std::io::IsTerminal;
use std::path::Path;

use super::prepared::{Binding, PreparedRun, base_url, create_dir};
use super::{Context, RunError, strict};
use crate::input::header::ColumnRules;
use crate::input::{Rows, Table, TableOptions, preflight, text};
use crate::output::Plain;
use crate::settings::Settings;
use crate::store::RunDir;
use crate::store::journal::{Head, InputKind, JournalReader, Origin, RunReference};

pub(super) fn prepare(context: &Context, settings: &Settings) -> Result<PreparedRun, RunError> {
    let csv = settings.csv.clone().ok_or_else(|| {
        RunError::Refused(
            "no CSV is given: write its path, or - for standard input: sigma-bulk update members.csv"
                .to_owned(),
        )
    })?;
    let source = text::Source::from_arg(&csv);
    settings.credentials()?;
    let base_url = base_url(settings)?;
    let file = match &source {
        text::Source::File(path) => Some(path.as_path()),
        text::Source::Stdin => None,
    };
    if file.is_none() && std::io::stdin().is_terminal() {
        context
            .output
            .note("Reading the CSV from standard input; Ctrl-D ends it.");
    }
    // Whoever types the CSV sees it.
    if file.is_some() {
        context
            .stages(settings)
            .begin_on_screen(format!("reading {}", Plain(source.name())));
    }
    let dir = create_dir(context, settings, &source.stem(), file)?;
    let reruns = file.and_then(rerun_of);
    PreparedRun::new(context, settings, dir, |dir| {
        let mut copy = dir.create_file(&dir.input())?;
        let delimiter = settings.delimiter.map(|delimiter| delimiter.0);
        let encoding = settings.encoding.map(|encoding| encoding.0);
        let spooled = text::spool(&source, &mut copy, encoding, delimiter)?;
        drop(copy);
        let name = source.name();
        let options = TableOptions {
            delimiter,
            limit: settings.limit,
            columns: column_rules(settings),
        };
        let open = || Table::open(&name, &dir.input(), &options);
        let preflight = preflight(&name, || open().map(|table| Rows::Csv(Box::new(table))))?;
        strict::check_file(settings, &preflight)?;
        let layout = open()?.layout().clone();
        let binding = Binding {
            command: "update",
            input: &name,
            sha256: spooled.sha256,
            base_url: &base_url,
            organization: None,
        };
        let head = Head {
            kind: InputKind::Csv,
            header: layout.header,
            delimiter: char::from(layout.delimiter),
            columns: options.columns,
            byte_order_mark: spooled.is_from_excel,
            encoding: encoding.map(|encoding| encoding.name().to_owned()),
            origin: Origin {
                reruns,
                ..Origin::default()
            },
            ..binding.head(&preflight, settings)
        };
        Ok((head, preflight))
    })
}

/// Returns how the settings treat unknown columns.
pub(super) fn column_rules(settings: &Settings) -> ColumnRules {
    ColumnRules {
        ignored: settings.ignore_column.clone(),
        ignores_unknown: settings.ignore_unknown_columns,
        renamed: settings.map.clone(),
    }
}

/// Returns the run whose failed.csv this file is.
fn rerun_of(file: &Path) -> Option<RunReference> {
    let file = file.canonicalize().ok()?;
    let dir = RunDir::open(file.parent()?).ok()?;
    if dir.failed() != file {
        return None;
    }
    let (_, head) = JournalReader::open(&dir.journal()).ok()?;
    Some(head.reference())
}
