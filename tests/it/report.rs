//! Terminal output and the files of a run.

use std::time::Duration;

use sigma_bulk::sandbox::{Faults, RateLimit, RateLimitKind, RetryAfter};

use crate::harness::{Api, Bench};

const CSV: &str = "Email,First Name,New Email\n\
                   user1@x.org,A,\n\
                   user2@x.org,First,\n\
                   user3@x.org,,\n\
                   user4@x.org,,user1@x.org\n\
                   user5@x.org,,user2@x.org\n\
                   nobody@x.org,X,\n";

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(?m)^\d\d:\d\d:\d\d ", "[time] ");
    settings.add_filter(r"in \d+\.\d s(, \d+\.\d rows/s)?", "in [time]");
    settings.add_filter(r"\[request [0-9a-f]+\]", "[request …]");
    settings.add_filter(r"http://127\.0\.0\.1:\d+", "[url]");
    settings
}

#[test]
fn summary_lists_outcomes_failures_and_next_steps() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    let ran = bench.update(&api, CSV, &["--concurrency", "1"]).exits(1);
    settings()
        .bind(|| insta::assert_snapshot!(format!("{}--- stderr\n{}", ran.stdout, ran.stderr)));
}

#[test]
fn verbose_prints_every_row_with_its_changes() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    let ran = bench
        .update(&api, CSV, &["--concurrency", "1", "-v"])
        .exits(1);
    settings().bind(|| insta::assert_snapshot!(ran.stderr));
}

#[test]
fn json_prints_one_document_to_standard_output() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    let ran = bench.update(&api, CSV, &["--json", "--quiet"]).exits(1);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json, bench.summary());
    assert_eq!(ran.stderr, "");
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    for key in [
        "rows",
        "outcomes",
        "requests",
        "stop",
        "dry_run",
        "started_at",
        "finished_at",
        "elapsed_seconds",
        "exit_code",
        "run_dir",
    ] {
        assert!(keys.iter().any(|name| *name == key), "{key}");
    }
    for outcome in [
        "updated",
        "unchanged",
        "empty",
        "invalid",
        "not_found",
        "failed",
        "conflict",
        "unknown",
        "not_attempted",
    ] {
        assert!(json["outcomes"][outcome].is_u64(), "{outcome}");
    }
    assert!(
        json["started_at"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    let total = json["requests"]["total"].as_u64().unwrap();
    let by_status: u64 = json["requests"]["by_status"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(total, by_status, "every request was answered");
    let stats = api.stats();
    assert_eq!(
        total,
        stats.requests.values().sum::<u64>(),
        "the sandbox counted the same number"
    );
}

#[test]
fn first_20_failures_are_printed_and_the_rest_counted() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let rows: String = (1..=30).map(|n| format!("nobody{n}@x.org,A\n")).collect();
    let ran = bench
        .update(&api, format!("Email,First Name\n{rows}"), &[])
        .exits(1);
    assert_eq!(ran.stderr.matches("not_found").count(), 20);
    assert!(
        ran.stderr.contains("… and 10 more failures"),
        "{}",
        ran.stderr
    );
}

#[test]
fn undo_csv_has_old_values_under_the_new_emails() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name,New Email,isArchived\nuser1@x.org,A,new@x.org,\nuser2@x.org,,,true\nuser3@x.org,First,,\n";
    bench.update(&api, csv, &[]).exits(0);
    insta::assert_snapshot!(bench.read("run/undo.csv"), @r"
    Email,First Name,New Email,isArchived
    new@x.org,First,user1@x.org,
    user2@x.org,,,false
    ");
}

#[cfg(unix)]
#[test]
fn run_files_are_readable_only_by_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (api, bench) = (Api::with_users(1), Bench::new());
    std::fs::create_dir(bench.path("run")).unwrap();
    bench
        .update(
            &api,
            "Email,First Name\nuser1@x.org,A\n",
            &["--log-file", "x.log"],
        )
        .exits(0);
    let mode = |name: &str| {
        std::fs::metadata(bench.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode("x.log"), 0o600);
    let names: Vec<String> = std::fs::read_dir(bench.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        assert_eq!(mode(&format!("run/{name}")), 0o600, "{name}");
    }
}

#[test]
fn report_rebuilds_the_files_from_the_journal() {
    let (api, bench) = (Api::with_users(5).faults(Faults::default()), Bench::new());
    bench.update(&api, CSV, &["--concurrency", "1"]).exits(1);
    let names = ["results.csv", "failed.csv", "undo.csv", "summary.json"];
    let before = names.map(|name| bench.read(&format!("run/{name}")));
    for name in names {
        std::fs::remove_file(bench.path(&format!("run/{name}"))).unwrap();
    }
    bench.run(&["report", "run"]).exits(1);
    assert_eq!(names.map(|name| bench.read(&format!("run/{name}"))), before);
}

/// A run directory may hold other files, but none with the name of a file that the run writes.
#[test]
fn existing_user_files_are_not_overwritten() {
    const ROW: &str = "Email,First Name\nuser1@x.org,A\n";
    let (api, bench) = (Api::with_users(1), Bench::new());
    let url = api.sandbox.url();
    let update =
        |csv: &str, dir: &str| bench.run(&["update", csv, "--base-url", &url, "--run-dir", dir]);
    // The run directory is that of the CSV, which has the same name as the run's copy.
    bench.write("input.csv", ROW);
    update("input.csv", ".").exits(2).says("input.csv");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let set = |name: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(bench.path(name), mode).unwrap();
        };
        set("input.csv", 0o600);
        set(".", 0o755);
        update("input.csv", ".").exits(2).says("input.csv");
        let mode = std::fs::metadata(bench.dir.path()).unwrap().permissions();
        assert_eq!(
            mode.mode() & 0o777,
            0o755,
            "a rejected directory keeps its mode"
        );
    }
    assert_eq!(bench.read("input.csv"), ROW);
    // The run directory already holds somebody's results.csv.
    std::fs::create_dir(bench.path("dir")).unwrap();
    bench.write("dir/results.csv", "mine");
    update("input.csv", "dir").exits(2).says("results.csv");
    assert_eq!(bench.read("dir/results.csv"), "mine");
    // Files with other names may exist.
    std::fs::remove_file(bench.path("dir/results.csv")).unwrap();
    bench.write("dir/notes.txt", "mine");
    update("input.csv", "dir").exits(0);
    assert_eq!(bench.read("dir/notes.txt"), "mine");
}

/// The disk behind standard output is full, so the error names summary.json instead.
#[cfg(target_os = "linux")]
#[test]
fn unprintable_summary_is_not_a_success() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    for (run, more) in [("a", "--json"), ("b", "--send-unchanged")] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut command = bench.command();
        command.args([
            "update",
            "input.csv",
            "--base-url",
            &url,
            "--run-dir",
            run,
            more,
        ]);
        command
            .stdout(full.unwrap())
            .stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        crate::harness::Ran::of(output, &bench)
            .exits(4)
            .says(&format!("{run}/summary.json"));
    }
}

#[test]
fn default_run_directories_are_unique() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("spring list.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    for _ in 0..2 {
        bench
            .run(&["update", "spring list.csv", "--base-url", &url])
            .exits(0);
    }
    let names: Vec<_> = std::fs::read_dir(bench.path("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names
            .iter()
            .all(|name| name.to_string_lossy().contains("Z-spring-list")),
        "{names:?}"
    );
}

#[test]
fn missing_input_copy_is_named_in_the_error() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(0);
    std::fs::remove_file(bench.path("run/input.csv")).unwrap();
    for command in ["report", "undo", "resume"] {
        bench.run(&[command, "run"]).exits(2).says("run/input.csv");
    }
}

/// Without a terminal, each line says when it was written, and the stages, pauses and the rate have lines.
#[test]
fn plain_lines_begin_with_the_time() {
    let limit = RateLimit {
        per_second: 40.0,
        kind: RateLimitKind::FixedWindow {
            window: Duration::from_secs(1),
        },
        retry_after: RetryAfter::Seconds,
    };
    let (api, bench) = (Api::with_users(160), Bench::new());
    let api = api.faults(Faults {
        rate_limit: Some(limit),
        ..Faults::default()
    });
    let rows: String = (1..=160).map(|n| format!("user{n}@x.org,A\n")).collect();
    let csv = format!("Email,First Name\nnobody@x.org,A\n{rows}");
    let ran = bench.update(&api, csv, &["--rate", "auto"]).exits(1);
    for line in ran.stderr.lines() {
        let time: Vec<&str> = line.get(..9).unwrap().trim_end().split(':').collect();
        assert!(
            time.len() == 3 && time.iter().all(|part| part.parse::<u8>().is_ok()),
            "{line}"
        );
    }
    for text in [
        "signing in",
        "looking up members",
        "the API asks for a pause",
        "rate: at most",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
}

#[test]
fn colors_follow_the_flag() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    bench.write("input.csv", CSV);
    let url = api.sandbox.url();
    let stdout = |more: &[&str]| {
        let words = bench.update_words(&url, &[&["--dry-run"], more].concat());
        let mut command = bench.command();
        command.env("NO_COLOR", "1").args(&words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let always = stdout(&["--color", "always", "--run-dir", "a"]);
    assert!(always.contains("\u{1b}[32m"), "{always}");
    for (when, dir) in [("never", "b"), ("auto", "c")] {
        let text = stdout(&["--color", when, "--run-dir", dir]);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

/// A dry run with -v shows each row once.
#[test]
fn verbose_dry_run_shows_nothing_twice() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    let ran = bench.update(&api, CSV, &["--dry-run", "-v"]).exits(1);
    let all = ran.stdout + &ran.stderr;
    assert_eq!(all.matches("user1@x.org  ").count(), 1, "{all}");
}

/// A scheduler mails what a job writes, so that a job without trouble writes nothing.
#[test]
fn quiet_runs_only_speak_of_trouble() {
    let (api, bench) = (Api::with_users(5), Bench::new());
    let right = "Email,First Name\nuser1@x.org,A\nuser2@x.org,First\n";
    let ran = bench
        .update(&api, right, &["-q", "--run-dir", "a"])
        .exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let ran = bench.update(&api, CSV, &["-q", "--run-dir", "b"]).exits(1);
    assert_eq!(ran.stdout, "");
    for text in [
        "sigma-bulk update input.csv",
        "exit code 1",
        "1 × not_found: no member has this email",
        "nobody@x.org",
        "sigma-bulk update b/failed.csv",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
    assert!(ran.stderr.lines().count() < 30, "{}", ran.stderr);
}
