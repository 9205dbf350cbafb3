//! Put back: everything that a run changed, and nothing that somebody else has changed since.

use sigma_bulk::sandbox::{Endpoint, Member};

use crate::harness::{Api, Bench, user};

/// A run that changes all kinds of fields, with a chain of renames and two rows of one member.
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
fn an_undo_puts_everything_back_and_an_undo_of_it_does_it_again() {
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
fn undo_csv_does_the_same_as_a_plain_input() {
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
fn a_dry_undo_shows_and_sends_nothing() {
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

#[test]
fn what_somebody_else_has_changed_since_is_a_conflict_and_left_alone() {
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

#[test]
fn a_value_that_was_blank_is_put_back_by_the_command() {
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
fn a_dry_run_can_not_be_undone() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &["--dry-run"])
        .exits(0);
    bench.run(&["undo", "run"]).exits(2).says("dry run");
}

#[test]
fn a_rename_that_was_refused_leaves_the_member_its_email_in_undo_csv() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,New Email,First Name\nuser1@x.org,user2@x.org,\nuser1@x.org,,Zed\n";
    bench.update(&api, csv, &["--concurrency", "1"]).exits(1);
    assert_eq!(bench.outcomes(), ["failed", "updated"]);
    bench.check_files();
    let undo = crate::harness::lines(&bench.path("run/undo.csv"));
    assert_eq!(undo.len(), 1);
    assert_eq!(undo[0]["Email"], "user1@x.org");
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

#[test]
fn a_share_of_changes_is_no_brake_for_an_undo() {
    let (api, bench) = changed();
    bench.write("c.toml", "max-changes = \"10%\"\n");
    bench.undo(&["--config", "c.toml"]).exits(0);
    assert_eq!(api.state(), Api::with_users(5).state());
    let mut redo = vec!["undo", "undo", "--rate", "0", "--run-dir", "redo"];
    redo.extend(["--max-changes", "1"]);
    bench.run(&redo).exits(2).says("members would be changed");
}

#[test]
fn a_run_directory_that_the_environment_names_is_not_that_of_the_next_command() {
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
        shown.contains("two/failed.csv") && shown.contains("--run-dir two-mended"),
        "{shown}"
    );
}
