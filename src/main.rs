//! Parse, run, exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use sigma_bulk::cli::{Cli, normalize};
use sigma_bulk::output::Output;
use sigma_bulk::run;

fn main() -> ExitCode {
    let args = normalize(std::env::args_os());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let output = Output::default();
    match run::command(&cli, &args, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.note(format_args!("error: {}", sigma_bulk::output::Lines(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}
