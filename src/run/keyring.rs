//! The keyring of the operating system, by its own program: that one asks for the secret and prints it, so that the secret
//! is on no command line.

use std::process::Command;

use crate::shell;

/// The service under which the secret is kept.
const SERVICE: &str = "sigma-bulk";

/// The program of a keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyring {
    /// `secret-tool` of libsecret: GNOME Keyring, `KWallet`, and others.
    SecretTool,
    /// `security` of macOS.
    Security,
}

impl Keyring {
    /// Returns the keyring of this machine, if its program is installed.
    pub(super) fn find() -> Option<Self> {
        let (keyring, program) = if cfg!(target_os = "macos") {
            (Self::Security, "security")
        } else {
            (Self::SecretTool, "secret-tool")
        };
        let path = std::env::var_os("PATH")?;
        let is_there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        (is_there && cfg!(unix)).then_some(keyring)
    }

    /// Lets the program ask for the secret of a client id, and keep it. Returns whether it did.
    pub(super) fn store(self, client_id: &str) -> std::io::Result<bool> {
        let mut command = match self {
            Self::SecretTool => Command::new("secret-tool"),
            Self::Security => Command::new("security"),
        };
        match self {
            Self::SecretTool => command.args([
                "store",
                "--label=sigma-bulk",
                "service",
                SERVICE,
                "account",
                client_id,
            ]),
            // Without a value behind it, the last -w asks.
            Self::Security => command.args([
                "add-generic-password",
                "-U",
                "-s",
                SERVICE,
                "-a",
                client_id,
                "-w",
            ]),
        };
        Ok(command.status()?.success())
    }

    /// Returns the command of the shell that prints the secret.
    pub(super) fn lookup(self, client_id: &str) -> String {
        let account = shell::quoted(client_id);
        match self {
            Self::SecretTool => format!("secret-tool lookup service {SERVICE} account {account}"),
            Self::Security => {
                format!("security find-generic-password -s {SERVICE} -a {account} -w")
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_quotes_what_the_shell_would_read() {
        assert_eq!(
            Keyring::SecretTool.lookup("a b"),
            "secret-tool lookup service sigma-bulk account 'a b'"
        );
        assert!(Keyring::Security.lookup("5e1a").ends_with("-a 5e1a -w"));
    }
}
