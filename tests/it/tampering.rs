//! The tool's own files, when somebody changes them, takes them away, or puts links in their place.

use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults};

use crate::harness::{Api, Bench, Ran, many, send};

/// A run that was stopped and has rows left.
fn stopped() -> (Api, Bench) {
    let (api, bench) = (Api::with_users(4), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nnobody@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n";
    let flags = ["--max-failures", "1", "--concurrency", "1"];
    bench.update(&api, csv, &flags).exits(4);
    (api, bench)
}

/// Each edit of a file of lines that leaves valid JSON.
fn edits(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    vec![
        // A value before, or a value after.
        text.replacen("\"First\"", "\"Somebody\"", 1),
        text.replacen("\"A\"", "\"X\"", 1),
        text.replacen("id1", "id4", 1),
        join(&[&lines[..1], &lines[2..]].concat()),
        join(&[&lines[..2], &lines[1..]].concat()),
        join(&swapped),
    ]
}

#[test]
fn edited_journal_is_refused() {
    let (api, bench) = stopped();
    let journal = bench.read("run/journal.jsonl");
    let sent = api.stats().requests_to(Endpoint::UpdateMember);
    let last = journal.lines().last().unwrap();
    let mut all = edits(&journal);
    all.push(journal.replace(last, &last.replace("\"exit_code\":4", "\"exit_code\":0")));
    for edited in all {
        assert_ne!(edited, journal);
        bench.write("run/journal.jsonl", &edited);
        for words in [&["resume", "run"][..], &["undo", "run"], &["report", "run"]] {
            bench.run(words).exits(2).says("checksum differs");
        }
    }
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), sent);
    bench.write("run/journal.jsonl", journal);
    bench.resume(&["--max-failures", "9"]).exits(1);
}

#[test]
fn edited_plan_is_refused() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n";
    bench
        .update(&api, csv, &["--dry-run", "--save-plan", "plan.jsonl"])
        .exits(0);
    let plan = bench.read("plan.jsonl");
    for edited in edits(&plan) {
        assert_ne!(edited, plan);
        bench.write("edited.jsonl", &edited);
        // Even where the part that is used is as it was.
        for limit in ["3", "1"] {
            bench
                .run(&["apply", "edited.jsonl", "--limit", limit, "--run-dir", "a"])
                .exits(2)
                .says("checksum differs");
        }
    }
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
}

/// Somebody takes the journal away during the run. It stops within a moment, and claims nothing about what was recorded.
#[test]
fn journal_that_is_taken_away_stops_the_run() {
    type TakeAway<'a> = &'a dyn Fn(&Bench);
    let cases: [(&str, TakeAway<'_>); 4] = [
        ("deleted", &|bench| {
            std::fs::remove_file(bench.path("run/journal.jsonl")).unwrap();
        }),
        ("deleted", &|bench| {
            std::fs::remove_dir_all(bench.path("run")).unwrap();
        }),
        ("truncated", &|bench| {
            let path = bench.path("run/journal.jsonl");
            let file = std::fs::OpenOptions::new().write(true).open(path);
            file.unwrap().set_len(100).unwrap();
        }),
        ("replaced", &|bench| {
            let text = bench.read("run/journal.jsonl");
            bench.write("copy", text);
            std::fs::rename(bench.path("copy"), bench.path("run/journal.jsonl")).unwrap();
        }),
    ];
    for (what, take_away) in cases {
        let api = Api::with_users(400).faults(Faults {
            latency: Duration::from_millis(20),
            ..Faults::default()
        });
        let bench = Bench::new();
        bench.write("input.csv", many(400));
        let url = api.sandbox.url();
        let child = bench.start(&bench.update_words(&url, &["--concurrency", "2"]));
        api.wait_until(|stats| stats.applied >= 10);
        take_away(&bench);
        let ran = Ran::of(child.wait_with_output().unwrap(), &bench).exits(4);
        assert!(
            ran.stderr
                .contains(&format!("was {what} while the run was going")),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("has everything"), "{}", ran.stderr);
        assert!(!bench.path("run/results.csv").exists(), "{what}");
        assert!(api.stats().applied < 390, "{what}: {}", api.stats().applied);
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (api, bench) = stopped();
    bench.write("precious", "text");
    let target = bench.path("precious");

    symlink(&target, bench.path("plan.jsonl")).unwrap();
    let flags = ["--dry-run", "--save-plan", "plan.jsonl", "--run-dir", "dry"];
    bench
        .update(&api, "Email,First Name\nuser1@x.org,Z\n", &flags)
        .exits(2)
        .says("symbolic link");

    for name in [
        "results.csv",
        "input.csv",
        "plan.jsonl",
        "journal.jsonl.tmp",
    ] {
        let dir = bench.path("new");
        std::fs::create_dir_all(&dir).unwrap();
        symlink(&target, dir.join(name)).unwrap();
        let flags = ["--run-dir", "new"];
        let ran = bench.update(&api, "Email,First Name\nuser1@x.org,Z\n", &flags);
        assert!(matches!(ran.code, Some(2 | 4)), "{name}: {}", ran.stderr);
        // A run that could not start leaves no directory, unless something is in its way there.
        let _ = std::fs::remove_dir_all(dir);
    }

    symlink(&target, bench.path("run/results.csv.tmp")).unwrap();
    bench.run(&["report", "run"]).says("symbolic link");
    std::fs::remove_file(bench.path("run/results.csv.tmp")).unwrap();

    std::fs::rename(bench.path("run/journal.jsonl"), bench.path("journal")).unwrap();
    symlink(bench.path("journal"), bench.path("run/journal.jsonl")).unwrap();
    bench.run(&["resume", "run"]).exits(2);
    assert_eq!(bench.read("precious"), "text");
}

/// While a run is under way, its report says so, and nobody undoes or resumes what is not complete yet.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn run_under_way_is_reported_as_such_and_not_undone() {
    let api = Api::with_users(100).faults(Faults {
        latency: Duration::from_millis(50),
        ..Faults::default()
    });
    let bench = Bench::new();
    bench.write("input.csv", many(100));
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, &["--concurrency", "1"]));
    api.wait_until(|stats| stats.applied >= 5);
    let ran = bench.run(&["report", "run"]).exits(5);
    assert!(ran.stderr.contains("still under way"), "{}", ran.stderr);
    assert!(ran.stdout.contains("100 rows"), "{}", ran.stdout);
    assert!(!bench.path("run/results.csv").exists());
    bench.undo(&[]).exits(5).says("still under way");
    bench.resume(&[]).exits(5).says("still under way");
    send(&child, "-INT");
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(130);
    bench.run(&["report", "run"]).exits(130);
    let before = Api::with_users(100).state();
    bench.undo(&[]).exits(0);
    assert_eq!(api.state(), before);
}
