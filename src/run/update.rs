//! `update`: the rows of a CSV.

use super::prepared::{Binding, PreparedRun, base_url, create_dir};
use super::{RunError, strict};
use crate::input::{Rows, Table, preflight, text};
use crate::settings::Settings;
use crate::store::journal::{Head, InputKind};

pub(super) fn prepare(settings: &Settings) -> Result<PreparedRun, RunError> {
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
    let dir = create_dir(settings, &source.stem(), file)?;
    PreparedRun::new(dir, |dir| {
        let mut copy = dir.create_file(&dir.input())?;
        let sha256 = text::spool(&source, &mut copy)?;
        drop(copy);
        let name = source.name();
        let delimiter = settings.delimiter.map(|delimiter| delimiter.0);
        let open = || Table::open(&name, &dir.input(), delimiter, settings.limit);
        let preflight = preflight(&name, || open().map(|table| Rows::Csv(Box::new(table))))?;
        strict::check_file(settings, &preflight)?;
        let layout = open()?.layout().clone();
        let binding = Binding {
            command: "update",
            input: &name,
            sha256,
            base_url: &base_url,
            organization: None,
        };
        let head = Head {
            kind: InputKind::Csv,
            header: layout.header,
            delimiter: char::from(layout.delimiter),
            ..binding.head(&preflight, settings)
        };
        Ok((head, preflight))
    })
}
