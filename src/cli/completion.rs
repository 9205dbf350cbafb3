//! The completion of values: clouds, profiles, run directories. It reads the configuration file and `runs`, and nothing
//! else of the command line does any I/O.

use std::ffi::OsString;
use std::path::Path;

use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter, ValueCompleter};

use crate::settings::Layer;
use crate::sigma::hosts::CLOUDS;
use crate::store::catalog;

/// The variable by which a shell asks for completions; its value is the shell's name.
pub(crate) const VARIABLE: &str = "_SIGMA_BULK_COMPLETE";

/// Returns the command with the candidates of its values.
pub(super) fn with_candidates(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            sub.mut_args(|arg| match arg.get_id().as_str() {
                "cloud" => arg.add(ArgValueCandidates::new(clouds)),
                "dir" | "path" if arg.is_positional() => arg.add(ArgValueCompleter::new(runs)),
                _ => arg,
            })
        })
    });
    command.mut_arg("profile", |arg| arg.add(ArgValueCandidates::new(profiles)))
}

fn clouds() -> Vec<CompletionCandidate> {
    let names = CLOUDS.iter().map(|(name, _, _)| *name);
    names.map(CompletionCandidate::new).collect()
}

fn profiles() -> Vec<CompletionCandidate> {
    let names = Layer::profiles().unwrap_or_default();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Completes a run directory: `latest`, those below `runs`, and any other path.
fn runs(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    let known = catalog::run_dirs(Path::new(catalog::RUNS)).unwrap_or_default();
    let known = known
        .into_iter()
        .map(|dir| dir.path().as_os_str().to_owned());
    let mut candidates: Vec<CompletionCandidate> = std::iter::once(OsString::from(catalog::LATEST))
        .chain(known)
        .filter(|name| name.to_string_lossy().starts_with(&*typed))
        .map(CompletionCandidate::new)
        .collect();
    candidates.extend(PathCompleter::any().complete(current));
    candidates
}
