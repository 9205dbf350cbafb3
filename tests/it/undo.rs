//! Undo restores everything that a run changed, except what somebody else has changed since.

use std::time::Duration;

use sigma_bulk::sandbox::{Config, Endpoint, Faults, Member, Population};

use crate::harness::{Api, Bench, user};

/// Changes all kinds of fields, with a chain of renames and two rows of one member.
const CSV: &str = "Email,First Name,Last Name,New Email,Member Type,isArchived\n\
                   user1@x.org,A,,user2@x.org,,\n\
                   user2@x.org,,B,user3@x.org,Creator,\n\
                   user3@x.org,,,free@x.org,,true\n\
                   user4@x.org,D,,,,\n\
                   user4@x.org,,E,,,\n\
                   nobody@x.org,F,,,,\n";

fn changed() -> (Api, Bench) {
    let (api, bench) = (Api::with_users(5), Bench::new());
    bench.update(&api, CSV, &[]).exits(1);
    (api, bench)
}

#[test]
fn undo_restores_everything_and_can_be_undone() {
    let before = Api::with_users(5).state();
    let (api, bench) = changed();
    let after = api.state();
    assert_ne!(before, after);
    bench.undo(&[]).exits(0);
    assert_eq!(api.state(), before);
    bench
        .run(&["undo", "undo", "--rate", "0", "--run-dir", "redo"])
        .exits(0);
    assert_eq!(api.state(), after);
}

#[test]
fn undo_csv_restores_everything_as_an_input() {
    let before = Api::with_users(5).state();
    let (api, bench) = changed();
    let url = api.sandbox.url();
    bench
        .run(&[
            "update",
            "run/undo.csv",
            "--base-url",
            &url,
            "--rate",
            "0",
            "--run-dir",
            "back",
        ])
        .exits(0);
    assert_eq!(api.state(), before);
}

#[test]
fn dry_run_of_an_undo_sends_no_changes() {
    let (api, bench) = changed();
    let (after, sent) = (api.state(), api.stats().requests_to(Endpoint::UpdateMember));
    let ran = bench
        .run(&[
            "undo",
            "run",
            "--rate",
            "0",
            "--dry-run",
            "--run-dir",
            "dry",
        ])
        .exits(0);
    assert!(ran.stdout.contains("5 to change"), "{}", ran.stdout);
    assert_eq!(
        (api.state(), api.stats().requests_to(Endpoint::UpdateMember)),
        (after, sent)
    );
}

/// A value that somebody else changed after the run is a conflict. Rows are undone newest first.
#[test]
fn undo_keeps_later_changes_by_others() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench
        .update(
            &api,
            "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n",
            &[],
        )
        .exits(0);
    api.sandbox
        .edit("id1", |member| member.first_name = "Somebody".to_owned())
        .unwrap();
    api.sandbox
        .edit("id3", |member| member.first_name = "First".to_owned())
        .unwrap();
    bench.undo(&["--concurrency", "1"]).exits(1);
    let outcomes: Vec<(String, String)> = crate::harness::lines(&bench.path("undo/results.csv"))
        .into_iter()
        .map(|line| (line["Email"].clone(), line["Outcome"].clone()))
        .collect();
    let expected = [
        ("user3@x.org", "unchanged"),
        ("user2@x.org", "updated"),
        ("user1@x.org", "conflict"),
    ];
    assert_eq!(
        outcomes,
        expected.map(|(a, b)| (a.to_owned(), b.to_owned())),
        "newest first"
    );
    assert_eq!(api.member("user1@x.org").first_name, "Somebody");
    assert_eq!(api.member("user2@x.org").first_name, "First");
}

/// undo.csv cannot do this, because a blank cell means no change.
#[test]
fn undo_restores_a_blank_value() {
    let api = Api::with([Member {
        last_name: String::new(),
        ..user(1)
    }]);
    let bench = Bench::new();
    bench
        .update(&api, "Email,Last Name\nuser1@x.org,New\n", &[])
        .exits(0);
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").last_name, "");
}

#[test]
fn dry_run_cannot_be_undone() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &["--dry-run"])
        .exits(0);
    bench.run(&["undo", "run"]).exits(2).says("dry run");
}

/// The member still has its old email, so undo.csv must not name it by the new one.
#[test]
fn undo_csv_keeps_the_email_of_a_failed_rename() {
    let faults = Faults {
        fail_before: 1.0,
        fail_status: 409,
        max_faults: Some(1),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    let csv = "Email,New Email,First Name\nuser1@x.org,new@x.org,\nuser1@x.org,,Zed\n";
    bench.update(&api, csv, &["--concurrency", "1"]).exits(1);
    assert_eq!(bench.outcomes(), ["failed", "updated"]);
    bench.check_files();
    let undo = crate::harness::lines(&bench.path("run/undo.csv"));
    assert_eq!(undo.len(), 1);
    assert_eq!(undo[0]["Email"], "user1@x.org");
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// An undo changes every member it lists. A `--max-changes` count still applies.
#[test]
fn undo_ignores_a_percentage_in_max_changes() {
    let (api, bench) = changed();
    bench.write("c.toml", "max-changes = \"10%\"\n");
    bench.undo(&["--config", "c.toml"]).exits(0);
    assert_eq!(api.state(), Api::with_users(5).state());
    let mut redo = vec!["undo", "undo", "--rate", "0", "--run-dir", "redo"];
    redo.extend(["--max-changes", "1"]);
    bench.run(&redo).exits(2).says("members would be changed");
}

/// A question that was answered once must be asked again for another run, and a secret must not be shown.
#[test]
fn suggested_commands_repeat_settings_but_not_yes_or_secrets() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("c.toml", "canary = 1\n[profile.p]\n");
    let csv = "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\n";
    let flags = [
        "-y",
        "--client-secret",
        crate::harness::SECRET,
        "--max-failures=50%",
        "--config",
        "c.toml",
        "--profile",
        "p",
    ];
    let ran = bench.update(&api, csv, &flags).exits(1);
    let url = api.sandbox.url();
    let next = format!(
        "sigma-bulk update run/failed.csv --base-url {url} --rate 0 --retries 1 --max-failures 50% --config c.toml --profile p\n"
    );
    assert!(ran.stdout.contains(&next), "{}", ran.stdout);
    let dry = [&flags[..], &["-n", "--run-dir", "dry"]].concat();
    let ran = bench.update(&api, csv, &dry).exits(1);
    assert!(!ran.stdout.contains("-y"), "{}", ran.stdout);
}

/// `SIGMA_BULK_RUN_DIR` would otherwise point the suggested command at the directory of the finished run.
#[test]
fn suggested_commands_name_their_own_run_directory() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let url = api.sandbox.url();
    let run = |csv: &str, dir: &str| {
        bench.write("input.csv", csv);
        let mut command = bench.command();
        command.env("SIGMA_BULK_RUN_DIR", dir);
        command.args(["update", "input.csv", "--rate", "0", "--base-url", &url]);
        crate::harness::Ran::of(command.output().unwrap(), &bench).stdout
    };
    let shown = run("Email,First Name\nuser1@x.org,A\n", "one");
    assert!(
        shown.contains("sigma-bulk undo one --run-dir one-undo"),
        "{shown}"
    );
    let shown = run("Email,First Name\nnobody@x.org,A\n", "two");
    assert!(
        shown.contains("two/failed.csv") && shown.contains("--run-dir two-corrected"),
        "{shown}"
    );
}

/// Somebody changes a member while the undo, or the plan that is applied, is on its way to it.
#[test]
fn change_during_an_undo_or_apply_is_a_conflict() {
    let csv = format!(
        "Email,First Name\n{}",
        (1..=20)
            .map(|n| format!("user{n}@x.org,New\n"))
            .collect::<String>()
    );
    for command in ["undo", "apply"] {
        let (api, bench) = (Api::with_users(20), Bench::new());
        // An undo goes from the last row to the first, and a plan from the first to the last.
        let (words, last) = if command == "undo" {
            bench.update(&api, &csv, &[]).exits(0);
            (["undo", "run"], "id1")
        } else {
            bench
                .update(&api, &csv, &["--dry-run", "--save-plan", "plan.jsonl"])
                .exits(0);
            (["apply", "plan.jsonl"], "id20")
        };
        api.sandbox.set_faults(Faults {
            latency: Duration::from_millis(50),
            ..Faults::default()
        });
        let sent = api.stats().requests_to(Endpoint::UpdateMember);
        let flags = ["--run-dir", "second", "--concurrency", "1", "--rate", "0"];
        let child = bench.start(&[&words[..], &flags].concat());
        api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > sent);
        api.sandbox
            .edit(last, |member| member.first_name = "Colleague".to_owned())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        let member = api.sandbox.member(last).unwrap();
        assert_eq!(member.first_name, "Colleague", "{command}");
        let results = crate::harness::lines(&bench.path("second/results.csv"));
        let outcomes = |name: &str| {
            results
                .iter()
                .filter(|line| line["Outcome"] == name)
                .count()
        };
        assert_eq!(
            (outcomes("conflict"), outcomes("updated")),
            (1, 19),
            "{command}"
        );
    }
}

/// A listing that is behind shows the values before the run.
#[test]
fn undo_does_not_believe_a_listing_that_lags() {
    let before = Api::with_users(5).state();
    let (api, bench) = changed();
    api.sandbox.set_faults(Faults {
        listing_lag: Duration::from_secs(3600),
        ..Faults::default()
    });
    bench.undo(&["--lookup", "directory"]).exits(0);
    assert_eq!(api.state(), before);
}

/// An organization that does not let members be read by id is asked for them by email.
#[test]
fn undo_works_where_members_are_not_read_by_id() {
    for status in [403, 404, 405] {
        let before = Api::with_users(5).state();
        let (api, bench) = changed();
        api.sandbox.set_faults(Faults {
            fail_before: 1.0,
            fail_status: status,
            only: Some(vec![Endpoint::GetMember]),
            ..Faults::default()
        });
        bench.undo(&[]).exits(0);
        assert_eq!(api.state(), before, "{status}");
    }
}

/// The API shows a blank as `null`, or not at all.
#[test]
fn undo_to_a_blank_is_right_where_the_api_shows_null() {
    let mut nameless = user(1);
    nameless.first_name = String::new();
    let api = Api::start(Config {
        population: Population::Members(vec![nameless]),
        shows_blank_as_null: true,
        ..Config::default()
    });
    let bench = Bench::new();
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
    bench.undo(&["--canary", "1"]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "");
}
