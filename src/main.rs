//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sigma_bulk::main(std::env::args_os())
}
