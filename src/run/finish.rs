//! The end of a run: its files, its summary, and the commands that may come next.

use std::io::{self, Write};
use std::path::Path;

use super::jobs::{json_line, plan_head, read_ledger};
use super::{Context, EMBEDDED, RunError};
use crate::change::Outcome;
use crate::cli::{for_real, with_csv};
use crate::input::plan::PlanRow;
use crate::output::stdout_has_colour;
use crate::report::RunDir;
use crate::report::files::Totals;
use crate::report::journal::{Ended, Head, InputKind, Record};
use crate::report::ledger::{FilesError, Ledger};
use crate::report::preview::Preview;
use crate::report::reporter::Told;
use crate::report::rundir::private_file;
use crate::report::summary::{Ending, Next, Summary, quoted};
use crate::settings::Settings;
use crate::stop::Stop;

/// Makes the files of what the journal says, and tells how it ended.
pub(super) fn finish(
    context: &Context,
    settings: &Settings,
    dir: &RunDir,
    mut told: Told,
    stop: &Stop,
    trimmed: u64,
) -> Result<u8, RunError> {
    let unwritable = |error: &dyn std::fmt::Display| {
        RunError::Recording(format!(
            "{error}\nWhat was sent stands in the journal. When the disk has room again: sigma-bulk resume {}",
            quoted(&dir.path().display().to_string())
        ))
    };
    let ledger = match told.trouble {
        None => Ledger::written(dir, told.journal.take_index()),
        // What could not be written is not there.
        Some(_) => Ledger::read(dir),
    };
    let mut ledger = ledger.map_err(|error| unwritable(&error))?;
    ledger.set_sent(told.sent);
    let totals = ledger
        .write_files(dir)
        .map_err(|error| unwritable(&error))?;
    // A part of the rows is no plan.
    if let Some(path) = settings
        .save_plan
        .as_ref()
        .filter(|_| stop.reason().is_none())
    {
        save_plan(&mut ledger, &totals, dir, path)?;
    }
    let next = next_commands(context, settings, ledger.head(), dir);
    let trouble = told.trouble.as_ref().map(ToString::to_string);
    let ending = Ending {
        stop: stop.reason(),
        dry_run: settings.dry_run,
        embedded: ledger.head().base_url == EMBEDDED,
        trouble: trouble.as_deref(),
        next: &next,
        trimmed,
    };
    let summary = Summary::new(&totals, &ending, dir.path());
    summary.write(dir).map_err(|error| unwritable(&error))?;
    if told.trouble.is_none() {
        let ended = Record::Ended(Ended {
            stop: summary.stop.clone(),
            exit_code: summary.exit_code,
            at: summary.finished_at.clone(),
        });
        told.journal
            .add_now(&ended)
            .map_err(|error| unwritable(&error))?;
    }
    show(context, settings, &summary, &totals, &ending, told.preview)?;
    Ok(summary.exit_code)
}

/// The commands that may come next: those of this one's words, if they say what is to be done.
fn next_commands(context: &Context, settings: &Settings, head: &Head, dir: &RunDir) -> Next {
    let args = context.args.get(1..).unwrap_or_default();
    let command = args.first().map(|word| word.to_string_lossy());
    let own = (command.is_some_and(|command| command == head.command)).then(|| for_real(args));
    let path = |path: &Path| path.display().to_string();
    let elsewhere = |words: [&str; 2]| -> Vec<String> {
        [words[0], words[1], "--base-url", &head.base_url]
            .map(str::to_owned)
            .into()
    };
    let real = match (&settings.save_plan, &own, head.kind) {
        (Some(plan), _, _) => vec!["apply".to_owned(), path(plan)],
        (None, Some(own), _) => own.clone(),
        (None, None, InputKind::Csv) => {
            let mut words = elsewhere(["update", &path(&dir.input())]);
            if let Some(limit) = head.limit {
                words.extend(["--limit".to_owned(), limit.to_string()]);
            }
            if head.send_unchanged {
                words.push("--send-unchanged".to_owned());
            }
            words
        }
        (None, None, InputKind::Plan) => vec!["apply".to_owned(), path(&dir.plan())],
    };
    let failed = path(&dir.failed());
    let mended = match (own, &settings.csv) {
        (Some(own), Some(csv)) if head.command == "update" => with_csv(&own, &path(csv), &failed),
        _ => elsewhere(["update", &failed]),
    };
    let run_dir = path(dir.path());
    let mut resume = vec!["resume".to_owned(), run_dir.clone()];
    if let Some(plan) = &settings.save_plan {
        resume.extend(["--save-plan".to_owned(), path(plan)]);
    }
    let typed = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        format!("sigma-bulk {}", words.join(" "))
    };
    // A run of its own needs a directory of its own: the one that the environment or the configuration names is this run's.
    let taken = settings
        .run_dir
        .as_ref()
        .filter(|_| context.flags.run_dir.is_none());
    let new_run = |mut words: Vec<String>, what: &str| {
        if let Some(taken) = taken {
            words.extend([
                "--run-dir".to_owned(),
                format!("{}-{what}", taken.display()),
            ]);
        }
        typed(words)
    };
    Next {
        for_real: new_run(real, "for-real"),
        mended: new_run(mended, "mended"),
        resume: typed(resume),
        undo: new_run(vec!["undo".to_owned(), run_dir], "undo"),
    }
}

fn save_plan(
    ledger: &mut Ledger,
    totals: &Totals,
    dir: &RunDir,
    path: &Path,
) -> Result<(), RunError> {
    let failing = |source: io::Error| {
        RunError::Recording(format!(
            "the plan {} can't be written: {source}",
            path.display()
        ))
    };
    let mut file = io::BufWriter::new(private_file(path).map_err(failing)?);
    let rows = Some(totals.of(Outcome::WouldUpdate));
    let head = plan_head(ledger.head(), &ledger.head().input, rows);
    json_line(&mut file, &head).map_err(failing)?;
    ledger.previewed(dir, |row: PlanRow| json_line(&mut file, &row))?;
    file.flush()
        .and_then(|()| file.get_ref().sync_data())
        .map_err(failing)
}

/// Shows how a run ended.
fn show(
    context: &Context,
    settings: &Settings,
    summary: &Summary,
    totals: &Totals,
    ending: &Ending<'_>,
    preview: Preview,
) -> Result<(), RunError> {
    let output = &context.output;
    let colour = stdout_has_colour();
    let shown = if settings.json {
        output.print(summary.json())
    } else {
        let preview = if ending.dry_run {
            output.print(preview.render(colour))
        } else {
            Ok(())
        };
        preview.and_then(|()| output.print(summary.render(totals, ending, colour)))
    };
    shown.map_err(|error| {
        RunError::Recording(format!(
            "the summary can't be written to standard output: {error}; it stands in {}/summary.json",
            summary.run_dir
        ))
    })
}

/// Makes a run's files anew from its journal, and shows how it ended.
pub(super) fn report(context: &Context, settings: &Settings, path: &Path) -> Result<u8, RunError> {
    let dir = RunDir::open(path)?;
    let mut ledger = read_ledger(&dir)?;
    let head = ledger.head().clone();
    let totals = ledger.write_files(&dir).map_err(|error| match error {
        FilesError::Input(error) => RunError::Input(error),
        error => error.into(),
    })?;
    let ending = Ending {
        stop: None,
        dry_run: head.dry_run,
        embedded: head.base_url == EMBEDDED,
        trouble: None,
        next: &next_commands(context, settings, &head, &dir),
        trimmed: 0,
    };
    let mut summary = Summary::new(&totals, &ending, dir.path());
    match &totals.ended {
        Some(ended) => {
            summary.set_end(&ended.stop, ended.exit_code);
        }
        // It was killed, or still goes on.
        None => summary.set_end("error", 4),
    }
    summary.write(&dir)?;
    show(
        context,
        settings,
        &summary,
        &totals,
        &ending,
        Preview::default(),
    )?;
    Ok(summary.exit_code)
}
