//! Runs that a scheduler starts: one command line, again and again.

use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults};

use crate::harness::{Api, Bench, Ran, many};

const CSV: &str = "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\n";

/// The line of the scheduler.
fn nightly(bench: &Bench, api: &Api, more: &[&str]) -> Ran {
    let url = api.sandbox.url();
    let line = [
        "update",
        "feed.csv",
        "--base-url",
        &url,
        "--auto-resume",
        "--rate",
        "0",
        "--yes",
    ];
    bench.run(&[&line, more].concat())
}

fn updates(api: &Api) -> u64 {
    api.stats().requests_to(Endpoint::UpdateMember)
}

#[test]
fn a_complete_input_is_not_run_again() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(updates(&api), 1);
    let again = nightly(&bench, &api, &[]).exits(1);
    assert!(
        again.stdout.contains("was run already, in runs/"),
        "{}",
        again.stdout
    );
    let json = nightly(&bench, &api, &["--json"]).exits(1);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["outcomes"]["updated"], 1);
    assert_eq!(updates(&api), 1);
    // Silence is for mail: nothing happened.
    let quiet = nightly(&bench, &api, &["-q"]).exits(1);
    assert_eq!(quiet.stdout + &quiet.stderr, "");
}

#[test]
fn a_changed_input_is_a_new_run() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    bench.write("feed.csv", CSV.replace(",A", ",C"));
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "C");
    // A dry run of the same input is another run, too, and so is one with other rules.
    nightly(&bench, &api, &["--dry-run"]).exits(1);
    nightly(&bench, &api, &["--limit", "1"]).exits(0);
    let runs = std::fs::read_dir(bench.path("runs")).unwrap().count();
    assert_eq!(runs, 4);
    // The input of the first night is known, although another came after it.
    bench.write("feed.csv", CSV);
    let ran = nightly(&bench, &api, &[]).exits(1);
    assert!(ran.stdout.contains("was run already"), "{}", ran.stdout);
}

#[test]
fn an_unfinished_run_is_resumed() {
    let (api, bench) = (Api::with_users(300), Bench::new());
    let api = api.faults(Faults {
        latency: Duration::from_millis(100),
        ..Faults::default()
    });
    bench.write("feed.csv", many(300));
    let url = api.sandbox.url();
    let line = [
        "update",
        "feed.csv",
        "--base-url",
        &url,
        "--auto-resume",
        "--rate",
        "0",
        "--yes",
    ];
    let mut child = bench.start(&line);
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > 40);
    child.kill().unwrap();
    child.wait().unwrap();
    nightly(&bench, &api, &[]).exits(0);
    let runs: Vec<_> = std::fs::read_dir(bench.path("runs")).unwrap().collect();
    assert_eq!(runs.len(), 1);
    let named = format!(
        "runs/{}/summary.json",
        runs[0].as_ref().unwrap().file_name().display()
    );
    let summary: serde_json::Value = serde_json::from_str(&bench.read(&named)).unwrap();
    assert_eq!(summary["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(summary["outcomes"]["updated"], 300);
}

#[test]
fn another_organization_runs_the_same_input_itself() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    api.sandbox.set_identity("another", None);
    api.sandbox
        .edit("id1", |member| member.first_name = "First".to_owned());
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "A");
    assert_eq!(std::fs::read_dir(bench.path("runs")).unwrap().count(), 2);
}

/// A scheduler may start a job while the one before it is still running.
#[test]
fn of_two_starts_at_once_one_runs() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    let api = api.faults(Faults {
        latency: Duration::from_millis(50),
        ..Faults::default()
    });
    bench.write("feed.csv", many(60));
    let url = api.sandbox.url();
    let line = [
        "update",
        "feed.csv",
        "--base-url",
        &url,
        "--auto-resume",
        "--rate",
        "0",
        "--yes",
    ];
    let children: Vec<_> = (0..4).map(|_| bench.start(&line)).collect();
    let mut codes: Vec<_> = (children.into_iter())
        .map(|child| child.wait_with_output().unwrap().status.code().unwrap())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 5, 5, 5]);
    assert_eq!(updates(&api), 60);
    assert_eq!(std::fs::read_dir(bench.path("runs")).unwrap().count(), 1);
}

#[test]
fn standard_input_can_not_be_recognized() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let url = api.sandbox.url();
    bench
        .run(&["update", "-", "--base-url", &url, "--auto-resume"])
        .exits(2)
        .says("write it into a file");
}
