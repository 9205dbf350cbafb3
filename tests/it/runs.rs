//! Runs after they ended: their names, `runs`, `latest`, who is undone by whom, and reports.

use serde_json::Value;

use crate::harness::{Api, Bench, Ran, many};

const CSV: &str = "Email,First Name,New Email,isArchived\n\
                   user1@x.org,<b>|`x`,,\n\
                   user2@x.org,,moved@y.org,\n\
                   user3@x.org,,,true\n\
                   nobody@x.org,X,,\n";

/// Runs `sigma-bulk update spring.csv` with these arguments, without `--run-dir`.
fn update(bench: &Bench, api: &Api, more: &[&str]) -> Ran {
    bench.write("spring.csv", CSV);
    let url = api.sandbox.url();
    bench.run(
        &[
            &["update", "spring.csv", "--base-url", &url, "--rate", "0"],
            more,
        ]
        .concat(),
    )
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

/// Returns the directories that `runs --json` lists, and what it says about them.
fn listed(bench: &Bench) -> Vec<(String, Value)> {
    let all = json(&bench.run(&["runs", "--json"]).exits(0));
    let all = all.as_array().unwrap().clone();
    all.into_iter()
        .map(|run| (run["run_dir"].as_str().unwrap().to_owned(), run))
        .collect()
}

#[test]
fn directories_are_named_by_time_input_and_kind() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    update(&bench, &api, &["--dry-run", "--save-plan", "p.plan"]).exits(1);
    update(&bench, &api, &[]).exits(1);
    bench.run(&["undo", "latest", "--rate", "0"]).exits(0);
    bench
        .run(&["apply", "p.plan", "--rate", "0", "--dry-run"])
        .exits(0);
    let names: Vec<String> = listed(&bench).into_iter().map(|(dir, _)| dir).collect();
    let kinds: Vec<&str> = names
        .iter()
        .map(|name| name.split_once("Z-").unwrap().1)
        .collect();
    assert_eq!(
        kinds,
        ["p-apply-dry-run", "spring-undo", "spring", "spring-dry-run"]
    );
}

#[test]
fn runs_lists_states_counts_and_undos() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let ran = bench.run(&["runs"]).exits(0);
    assert!(ran.stdout.contains("no run in runs"), "{}", ran.stdout);
    update(&bench, &api, &[]).exits(1);
    bench.run(&["undo", "latest", "--rate", "0"]).exits(0);
    let all = listed(&bench);
    let (undo, run) = (&all[0], &all[1]);
    assert_eq!(run.1["outcomes"]["updated"], 3);
    assert_eq!(run.1["state"], "complete");
    assert_eq!(run.1["undone_by"], serde_json::json!([undo.0]));
    assert_eq!(undo.1["kind"], "undo");
    let text = bench.run(&["runs"]).exits(0).stdout;
    assert!(text.contains(&format!("undone by {}", undo.0)), "{text}");
    assert!(text.contains("3 updated, 1 not_found"), "{text}");
}

/// A run that was killed says in its summary that it is running, and `runs` knows better.
#[test]
fn a_killed_run_can_be_resumed_by_its_name() {
    let (api, bench) = (Api::with_users(400), Bench::new());
    let api = api.faults(sigma_bulk::sandbox::Faults {
        latency: std::time::Duration::from_millis(100),
        ..Default::default()
    });
    bench.write("input.csv", many(400));
    let url = api.sandbox.url();
    let mut child = bench.start(&["update", "input.csv", "--base-url", &url, "--rate", "0"]);
    api.wait_until(|stats| stats.requests_to(sigma_bulk::sandbox::Endpoint::UpdateMember) > 20);
    let (dir, run) = listed(&bench).remove(0);
    assert_eq!(run["state"], "running", "{dir}");
    let early: Value = serde_json::from_str(&bench.read(&format!("{dir}/summary.json"))).unwrap();
    assert_eq!(early["state"], "running");
    assert_eq!(early["exit_code"], Value::Null);
    assert_eq!(early["rows"], 400);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(listed(&bench)[0].1["state"], "resumable");
    bench.run(&["resume", "latest", "--rate", "0"]).exits(0);
    let (_, run) = listed(&bench).remove(0);
    assert_eq!(run["state"], "complete");
    assert_eq!(run["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(run["sessions"][0]["finished_at"], Value::Null);
}

#[test]
fn summary_says_who_ran_what() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let own = api.sandbox.own_member_id();
    let api = {
        let mut admin = crate::harness::user(9);
        admin.member_id = own;
        api.sandbox.set_member(&admin).unwrap();
        api
    };
    let secret = ["--client-secret", "of-the-command-line"];
    update(&bench, &api, &secret).exits(1);
    let (_, run) = listed(&bench).remove(0);
    assert_eq!(run["tool_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["input"]["name"], "spring.csv");
    assert_eq!(run["input"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(run["host"], api.sandbox.url());
    assert_eq!(run["credential_user"]["email"], "user9@x.org");
    assert_eq!(run["error"], Value::Null);
    let command = run["command"].as_str().unwrap();
    assert!(
        command.starts_with("sigma-bulk update spring.csv"),
        "{command}"
    );
    assert!(!command.contains("of-the-command-line"), "{command}");
    assert!(!run["os_user"].as_str().unwrap().is_empty());
    assert!(!run["organization_id"].as_str().unwrap().is_empty());
}

/// Whoever undoes a run must know that its failed rows were mended and run again.
#[test]
fn an_undo_names_the_run_of_failed_rows() {
    let (api, bench) = (Api::with_users(4), Bench::new());
    update(&bench, &api, &[]).exits(1);
    let first = listed(&bench).remove(0).0;
    let failed = format!("{first}/failed.csv");
    let mended = bench.read(&failed).replace("nobody@x.org", "user4@x.org");
    bench.write(&failed, mended);
    let url = api.sandbox.url();
    bench
        .run(&["update", &failed, "--base-url", &url, "--rate", "0"])
        .exits(0);
    let all = listed(&bench);
    assert_eq!(all[1].1["rerun_by"], serde_json::json!([all[0].0]));
    let undo = format!("sigma-bulk undo {}", all[0].0);
    bench
        .run(&["undo", &first, "--rate", "0", "--dry-run"])
        .exits(0)
        .says(&undo);
    bench.run(&["undo", &all[0].0, "--rate", "0"]).exits(0);
    assert_eq!(api.member("user4@x.org").first_name, "First");
    // It is undone by now, so that there is nothing to say.
    let ran = bench.run(&["undo", &first, "--rate", "0"]).exits(0);
    assert!(!ran.stderr.contains("run again"), "{}", ran.stderr);
}

fn reports(bench: &Bench, what: &str, format: &str) -> String {
    bench.run(&["report", what, "--format", format]).stdout
}

/// Every form, of a run, of a dry run and of a plan.
#[test]
fn reports_have_every_form_for_every_kind() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    update(
        &bench,
        &api,
        &["--dry-run", "--save-plan", "p.plan", "--run-dir", "dry"],
    )
    .exits(1);
    update(&bench, &api, &["--run-dir", "run"]).exits(1);
    for (what, archived) in [
        ("dry", "1 to be archived"),
        ("p.plan", "1 to be archived"),
        ("run", "1 archived"),
    ] {
        let changes: Value = serde_json::from_str(&reports(&bench, what, "json")).unwrap();
        assert_eq!(changes["changes"][0]["text"], archived, "{what}");
        assert_eq!(changes["changes"][0]["is_destructive"], true, "{what}");
        for format in ["text", "markdown", "html"] {
            let text = reports(&bench, what, format);
            assert!(text.contains(archived), "{what} {format}: {text}");
            let email = "user1@x.org";
            let is_shown = text.contains(email) || (what == "run" && format == "text");
            assert!(is_shown, "{what} {format}: {text}");
        }
        let junit = reports(&bench, what, "junit");
        let rows = if what == "p.plan" { 3 } else { 4 };
        assert_eq!(junit.matches("<testcase ").count(), rows, "{what}: {junit}");
        assert!(
            junit.contains(&format!("tests=\"{rows}\"")),
            "{what}: {junit}"
        );
        assert_eq!(
            junit.matches("<failure ").count(),
            rows - 3,
            "{what}: {junit}"
        );
    }
    // A report leaves with the code of the run, and can be written to a private file.
    bench
        .run(&["report", "run", "--format", "html", "--output", "r.html"])
        .exits(1);
    assert!(bench.read("r.html").starts_with("<!doctype html>"));
    bench
        .run(&["report", "p.plan", "--output", "p.txt"])
        .exits(0);
    assert!(bench.read("p.txt").contains("sigma-bulk apply p.plan"));
}

/// No value becomes markup, whatever a CSV or a server says.
#[test]
fn reports_escape_every_value() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    update(&bench, &api, &["--run-dir", "run"]).exits(1);
    let html = reports(&bench, "run", "html");
    assert!(!html.contains("<b>|"), "{html}");
    assert!(html.contains("&lt;b&gt;|`x`"), "{html}");
    // The page asks for nothing.
    assert!(!html.contains("src=") && !html.contains("href=") && !html.contains("url("));
    let markdown = reports(&bench, "run", "markdown");
    assert!(
        markdown.contains("`` First Name: First → <b>\\|`x` ``"),
        "{markdown}"
    );
    assert!(!markdown.contains("@y.org**"));
    let junit = reports(&bench, "run", "junit");
    assert!(junit.contains("&lt;b&gt;"), "{junit}");
}

/// GitHub refuses longer comments.
#[test]
fn markdown_stays_short_and_says_how_many_more() {
    let (api, bench) = (Api::with_users(3000), Bench::new());
    bench.update(&api, many(3000), &["--dry-run"]).exits(0);
    let text = reports(&bench, "run", "markdown");
    assert!(text.chars().count() <= 60_000);
    let more = 3000 - text.matches("→ New").count();
    let more = format!("… and {},{:03} members more.", more / 1000, more % 1000);
    assert!(
        text.contains(&more),
        "{more}: {}",
        &text[text.len() - 200..]
    );
}

/// The charts show the whole run, whatever the number of its sessions.
#[test]
fn charts_are_made_from_samples() {
    let (api, bench) = (Api::with_users(200), Bench::new());
    let api = api.faults(sigma_bulk::sandbox::Faults {
        latency: std::time::Duration::from_millis(250),
        ..Default::default()
    });
    let more = ["--concurrency", "16"];
    bench.update(&api, many(200), &more).exits(0);
    let report: Value = serde_json::from_str(&reports(&bench, "run", "json")).unwrap();
    let titles: Vec<&str> = report["charts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chart| chart["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles, ["Throughput (a second)", "Latency (ms)"]);
    let html = reports(&bench, "run", "html");
    assert_eq!(html.matches("<svg ").count(), 2);
}
