//! The shell: how a suggested command is quoted for the one in use, and how a command of a setting is run by the operating
//! system's.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// How a shell reads words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// `sh` and those that quote as it does.
    Posix,
    /// The command prompt of Windows.
    Cmd,
    /// PowerShell on Windows.
    PowerShell,
}

impl Dialect {
    /// Returns the shell in use.
    fn current() -> Self {
        static CURRENT: LazyLock<Dialect> = LazyLock::new(|| {
            if cfg!(windows) {
                Dialect::on_windows(
                    |name| std::env::var_os(name),
                    std::env::home_dir().as_deref(),
                )
            } else {
                Dialect::Posix
            }
        });
        *CURRENT
    }

    /// Returns the shell in use on Windows, as far as the environment tells it. Git Bash and MSYS2 set `MSYSTEM`. PowerShell
    /// puts the user's own modules into `PSModulePath`; outside of it, only the system's are there.
    fn on_windows(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Self {
        if variable("MSYSTEM").is_some() {
            return Self::Posix;
        }
        let paths = variable("PSModulePath").unwrap_or_default();
        let (paths, home) = (
            paths.to_string_lossy(),
            home.map(|home| home.to_string_lossy()),
        );
        let is_of_user = home.is_some_and(|home| {
            let mut paths = paths.split(';');
            paths.any(|path| path.to_lowercase().starts_with(&home.to_lowercase()))
        });
        if is_of_user {
            Self::PowerShell
        } else {
            Self::Cmd
        }
    }

    /// Returns a word as this shell reads it: quoted if it needs to be.
    fn quoted(self, word: &str) -> String {
        let safe = match self {
            Self::Posix => "-_./:=@%+,~",
            // A comma makes a list of PowerShell's, and an @ begins one of its own forms.
            Self::PowerShell => "-_./:=+\\",
            Self::Cmd => "-_./:=@+,~\\",
        };
        let is_safe = |c: char| c.is_alphanumeric() || safe.contains(c);
        if !word.is_empty() && word.chars().all(is_safe) {
            return word.to_owned();
        }
        match self {
            Self::Posix => format!("'{}'", word.replace('\'', r"'\''")),
            Self::PowerShell => format!("'{}'", word.replace('\'', "''")),
            Self::Cmd => argument(word),
        }
    }
}

/// Returns a word in double quotes as programs on Windows split their command line: a backslash only escapes where a quote
/// follows it.
///
/// <https://learn.microsoft.com/en-us/cpp/c-language/parsing-c-command-line-arguments>
fn argument(word: &str) -> String {
    let mut quoted = "\"".to_owned();
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                quoted.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}

/// Returns a word as the shell in use reads it: quoted if it needs to be.
pub(crate) fn quoted(word: &str) -> String {
    Dialect::current().quoted(word)
}

/// Returns words as they are typed in the shell in use.
pub(crate) fn typed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

/// Returns a command of the operating system's shell.
pub(crate) fn command(text: &str) -> Command {
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        let mut command = Command::new("cmd");
        // With /S, cmd takes off the outer quotes, and leaves everything between them as it is.
        command
            .args(["/D", "/S", "/C"])
            .raw_arg(format!("\"{text}\""));
        command
    }
    #[cfg(not(windows))]
    {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Dialect;

    #[test]
    fn words_are_quoted_for_their_shell() {
        for (word, posix, cmd, power_shell) in [
            ("run", "run", "run", "run"),
            ("", "''", "\"\"", "''"),
            ("a b", "'a b'", "\"a b\"", "'a b'"),
            (
                r"run\failed.csv",
                r"'run\failed.csv'",
                r"run\failed.csv",
                r"run\failed.csv",
            ),
            (
                r"C:\my runs\",
                r"'C:\my runs\'",
                r#""C:\my runs\\""#,
                r"'C:\my runs\'",
            ),
            ("it's", r"'it'\''s'", "\"it's\"", "'it''s'"),
            ("a,b", "a,b", "a,b", "'a,b'"),
            ("$x", "'$x'", "\"$x\"", "'$x'"),
            ("a&b", "'a&b'", "\"a&b\"", "'a&b'"),
            (
                r#"say "x\"""#,
                r#"'say "x\""'"#,
                r#""say \"x\\\"\"""#,
                r#"'say "x\""'"#,
            ),
            ("5%", "5%", "\"5%\"", "'5%'"),
            ("Zoë", "Zoë", "Zoë", "Zoë"),
        ] {
            assert_eq!(Dialect::Posix.quoted(word), posix);
            assert_eq!(Dialect::Cmd.quoted(word), cmd);
            assert_eq!(Dialect::PowerShell.quoted(word), power_shell);
        }
    }

    #[test]
    fn the_shell_in_use_on_windows_is_told_by_the_environment() {
        let of_system = r"C:\Program Files\WindowsPowerShell\Modules;C:\WINDOWS\system32\WindowsPowerShell\v1.0\Modules";
        let of_user = format!(r"c:\users\Ann\Documents\PowerShell\Modules;{of_system}");
        for (variables, shell) in [
            (vec![], Dialect::Cmd),
            (vec![("PSModulePath", of_system)], Dialect::Cmd),
            (
                vec![("PSModulePath", of_user.as_str())],
                Dialect::PowerShell,
            ),
            (
                vec![("PSModulePath", of_user.as_str()), ("MSYSTEM", "MINGW64")],
                Dialect::Posix,
            ),
        ] {
            let find = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            };
            assert_eq!(
                Dialect::on_windows(find, Some(Path::new(r"C:\Users\Ann"))),
                shell
            );
        }
    }
}
