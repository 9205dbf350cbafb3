//! Who the credentials belong to, and to which organization a run or a plan is bound.

use std::time::Duration;

use sigma_bulk::sandbox::{Config, Endpoint, Faults, Population};

use crate::harness::{Api, Bench, many, user};

const OWN: &str = "the-own-organization";
const OTHER: &str = "another-organization";

/// An API that answers whoami with this status.
fn api(whoami_status: Option<u16>) -> Api {
    Api::start(Config {
        population: Population::Members((1..=10).map(user).collect()),
        organization_id: OWN.to_owned(),
        whoami_status,
        ..Config::default()
    })
}

/// A run that is bound to the own organization and has rows left.
fn stopped(api: &Api) -> Bench {
    let bench = Bench::new();
    let csv = "Email,First Name\nnobody@x.org,A\nuser1@x.org,B\n";
    let flags = ["--max-failures", "1", "--concurrency", "1"];
    bench.update(api, csv, &flags).exits(4);
    bench
}

/// Whoami says nothing, but each member names its organization.
#[test]
fn organization_is_told_by_any_member_where_whoami_is_silent() {
    for status in [403, 404] {
        let api = api(Some(status));
        let bench = stopped(&api);
        assert!(bench.read("run/journal.jsonl").contains(OWN));
        api.sandbox.set_identity(OTHER, Some(status));
        bench.resume(&[]).exits(2).says(OTHER);
        api.sandbox.set_identity(OWN, Some(status));
        bench.resume(&["--max-failures", "9"]).exits(1);
    }
}

/// A run or a plan that is bound is not continued where nobody says whose organization it is.
#[test]
fn bound_run_or_plan_that_cannot_be_verified_is_refused() {
    let api = api(None);
    let bench = stopped(&api);
    bench
        .run(&[
            "update",
            "input.csv",
            "--dry-run",
            "--save-plan",
            "plan.jsonl",
            "--base-url",
            &api.sandbox.url(),
            "--run-dir",
            "dry",
        ])
        .exits(1);
    api.sandbox.set_identity(OTHER, Some(403));
    api.sandbox.set_faults(Faults {
        fail_before: 1.0,
        fail_status: 403,
        only: Some(vec![Endpoint::ListMembers]),
        ..Faults::default()
    });
    let sent = api.stats().requests_to(Endpoint::UpdateMember);
    for words in [
        &["resume", "run"][..],
        &["undo", "run"],
        &["apply", "plan.jsonl"],
    ] {
        bench.run(words).exits(2).says("does not say to which one");
    }
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), sent);
}

/// A page of a proxy is not what the API says about whoami.
#[test]
fn html_in_place_of_whoami_is_no_answer() {
    for status in [403, 404] {
        let api = api(None);
        api.sandbox.set_faults(Faults {
            html: 1.0,
            html_status: status,
            only: Some(vec![Endpoint::Whoami]),
            ..Faults::default()
        });
        let bench = Bench::new();
        bench.update(&api, many(2), &[]).exits(3).says("HTML page");
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
    }
}

/// One API has one lock, however its address is written.
#[test]
fn names_of_one_server_share_a_lock() {
    let api = Api::with_users(100).faults(Faults {
        latency: Duration::from_millis(200),
        ..Faults::default()
    });
    let bench = Bench::new();
    bench.write("input.csv", many(100));
    let url = api.sandbox.url();
    let mut child = bench.start(&bench.update_words(&url, &["--concurrency", "1"]));
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > 0);
    let localhost = url.replace("127.0.0.1", "localhost");
    bench
        .run(&[
            "update",
            "input.csv",
            "--base-url",
            &localhost,
            "--run-dir",
            "other",
        ])
        .exits(5);
    child.kill().unwrap();
    child.wait().unwrap();
}
