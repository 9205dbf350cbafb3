//! Previews, saved plans, and applying them.

use sigma_bulk::sandbox::Endpoint;

use crate::harness::{Api, Bench, many};

const CSV: &str = "Email,First Name,Member Type,isArchived\n\
                   user1@x.org,Anna,Creator,\n\
                   user2@x.org,First,viewer,false\n\
                   user3@x.org,,,true\n\
                   user4@x.org,,Wizard,\n\
                   nobody@x.org,X,,\n";

#[test]
fn dry_run_only_reads_and_shows_the_changes() {
    let (api, bench) = (Api::with_users(4), Bench::new());
    let ran = bench
        .update(&api, CSV, &["--dry-run", "--no-progress"])
        .exits(1);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"in \d+\.\d s", "in [time] s");
    settings.add_filter(r"http://127\.0\.0\.1:\d+", "[url]");
    settings.bind(|| insta::assert_snapshot!(ran.stdout));
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
    assert_eq!(
        bench.outcomes(),
        [
            "would_update",
            "unchanged",
            "would_update",
            "invalid",
            "not_found"
        ]
    );
    let summary = bench.summary();
    assert_eq!(
        (&summary["dry_run"], &summary["outcomes"]["would_update"]),
        (&true.into(), &2.into())
    );
    let changes = &bench.results()[0]["Changes"];
    assert_eq!(
        changes,
        "First Name: First → Anna; Member Type: Viewer → Creator"
    );
}

#[test]
fn dry_run_prints_20_members_and_saves_all() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    let rows: String = (1..=60).map(|n| format!("user{n}@x.org,A\n")).collect();
    let ran = bench
        .update(&api, format!("Email,First Name\n{rows}"), &["--dry-run"])
        .exits(0);
    assert_eq!(ran.stdout.matches("First Name").count(), 20);
    assert!(
        ran.stdout.contains("… and 40 members more, in results.csv"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("60 to change"), "{}", ran.stdout);
    assert_eq!(bench.results().len(), 60);
}

/// `apply` needs only the plan file. It skips a member that changed after the preview.
#[test]
fn apply_follows_the_plan_and_reports_conflicts() {
    let (api, bench) = (Api::with_users(4), Bench::new());
    bench
        .update(&api, CSV, &["--dry-run", "--save-plan", "plan.jsonl"])
        .exits(1);
    api.sandbox
        .edit("id3", |member| member.is_inactive = true)
        .unwrap();
    api.sandbox
        .edit("id1", |member| member.first_name = "Somebody".to_owned())
        .unwrap();
    // `apply` needs only the plan: neither the input file nor the host.
    std::fs::remove_file(bench.path("input.csv")).unwrap();
    bench
        .run(&["apply", "plan.jsonl", "--rate", "0", "--run-dir", "applied"])
        .exits(1);
    let results = crate::harness::lines(&bench.path("applied/results.csv"));
    let outcomes: Vec<&str> = results
        .iter()
        .map(|line| line["Outcome"].as_str())
        .collect();
    assert_eq!(outcomes, ["conflict", "updated"]);
    assert_eq!(results[1]["Line"], "4", "the line of the previewed input");
    let (one, three) = (api.member("user1@x.org"), api.member("user3@x.org"));
    assert_eq!(
        (one.first_name.as_str(), one.member_type.as_str()),
        ("Somebody", "Viewer"),
        "no part of the conflicting row was sent"
    );
    assert!(three.is_archived);
}

/// A plan belongs to the file that was previewed, however that is written.
#[test]
fn plan_of_a_changed_file_is_refused() {
    let utf16 = |text: &str| -> Vec<u8> {
        let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| c as u8).collect() };
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    for kind in ["plain", "marked", "utf16", "latin"] {
        let encode = |text: &str| match kind {
            "plain" => text.as_bytes().to_vec(),
            "marked" => marked(text),
            "utf16" => utf16(text),
            _ => latin(text),
        };
        let flags: &[&str] = match kind {
            "latin" => &["--encoding", "windows-1252"],
            _ => &[],
        };
        let (api, bench) = (Api::with_users(2), Bench::new());
        let csv = "Email;First Name\nuser1@x.org;J\u{f6}rg\n";
        let plan = ["--dry-run", "--save-plan", "plan.jsonl"];
        bench
            .update(&api, encode(csv), &[&plan, flags].concat())
            .exits(0);
        bench.write("input.csv", encode(&csv.replace('J', "G")));
        bench
            .run(&["apply", "plan.jsonl", "--rate", "0"])
            .exits(2)
            .says("input.csv is no longer the file from which the plan was made");
        assert_eq!(api.member("user1@x.org").first_name, "First");
        bench.write("input.csv", encode(csv));
        bench.run(&["apply", "plan.jsonl", "--rate", "0"]).exits(0);
        assert_eq!(api.member("user1@x.org").first_name, "J\u{f6}rg");
        bench.write("input.csv", "another file");
        bench
            .run(&["apply", "plan.jsonl", "--rate", "0", "--force"])
            .exits(0);
    }
}

/// The plan file has mode 0600. `apply` rejects another organization, another host and a damaged file.
#[test]
fn plan_is_private_and_bound_to_its_organization() {
    let (api, bench) = (Api::with_users(4), Bench::new());
    bench
        .update(&api, CSV, &["--dry-run", "--save-plan", "plan.jsonl"])
        .exits(1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(bench.path("plan.jsonl"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let plan = bench.read("plan.jsonl");
    api.sandbox.set_identity("another-one", None);
    bench
        .run(&["apply", "plan.jsonl", "--run-dir", "a"])
        .exits(2)
        .says("another-one");
    bench
        .run(&[
            "apply",
            "plan.jsonl",
            "--run-dir",
            "a",
            "--base-url",
            "https://example.com",
        ])
        .exits(2);
    bench.write("broken.jsonl", plan.replace("\"changes\"", "\"chances\""));
    bench
        .run(&["apply", "broken.jsonl", "--run-dir", "a"])
        .exits(2)
        .says("line 2");
    bench
        .run(&["apply", "run/results.csv", "--run-dir", "a"])
        .exits(2)
        .says("not a plan");
    assert!(!bench.path("a").exists());
    bench
        .run(&["update", "input.csv", "--save-plan", "x", "--cloud", "gcp"])
        .exits(2)
        .says("--dry-run");
}

#[test]
fn save_plan_overwrites_only_plan_files() {
    let (api, bench) = (Api::with_users(4), Bench::new());
    let save = |plan: &str, dir: &str| {
        bench.update(
            &api,
            CSV,
            &["--dry-run", "--save-plan", plan, "--run-dir", dir],
        )
    };
    save("input.csv", "a").exits(2).says("not a plan");
    assert_eq!(bench.read("input.csv"), CSV);
    save("plan.jsonl", "b").exits(1);
    save("plan.jsonl", "c").exits(2).says("--force");
    let more = ["--dry-run", "--save-plan", "plan.jsonl", "--force"];
    bench.update(&api, CSV, &more).exits(1);
}

/// Each further row of a member is compared with the values that the earlier rows would leave.
#[test]
fn repeated_rows_preview_on_top_of_earlier_ones() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv = "Email,First Name,Last Name\nuser1@x.org,A,\nuser1@x.org,A,\nuser1@x.org,,B\n";
    bench.update(&api, csv, &["--dry-run"]).exits(0);
    assert_eq!(
        bench.outcomes(),
        ["would_update", "unchanged", "would_update"]
    );
}

#[test]
fn truncated_plan_is_rejected() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n";
    let more = ["--dry-run", "--save-plan", "whole.plan"];
    bench.update(&api, csv, &more).exits(0);
    let plan = bench.read("whole.plan");
    let cut: String = plan
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    bench.write("cut.plan", cut);
    bench
        .run(&["apply", "cut.plan", "--limit", "1"])
        .exits(2)
        .says("its end is missing");
    bench.run(&["apply", "whole.plan", "--rate", "0"]).exits(0);
    assert_eq!(api.member("user3@x.org").first_name, "C");
}

/// A stopped dry run writes no plan, because the plan would lack rows. Its resume writes the whole plan.
#[test]
fn stopped_dry_run_saves_its_plan_on_resume() {
    let (api, bench) = (Api::with_users(2000), Bench::new());
    let csv = many(2000).replacen("user2@", "nobody@", 1);
    let mut more = vec!["--dry-run", "--save-plan", "p.jsonl", "--concurrency", "1"];
    more.extend(["--max-failures", "1"]);
    let ran = bench.update(&api, csv, &more).exits(4);
    assert!(!bench.path("p.jsonl").exists());
    let next = "sigma-bulk resume run --save-plan p.jsonl";
    assert!(ran.stdout.contains(next), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 not possible"), "{}", ran.stdout);
    bench.resume(&["--save-plan", "p.jsonl"]).exits(1);
    // The head, all rows but one, and the end.
    assert_eq!(bench.read("p.jsonl").lines().count(), 1 + 1999 + 1);
    let url = api.sandbox.url();
    bench
        .run(&["apply", "p.jsonl", "--rate", "0", "--base-url", &url])
        .exits(0);
    assert_eq!(api.member("user3@x.org").first_name, "New3");
}

/// Nothing is left to resume when the row that hits the limit is the last one.
#[test]
fn a_limit_at_the_last_row_leaves_nothing_to_resume() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nnobody@x.org,C\n";
    let more = ["--concurrency", "1", "--max-failures", "1"];
    let ran = bench.update(&api, csv, &more).exits(4);
    assert!(!ran.stdout.contains("to continue"), "{}", ran.stdout);
    assert_eq!(bench.summary()["state"], "complete");
    assert_eq!(bench.summary()["stop"], "failure_limit");
}

#[test]
fn unwritable_plan_path_is_rejected_before_sign_in() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\n";
    let more = ["--dry-run", "--save-plan", "nowhere/p.jsonl"];
    bench.update(&api, csv, &more).exits(2).says("nowhere");
    assert_eq!(api.stats().requests_to(Endpoint::Token), 0);
}

/// The suggested command keeps the options of the dry run, such as `--limit`.
#[test]
fn report_suggests_the_command_with_its_options() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n";
    let more = ["--dry-run", "--limit", "2", "--send-unchanged"];
    bench.update(&api, csv, &more).exits(0);
    let ran = bench.run(&["report", "run"]).exits(0);
    assert!(
        ran.stdout.contains("--limit 2 --send-unchanged"),
        "{}",
        ran.stdout
    );
}
