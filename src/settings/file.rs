//! The layer of the configuration file: where the file is, and what it says.

use std::path::{Path, PathBuf};

use super::declaration::{DECLARATIONS, Declaration};
use super::{Layer, SettingsError};
use crate::model::{did_you_mean, quoted};
use crate::paths::config_dir;

impl Layer {
    /// Returns the layer of a configuration file, with one of its profiles above it.
    ///
    /// # Errors
    /// If the file can't be read, has an unknown key or a wrong value, or does not have that profile.
    pub(crate) fn from_file(path: &Path, profile: Option<&str>) -> Result<Self, SettingsError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: shown.clone(),
            source,
        })?;
        Self::from_toml(&text, &shown, profile)
    }

    /// Returns the layer of the configuration file that the command line or the environment names, or else of the
    /// usual one, if there is any.
    ///
    /// # Errors
    /// As [`Layer::from_file`], and if a profile is named without any configuration file.
    pub(crate) fn from_usual_file(
        config: Option<&Path>,
        profile: Option<&str>,
    ) -> Result<Self, SettingsError> {
        let profile = profile.map(str::to_owned).or_else(|| {
            variable("SIGMA_BULK_PROFILE").map(|name| name.to_string_lossy().into_owned())
        });
        let path = given_path(config).or_else(|| usual_path().filter(|path| path.is_file()));
        match path {
            Some(path) => Self::from_file(&path, profile.as_deref()),
            None => match profile {
                Some(profile) => Err(SettingsError::NoFile(profile)),
                None => Ok(Self::default()),
            },
        }
    }

    /// Returns the names of the profiles in the configuration file that the environment names, or else in the usual one.
    /// It is for the completion in a shell.
    pub(crate) fn profiles() -> Option<Vec<String>> {
        let path = given_path(None).or_else(usual_path)?;
        let text = std::fs::read_to_string(path).ok()?;
        let layer: Self = toml::from_str(&text).ok()?;
        Some(layer.profile.into_keys().collect())
    }

    pub(super) fn from_toml(
        text: &str,
        path: &str,
        profile: Option<&str>,
    ) -> Result<Self, SettingsError> {
        let wrong = |message: String| SettingsError::File {
            path: path.to_owned(),
            message,
        };
        let mut base: Self = toml::from_str(text).map_err(|error| wrong(describe(text, &error)))?;
        let mut profiles = std::mem::take(&mut base.profile);
        if let Some((name, _)) = profiles.iter().find(|(_, layer)| !layer.profile.is_empty()) {
            return Err(wrong(format!("profile \"{name}\" contains a profile")));
        }
        let Some(profile) = profile else {
            return Ok(base);
        };
        match profiles.remove(profile) {
            Some(layer) => Ok(layer.over(base)),
            None => Err(SettingsError::NoProfile {
                path: path.to_owned(),
                profile: profile.to_owned(),
                near: did_you_mean(profile, profiles.keys().map(String::as_str)),
                known: profiles.into_keys().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the configuration file that a flag or the environment names.
fn given_path(config: Option<&Path>) -> Option<PathBuf> {
    let variable = || variable("SIGMA_BULK_CONFIG").map(PathBuf::from);
    config.map(Path::to_owned).or_else(variable)
}

/// Returns where the configuration file is unless it is named.
fn usual_path() -> Option<PathBuf> {
    Some(config_dir()?.join("sigma-bulk").join("config.toml"))
}

/// Returns the configuration file that `init` writes: the one that is named, or else the usual one.
pub(crate) fn path_to_write(config: Option<&Path>) -> Option<PathBuf> {
    given_path(config).or_else(usual_path)
}

/// Returns where a configuration file is wrong, and how. It shows neither the line nor a value, because a secret may
/// stand there.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    if let Some(unknown) = unknown_key(error.message()) {
        return format!("line {line}: {unknown}");
    }
    // serde's own messages: `invalid type: string "…", expected a boolean`.
    let message = match error.message().split_once("string \"") {
        Some((start, rest)) => match rest.rsplit_once("\", expected ") {
            Some((_, expected)) => format!("{start}a string, expected {expected}"),
            None => format!("{start}a string"),
        },
        None => error.message().to_owned(),
    };
    format!("line {line}: {}", message.trim_end())
}

/// Returns what to say about an unknown key, if that is what serde's message is about: ``unknown field `x`, expected one of
/// `a`, `b` ``.
fn unknown_key(message: &str) -> Option<String> {
    let (key, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<String> = DECLARATIONS.iter().map(Declaration::key).collect();
    let near = did_you_mean(key, known.iter().map(String::as_str));
    Some(format!(
        "unknown key {}{near}; sigma-bulk guide settings lists all",
        quoted(key)
    ))
}
