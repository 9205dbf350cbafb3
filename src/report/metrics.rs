//! The last run as metrics for Prometheus, in its text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), for the textfile collector.

use std::fmt::Write as _;

use super::summary::Summary;

/// The metric that outlives a run that failed.
const LAST_SUCCESS: &str = "sigma_bulk_last_success_timestamp_seconds";

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished<'f> {
    /// The name of the profile, or an empty text.
    pub profile: &'f str,
    /// The exit code.
    pub exit_code: u8,
    /// The summary, unless the run could not start.
    pub summary: Option<&'f Summary>,
    /// When it ended, in seconds since 1970.
    pub at: i64,
}

/// Returns the metrics of a run. `before` is what the file said until now, from which the time of the last success is taken.
pub(crate) fn render(finished: &Finished<'_>, before: &str) -> String {
    let organization = (finished.summary)
        .and_then(|summary| summary.organization_id.as_deref())
        .unwrap_or_default();
    let labels = format!(
        "profile=\"{}\",organization=\"{}\"",
        escaped(finished.profile),
        escaped(organization)
    );
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, samples: &[(String, String)]| {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (more, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}{more}}} {value}");
        }
    };
    let one = |value: String| vec![(String::new(), value)];
    metric(
        "sigma_bulk_exit_code",
        "The exit code of the last run.",
        &one(finished.exit_code.to_string()),
    );
    metric(
        "sigma_bulk_last_run_timestamp_seconds",
        "When the last run ended.",
        &one(finished.at.to_string()),
    );
    let success = if finished.exit_code == 0 {
        Some(finished.at.to_string())
    } else {
        last_success(before)
    };
    metric(
        LAST_SUCCESS,
        "When the last run that ended with 0 ended.",
        &success.map(one).unwrap_or_default(),
    );
    if let Some(summary) = finished.summary {
        let labeled = |name: &str, value: &str, count: u64| {
            (format!(",{name}=\"{}\"", escaped(value)), count.to_string())
        };
        let rows = summary.outcomes.iter();
        let rows: Vec<_> = rows
            .map(|(outcome, rows)| labeled("outcome", outcome, *rows))
            .collect();
        metric("sigma_bulk_rows", "Rows of the last run.", &rows);
        let requests = summary.requests.by_status.iter();
        let requests: Vec<_> = requests
            .map(|(status, count)| labeled("status", status, *count))
            .collect();
        metric(
            "sigma_bulk_requests",
            "Answered requests of the last run.",
            &requests,
        );
        metric(
            "sigma_bulk_duration_seconds",
            "How long the sessions of the last run took.",
            &one(summary.elapsed_seconds.to_string()),
        );
    }
    text
}

fn last_success(before: &str) -> Option<String> {
    let line = before.lines().find(|line| line.starts_with(LAST_SUCCESS))?;
    let value = line.rsplit(' ').next()?;
    value.parse::<i64>().ok().map(|seconds| seconds.to_string())
}

/// Returns the value of a label: a backslash, a quote and a line break are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success() {
        let finished = |exit_code, at| Finished {
            profile: "a\"b",
            exit_code,
            summary: None,
            at,
        };
        let first = render(&finished(0, 100), "");
        let second = render(&finished(3, 200), &first);
        insta::assert_snapshot!(second, @r#"
        # HELP sigma_bulk_exit_code The exit code of the last run.
        # TYPE sigma_bulk_exit_code gauge
        sigma_bulk_exit_code{profile="a\"b",organization=""} 3
        # HELP sigma_bulk_last_run_timestamp_seconds When the last run ended.
        # TYPE sigma_bulk_last_run_timestamp_seconds gauge
        sigma_bulk_last_run_timestamp_seconds{profile="a\"b",organization=""} 200
        # HELP sigma_bulk_last_success_timestamp_seconds When the last run that ended with 0 ended.
        # TYPE sigma_bulk_last_success_timestamp_seconds gauge
        sigma_bulk_last_success_timestamp_seconds{profile="a\"b",organization=""} 100
        "#);
        assert!(!render(&finished(1, 1), "").contains(LAST_SUCCESS));
    }
}
