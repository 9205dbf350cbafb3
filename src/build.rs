//! Puts the commit and its date into `--version`. Both come from the source, so that two builds of one commit are equal.

use std::process::Command;

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = git(&["rev-parse", "--short=9", "HEAD"]);
    let date = git(&["log", "-1", "--format=%cs"]);
    let version = match (commit, date) {
        (Some(commit), Some(date)) => format!("{version} ({commit} {date})"),
        // A package has no repository.
        _ => version,
    };
    // `cargo run` passes the variable on, so that its name must not look like one of the tool's.
    println!("cargo::rustc-env=VERSION_WITH_COMMIT={version}");
    for path in ["src/build.rs", ".git/HEAD", ".git/logs/HEAD"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// Returns what git says about this repository, and not about one around it.
fn git(words: &[&str]) -> Option<String> {
    if !std::path::Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
