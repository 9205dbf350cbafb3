//! Where files lie on each operating system, and what paths mean on Windows: which names are devices, and who can read a file.

use std::path::{Component, Path, PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};

/// Returns the directory of configuration: `$XDG_CONFIG_HOME` (`~/.config`), on macOS too, as command-line tools have it
/// there, and `%APPDATA%` on Windows. `None` means that the user has no home.
pub(crate) fn config_dir() -> Option<PathBuf> {
    match choose_base_strategy() {
        Ok(base) => Some(base.config_dir()),
        Err(_) => named_by("XDG_CONFIG_HOME"),
    }
}

/// Returns the directory of what a program keeps for itself: `$XDG_STATE_HOME` (`~/.local/state`), `%LOCALAPPDATA%` on
/// Windows, and the directory of temporary files for a user who has no home.
pub(crate) fn state_dir() -> PathBuf {
    match choose_base_strategy() {
        Ok(base) => base.state_dir().unwrap_or_else(|| base.cache_dir()),
        Err(_) => named_by("XDG_STATE_HOME").unwrap_or_else(std::env::temp_dir),
    }
}

/// Returns the directory that a variable names. etcetera reads it only for users with a home, which those of a container
/// may not have. A relative path is invalid (<https://specifications.freedesktop.org/basedir/latest/#variables>).
fn named_by(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

/// What to say of a path for which [`is_shared`] holds.
pub(crate) const SHARED: &str = "on Windows, whoever can read a folder can read its files, and this one is outside of your user profile: look at its permissions";

/// Returns whether other users may read a file because it lies outside of the user's profile, which Windows keeps private.
/// Elsewhere, its mode decides.
pub(crate) fn is_shared(path: &Path) -> bool {
    if !cfg!(windows) {
        return false;
    }
    // A part of the path may not exist yet.
    let whole = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        path.ancestors().find_map(|path| path.canonicalize().ok())
    };
    let home = std::env::home_dir().and_then(|home| whole(&home));
    match (whole(path), home) {
        (Some(path), Some(home)) => !path.starts_with(home),
        _ => false,
    }
}

/// Returns the name in a path that stands for a device on this system, which only Windows has.
pub(crate) fn device_name(path: &Path) -> Option<String> {
    if cfg!(windows) {
        windows_device(path)
    } else {
        None
    }
}

/// Returns the name in a path that Windows takes for a device, whatever its extension is.
///
/// <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file#naming-conventions>
fn windows_device(path: &Path) -> Option<String> {
    path.components().find_map(|part| match part {
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            is_device(&name).then(|| name.into_owned())
        }
        _ => None,
    })
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => {
            let number = stem
                .strip_prefix("COM")
                .or_else(|| stem.strip_prefix("LPT"));
            number.is_some_and(|number| {
                let mut digits = number.chars();
                let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³');
                digits.next().is_some_and(is_digit) && digits.next().is_none()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::windows_device;

    #[test]
    fn devices_are_known_by_any_extension() {
        for name in [
            "CON",
            "con.csv",
            "Nul.tar.gz",
            "COM1",
            "lpt9.txt",
            "aux ",
            "runs/prn/x",
            "COM²",
        ] {
            assert!(windows_device(Path::new(name)).is_some(), "{name}");
        }
        for name in [
            "CONTACTS.csv",
            "com10",
            "COM",
            "20260331T101500Z-CON",
            "x.con",
            "lpt",
            "runs/nuls",
        ] {
            assert_eq!(windows_device(Path::new(name)), None, "{name}");
        }
    }
}
