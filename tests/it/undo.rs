//! Undo restores everything that a run changed, except what somebody else has changed since.

use sigma_bulk::sandbox::{Endpoint, Faults, Member};

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
