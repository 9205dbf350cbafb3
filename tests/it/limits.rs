//! Limits and stop triggers: what keeps a run from starting, and what keeps a row from being sent.

use sigma_bulk::sandbox::{Config, Endpoint, Faults, Population};

use crate::harness::{Api, Bench, user};

const THREE: &str = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n";

#[test]
fn max_changes_stops_a_larger_run_before_it_starts() {
    for mode in ["directory", "each"] {
        let (api, bench) = (Api::with_users(4), Bench::new());
        bench
            .update(&api, THREE, &["--max-changes", "2", "--lookup", mode])
            .exits(2)
            .says("3 members would be changed");
        bench
            .update(&api, THREE, &["--max-changes", "50%", "--lookup", mode])
            .exits(2);
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
        assert!(!bench.path("run").exists());
        bench
            .update(&api, THREE, &["--max-changes", "3", "--lookup", mode])
            .exits(0);
        // Members that already have the wanted values do not count.
        let bench = Bench::new();
        bench
            .update(&api, THREE, &["--max-changes", "0", "--lookup", mode])
            .exits(0);
    }
}

#[test]
fn limit_takes_only_the_first_rows() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.update(&api, THREE, &["--limit", "2"]).exits(0);
    assert_eq!(bench.outcomes(), ["updated", "updated"]);
    assert_eq!(bench.summary()["rows"], 2);
    assert_eq!(api.member("user3@x.org").first_name, "First");
}

#[test]
fn protected_members_are_not_changed() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("c.toml", "protected = [\"USER2@x.org\", \"user9@x.org\"]\n");
    bench.update(&api, THREE, &["--config", "c.toml"]).exits(1);
    assert_eq!(bench.outcomes(), ["updated", "invalid", "updated"]);
    assert!(bench.results()[1]["Message"].contains("protected"));
}

#[test]
fn the_credentials_own_user_is_not_archived() {
    let own = sigma_bulk::sandbox::OWN_MEMBER_ID;
    let api = || {
        let me = sigma_bulk::sandbox::Member {
            member_id: own.to_owned(),
            email: sigma_bulk::sandbox::OWN_EMAIL.to_owned(),
            ..user(1)
        };
        Api::with([me, user(2)])
    };
    let csv = "Email,First Name,isArchived\nadmin@example.com,Me,true\nuser2@x.org,B,true\n";
    let (one, bench) = (api(), Bench::new());
    bench.update(&one, csv, &[]).exits(1);
    assert_eq!(bench.outcomes(), ["invalid", "updated"]);
    assert!(bench.results()[0]["Message"].contains("--allow-self"));
    let (two, bench) = (api(), Bench::new());
    bench.update(&two, csv, &["--allow-self", "--concurrency", "1"]);
    assert_eq!(bench.outcomes()[0], "updated");
}

/// A successful canary is read back and the run continues. A stopped run can be resumed.
#[test]
fn failed_canary_stops_the_run() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.update(&api, THREE, &["--canary", "2"]).exits(0);
    assert_eq!(
        api.stats().requests_to(Endpoint::GetMember),
        1 + 2,
        "both canary rows were read back, after the user of the credentials"
    );

    let faults = Faults {
        forced: Some(403),
        max_faults: Some(1),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(3).faults(faults), Bench::new());
    bench
        .update(&api, THREE, &["--canary", "1", "--concurrency", "2"])
        .exits(4);
    assert_eq!(
        bench.outcomes(),
        ["failed", "not_attempted", "not_attempted"]
    );
    assert_eq!(bench.summary()["stop"], "failure_limit");
    bench.resume(&[]).exits(1);
    assert_eq!(bench.outcomes(), ["failed", "updated", "updated"]);
}

/// Below 100 rows, a percentage in `--max-failures` would stop a run after very few failures.
#[test]
fn failure_percentage_applies_from_100_rows() {
    let rows = |good: usize| -> String {
        let good: String = (1..=good).map(|n| format!("user{n}@x.org,A\n")).collect();
        let bad: String = (1..=20).map(|n| format!("nobody{n}@x.org,A\n")).collect();
        format!("Email,First Name\n{bad}{good}")
    };
    let (api, bench) = (Api::with_users(200), Bench::new());
    bench
        .update(&api, rows(50), &["--max-failures", "5%"])
        .exits(1);
    let (again, bench) = (Api::with_users(200), Bench::new());
    bench
        .update(
            &again,
            rows(200),
            &["--max-failures", "5%", "--concurrency", "1"],
        )
        .exits(4);
    assert!(bench.check_files()["not_attempted"] >= 100);
    drop(api);
}

#[test]
fn closed_output_pipe_stops_the_run_cleanly() {
    let faults = Faults {
        latency: std::time::Duration::from_millis(30),
        ..Faults::default()
    };
    let api = Api::start(Config {
        population: Population::Members((1..=200).map(user).collect()),
        faults,
        ..Config::default()
    });
    let bench = Bench::new();
    let rows: String = (1..=200).map(|n| format!("user{n}@x.org,A\n")).collect();
    bench.write("input.csv", format!("Email,First Name\n{rows}"));
    let url = api.sandbox.url();
    let mut child = bench
        .command()
        .args(bench.update_words(&url, &["-v", "--concurrency", "2"]))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    api.wait_until(|stats| stats.applied >= 4);
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(129));
    let counts = bench.check_files();
    assert!(
        counts["not_attempted"] > 0 && !counts.contains_key("unknown"),
        "{counts:?}"
    );
}

/// With `--send-unchanged`, a canary row may send values that the member already has.
#[test]
fn canary_accepts_unchanged_values_when_sent() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,First\nuser2@x.org,First\nuser3@x.org,C\n";
    bench
        .update(&api, csv, &["--send-unchanged", "--canary", "1"])
        .exits(0);
    assert_eq!(bench.outcomes(), ["updated", "updated", "updated"]);
}

/// Some errors only show in the API's data: an unknown owner, two matching members, archiving oneself.
#[test]
fn strict_reports_api_side_errors_in_all_modes() {
    let wrong = [
        "user1@x.org,,,A\nuser2@x.org,true,nobody@x.org,\n",
        "user1@x.org,,,A\nTwin@X.org,,,B\n",
        "user1@x.org,,,A\nadmin@example.com,true,,\n",
    ];
    let members = || {
        let named = |id: &str, email: &str| sigma_bulk::sandbox::Member {
            member_id: id.to_owned(),
            email: email.to_owned(),
            ..user(1)
        };
        let own = named(
            sigma_bulk::sandbox::OWN_MEMBER_ID,
            sigma_bulk::sandbox::OWN_EMAIL,
        );
        let twins = [named("t1", "twin@x.org"), named("t2", "TWIN@x.org")];
        [own, user(1), user(2)].into_iter().chain(twins)
    };
    for mode in ["directory", "each", "auto"] {
        for rows in wrong {
            let (api, bench) = (Api::with(members()), Bench::new());
            let csv = format!("Email,isArchived,newOwner,First Name\n{rows}");
            bench
                .update(&api, &csv, &["--strict", "--lookup", mode])
                .exits(2)
                .says("line 3");
            assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
        }
    }
}

#[test]
fn good_canary_rows_are_updated_when_one_fails() {
    let faults = Faults {
        forced: Some(400),
        max_faults: Some(1),
        latency: std::time::Duration::from_millis(300),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(6).faults(faults), Bench::new());
    let rows: String = (1..=6).map(|n| format!("user{n}@x.org,A\n")).collect();
    let csv = format!("Email,First Name\n{rows}");
    let ran = bench.update(&api, &csv, &["--canary", "3"]).exits(4);
    let mut outcomes = bench.outcomes();
    outcomes.sort();
    let not_attempted = ["not_attempted"; 3];
    let expected = ["failed"].into_iter().chain(not_attempted);
    let expected: Vec<&str> = expected.chain(["updated"; 2]).collect();
    assert_eq!(outcomes, expected);
    assert_eq!(
        ran.stderr.matches("a canary row").count(),
        1,
        "{}",
        ran.stderr
    );
}

/// `SIGMA_BULK_LIMIT` in the environment must not leave an undo incomplete.
#[test]
fn undo_ignores_limits_for_updates() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.update(&api, THREE, &[]).exits(0);
    let mut command = bench.command();
    command.env("SIGMA_BULK_LIMIT", "1");
    command.args(["undo", "run", "--rate", "0", "--run-dir", "undo"]);
    crate::harness::Ran::of(command.output().unwrap(), &bench).exits(0);
    assert_eq!(api.member("user3@x.org").first_name, "First");
    bench
        .run(&["undo", "run", "--csv", "other.csv"])
        .exits(2)
        .says("--csv");
}
