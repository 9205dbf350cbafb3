//! The layer of environment variables.

use clap::{CommandFactory, FromArgMatches};

use super::declaration::DECLARATIONS;
use super::{Layer, SettingsError};
use crate::model::{did_you_mean, shown};

/// The prefix of environment variables.
const PREFIX: &str = "SIGMA_BULK_";
/// Settings whose variable may also lack `BULK_`, as Sigma's own tools have it.
const SHORT_NAMES: [&str; 3] = ["client_id", "client_secret", "base_url"];

/// Variables that name the configuration file and the profile in it.
const OTHERS: [&str; 2] = ["SIGMA_BULK_CONFIG", "SIGMA_BULK_PROFILE"];

/// Returns the environment variable of a setting.
pub(super) fn variable(field: &str) -> String {
    format!("{PREFIX}{}", field.to_uppercase())
}

/// Checks the names of all environment variables: one that begins as those of this tool do and is none of them is misspelt,
/// as an unknown key in the configuration is.
///
/// # Errors
/// If there is one; the message says what it may have meant.
pub(crate) fn check_names(names: impl IntoIterator<Item = String>) -> Result<(), SettingsError> {
    let mut known: Vec<String> = (DECLARATIONS.iter())
        .map(|declared| variable(declared.field))
        .collect();
    known.extend(OTHERS.map(str::to_owned));
    let mut unknown: Vec<String> = (names.into_iter())
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .map(|name| {
            let near = did_you_mean(&name, known.iter().map(String::as_str));
            format!("{}{near}", shown(&name))
        })
        .collect();
    unknown.sort();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(SettingsError::UnknownVariables(unknown.join("; ")))
    }
}

/// Returns what separates the items of a setting that is a list.
fn separator(field: &str) -> Option<fn(char) -> bool> {
    match field {
        "protected" => Some(|c| matches!(c, ',' | ';') || c.is_whitespace()),
        // The names of columns have blanks.
        "ignore_column" | "map" => Some(|c| matches!(c, ',' | '\n')),
        _ => None,
    }
}

impl Layer {
    /// Returns the layer of the environment; `get` returns a variable's value.
    ///
    /// # Errors
    /// If a variable's value is wrong; the message names the variable.
    pub(crate) fn from_environment(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Parser {
            #[command(flatten)]
            layer: Layer,
        }
        let mut layer = Self::default();
        for declared in DECLARATIONS {
            let upper = declared.field.to_uppercase();
            let mut names = vec![variable(declared.field)];
            if SHORT_NAMES.contains(&declared.field) {
                names.push(format!("SIGMA_{upper}"));
            }
            let found = names
                .into_iter()
                .find_map(|name| get(&name).map(|value| (name, value)));
            // A variable that is empty is not set. One that was read from a file may end with a line break.
            let found = found.map(|(name, value)| (name, value.trim().to_owned()));
            let Some((name, value)) = found.filter(|(_, value)| !value.is_empty()) else {
                continue;
            };
            let flag = format!("--{}", declared.key());
            let words: Vec<String> = match separator(declared.field) {
                Some(separates) => value
                    .split(separates)
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| format!("{flag}={item}"))
                    .collect(),
                None => vec![format!("{flag}={value}")],
            };
            let one = Parser::command()
                .try_get_matches_from(words)
                .and_then(|matches| Parser::from_arg_matches(&matches))
                .map_err(|error| {
                    let message = error.to_string();
                    let first = message.lines().next().unwrap_or_default();
                    SettingsError::Environment {
                        name,
                        message: first.strip_prefix("error: ").unwrap_or(first).to_owned(),
                    }
                })?;
            layer = one.layer.over(layer);
        }
        Ok(layer)
    }
}
