//! The commands that print what is built in: the guide, the help, completions and man pages.

use std::path::Path;

use clap::ValueEnum;
use clap_complete::env::Shells;

use super::RunError;
use crate::cli::{COMPLETION_VARIABLE, Command, command, help_of};
use crate::exit_code;
use crate::guide::{self, Topic};
use crate::model::did_you_mean;
use crate::output::{Output, count};

/// The name of the binary.
const BINARY: &str = "sigma-bulk";

/// Shows what a command asks for.
pub(super) fn show(asked: &Command, output: &Output) -> Result<u8, RunError> {
    let text = match asked {
        Command::Guide { topic: None } => guide::index(),
        Command::Guide { topic: Some(topic) } => topic.text().into_owned(),
        Command::Help { what: None } => command().render_long_help().to_string(),
        Command::Help { what: Some(what) } => help(what)?,
        Command::Completions { shell } => completions(shell)?,
        Command::Man { dir } => man(dir)?,
        _ => return Ok(exit_code::SUCCESS),
    };
    let printed = output.print(text);
    printed.map_err(|error| RunError::Recording(format!("it can't be printed: {error}")))?;
    Ok(exit_code::SUCCESS)
}

fn help(what: &str) -> Result<String, RunError> {
    if let Some(help) = help_of(what) {
        return Ok(help);
    }
    if let Ok(topic) = Topic::from_str(what, true) {
        return Ok(topic.text().into_owned());
    }
    let command = command();
    let mut names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.extend(guide::names());
    let near = did_you_mean(what, names.iter().map(String::as_str));
    Err(RunError::Refused(format!(
        "there is no command and no topic \"{what}\"{near}; sigma-bulk help lists the commands, and sigma-bulk guide the topics"
    )))
}

fn completions(shell: &str) -> Result<String, RunError> {
    let shells = Shells::builtins();
    let unknown = || RunError::Refused(format!("there are no completions for {shell}"));
    let shell = shells.completer(shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    shell
        .write_registration(COMPLETION_VARIABLE, BINARY, BINARY, BINARY, &mut script)
        .map_err(RunError::Runtime)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Writes the man pages, and says how many there are.
fn man(dir: &Path) -> Result<String, RunError> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(command(), dir)?;
        let pages = std::fs::read_dir(dir)?
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "1")
            });
        std::io::Result::Ok(pages.count() as u64)
    };
    let pages = write().map_err(|error| {
        RunError::Refused(format!(
            "the man pages can't be written to {}: {error}",
            dir.display()
        ))
    })?;
    Ok(format!(
        "{} in {}; read one by: man {}/{BINARY}.1\n",
        count(pages, "man page"),
        dir.display(),
        dir.display()
    ))
}
