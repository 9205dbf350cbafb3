//! `config.example.toml`, made from the declarations of the settings.

use std::fmt::Write as _;

use clap::Args;

use super::Layer;
use super::declaration::DECLARATIONS;

const INTRODUCTION: &str = "\
# Every setting of sigma-bulk with its default.
#
# A configuration file needs only the lines that differ. It is read from --config FILE, or from SIGMA_BULK_CONFIG, or
# from sigma-bulk/config.toml in $XDG_CONFIG_HOME (~/.config; on Windows %APPDATA%). Each setting is also a flag of the same
# name, and an environment variable: concurrency is --concurrency and SIGMA_BULK_CONCURRENCY. A flag overrides the
# environment, which overrides a profile of the file, which overrides the file, which overrides these defaults.
";

const PROFILES: &str = "
# ── Profiles ───────────────────────────────────────────────────────────────────────────────────────

# A profile is a named set of these settings. --profile NAME or SIGMA_BULK_PROFILE selects it.
# [profile.emea]
# cloud = \"aws-eu\"
# client-secret-file = \"/run/secrets/sigma-emea\"
";

/// The width of the file.
const WIDTH: usize = 99;

/// Returns the text of the defaults alone, in TOML.
pub(super) fn defaults() -> String {
    let mut text = String::new();
    for declared in DECLARATIONS.iter().filter(|declared| declared.has_default) {
        let _ = writeln!(text, "{} = {}", declared.key(), declared.example);
    }
    text
}

/// Returns the text of `config.example.toml`.
pub(crate) fn example() -> String {
    let flags = Layer::augment_args(clap::Command::new("settings"));
    let mut text = INTRODUCTION.to_owned();
    let mut section = None;
    for declared in DECLARATIONS {
        let Some(arg) = (flags.get_arguments()).find(|arg| arg.get_id() == declared.field) else {
            continue;
        };
        let heading = arg.get_help_heading();
        if heading != section {
            section = heading;
            let title = format!("# ── {} ", heading.unwrap_or_default());
            let _ = writeln!(text, "\n{title:─<WIDTH$}");
        }
        text.push('\n');
        let help = arg.get_help().map(ToString::to_string);
        let mut comment = help.unwrap_or_default();
        if let Some(long) = arg.get_long_help().map(ToString::to_string) {
            // The long help begins with the short one.
            if let Some((_, more)) = long.split_once("\n\n") {
                let _ = write!(comment, ". {more}");
            }
        }
        if !comment.ends_with('.') {
            comment.push('.');
        }
        for line in wrapped(&comment, WIDTH - 2) {
            let _ = writeln!(text, "# {line}");
        }
        let mark = if declared.has_default { "" } else { "# " };
        let _ = writeln!(text, "{mark}{} = {}", declared.key(), declared.example);
    }
    text.push_str(PROFILES);
    text
}

/// Returns the words of a text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Rate, Settings};

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");

    /// The file in the repository is what the declarations say. `UPDATE_EXAMPLE=1` writes it.
    #[test]
    fn the_example_file_is_made_from_the_declarations() {
        if std::env::var_os("UPDATE_EXAMPLE").is_some() {
            std::fs::write(FILE, example()).expect("written");
        }
        let file = std::fs::read_to_string(FILE).expect("read");
        assert!(
            file == example(),
            "config.example.toml is out of date: run UPDATE_EXAMPLE=1 cargo test the_example_file"
        );
    }

    #[test]
    fn the_example_sets_the_defaults() {
        let defaults = Settings::from_layers(Layer::default()).expect("the defaults are complete");
        assert_eq!(
            (defaults.concurrency, defaults.rate, defaults.retries),
            (32, Rate::Auto, 5)
        );
        let example = Layer::from_toml(&example(), "x", None).expect("right");
        let example = Settings::from_layers(example).expect("right");
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn every_commented_example_is_a_right_value() {
        let text: String = example()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n");
        Layer::from_toml(&text, "x", Some("emea")).expect("every example is right");
    }
}
