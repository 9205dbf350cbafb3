//! Commands that a setting gives, run by the shell of the operating system.

use std::process::Command;

/// Returns a command of the shell.
pub(crate) fn command(text: &str) -> Command {
    let (shell, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let mut command = Command::new(shell);
    command.args([flag, text]);
    command
}
