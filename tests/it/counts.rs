//! The counts before a run, the preview and the run itself come from the same decisions, so that they agree.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Api, Bench, Line, user};

const MEMBERS: usize = 6;

/// A cell of each column, so that every kind of decision occurs: members that exist and that do not, values that differ
/// and that do not, bad values, new owners, and renames to free emails.
fn row() -> impl Strategy<Value = String> {
    let email = prop_oneof![
        8 => (1..=MEMBERS).prop_map(|n| format!("user{n}@x.org")),
        1 => (1..=MEMBERS).prop_map(|n| format!("USER{n}@x.org")),
        1 => Just("nobody@x.org".to_owned()),
        1 => Just(String::new()),
    ];
    let first = prop_oneof![Just(""), Just("First"), Just("A"), Just("B"),];
    let kind = prop_oneof![Just(""), Just("viewer"), Just("Creator"), Just("Unknown")];
    let archived =
        prop_oneof![6 => Just(""), 1 => Just("true"), 1 => Just("false"), 1 => Just("yes")];
    let owner = prop_oneof![
        6 => Just(""),
        1 => Just("user1@x.org"),
        1 => Just("nobody@x.org"),
    ];
    (email, first, kind, archived, owner).prop_map(|(email, first, kind, archived, owner)| {
        format!("{email},{first},{kind},{archived},{owner}\n")
    })
}

fn api() -> Api {
    Api::with((1..=MEMBERS).map(user))
}

/// The numbers of the rows with these outcomes.
fn rows_with<'l>(lines: &'l [Line], outcomes: &[&str]) -> Vec<&'l str> {
    let with = lines
        .iter()
        .filter(|line| outcomes.contains(&line["Outcome"].as_str()));
    with.map(|line| line["Row"].as_str()).collect()
}

#[test]
fn preview_question_and_run_agree_on_any_file() {
    let mut runner = TestRunner::new(Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    });
    let files = prop::collection::vec(row(), 1..12);
    let modes = prop_oneof![Just("directory"), Just("each"), Just("auto")];
    runner
        .run(&(files, modes), |(rows, mode)| {
            let csv = format!(
                "Email,First Name,Member Type,isArchived,newOwner\n{}",
                rows.concat()
            );
            let lookup = ["--lookup", mode];
            let preview = Bench::new();
            preview.update(&api(), &csv, &[&lookup[..], &["--dry-run"]].concat());
            let previewed = preview.results();

            // The run does what the dry run showed.
            let (real, real_api) = (Bench::new(), api());
            real.update(&real_api, &csv, &lookup);
            let done = real.results();
            for (previewed, done) in previewed.iter().zip(&done) {
                let expected = previewed["Outcome"].replace("would_update", "updated");
                prop_assert_eq!(&done["Outcome"], &expected, "{} {:?}", csv, done);
                prop_assert_eq!(&done["Changes"], &previewed["Changes"], "{}", csv);
            }

            // --max-changes counts the members whom the dry run would change.
            let members: BTreeSet<&str> = previewed
                .iter()
                .filter(|line| line["Outcome"] == "would_update")
                .map(|line| line["Member ID"].as_str())
                .collect();
            let counted = Bench::new();
            let ran = counted.update(
                &api(),
                &csv,
                &[&lookup[..], &["--max-changes", "0"]].concat(),
            );
            let noun = if members.len() == 1 {
                "member"
            } else {
                "members"
            };
            let says = format!("{} {noun} would be changed", members.len());
            prop_assert_eq!(ran.code == Some(2), !members.is_empty(), "{}", ran.stderr);
            prop_assert!(
                members.is_empty() || ran.stderr.contains(&says),
                "{}",
                ran.stderr
            );

            // --strict refuses the rows that the dry run calls invalid. Those that the file alone shows come first.
            let strict = Bench::new();
            let ran = strict.update(&api(), &csv, &[&lookup[..], &["--strict"]].concat());
            let invalid = rows_with(&previewed, &["invalid"]);
            prop_assert_eq!(ran.code == Some(2), !invalid.is_empty(), "{}", ran.stderr);
            let listed: Vec<&str> = ran
                .stderr
                .lines()
                .filter_map(|line| line.strip_prefix("  line ")?.split_once(':'))
                .map(|(line, _)| line)
                .collect();
            for line in &previewed {
                let is_listed = listed.contains(&line["Line"].as_str());
                prop_assert!(!is_listed || line["Outcome"] == "invalid", "{}", ran.stderr);
            }
            Ok(())
        })
        .unwrap();
}

/// The plan has two rows, one of which has become a conflict, so that only one member would change.
#[test]
fn a_conflict_of_a_plan_is_not_counted_as_a_change() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\n";
    bench
        .update(&api, csv, &["--dry-run", "--save-plan", "plan.jsonl"])
        .exits(0);
    api.sandbox
        .edit("id1", |member| member.first_name = "Other".to_owned())
        .unwrap();
    let apply = ["apply", "plan.jsonl", "--rate", "0", "--run-dir", "applied"];
    bench
        .run(&[&apply[..], &["--max-changes", "0"]].concat())
        .exits(2)
        .says("1 member would be changed");
    bench
        .run(&[&apply[..], &["--max-changes", "1"]].concat())
        .exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "Other");
    assert_eq!(api.member("user2@x.org").first_name, "B");
}

#[test]
fn strict_lists_each_invalid_row_once() {
    let csv = "Email,Member Type\nuser1@x.org,Nope\nuser2@x.org,Viewer\nuser3@x.org,Never\n";
    for mode in ["directory", "each"] {
        let (api, bench) = (Api::with_users(3), Bench::new());
        let ran = bench
            .update(&api, csv, &["--strict", "--lookup", mode])
            .exits(2)
            .says("2 rows are invalid, and --strict is set: nothing was sent");
        for line in ["line 2: Member Type", "line 4: Member Type"] {
            assert_eq!(ran.stderr.matches(line).count(), 1, "{}", ran.stderr);
        }
    }
}

/// An update that only a re-read confirms is known to the next row of the same member.
#[test]
fn a_confirmed_update_is_known_to_the_next_row() {
    use sigma_bulk::sandbox::{Endpoint, Faults};
    let faults = Faults {
        fail_after: 1.0,
        max_faults: Some(1),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser1@x.org,A\n";
    bench.update(&api, csv, &["--retries", "0"]).exits(0);
    assert_eq!(bench.outcomes(), ["updated", "unchanged"]);
}
