//! Killed at any moment, and resumed until done: every member right, every row once.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Stdio};
use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults, PatchRecord};

use crate::harness::{Api, Bench, Ran, lines, send, wait_until};

const ROWS: usize = 300;
const CONCURRENCY: usize = 8;

/// Rows that change each user's names, and rename every third one.
fn csv() -> String {
    let rows: String = (1..=ROWS)
        .map(|n| {
            let email = if n % 3 == 0 {
                format!("new{n}@x.org")
            } else {
                String::new()
            };
            format!("user{n}@x.org,First{n},Last{n},{email}\n")
        })
        .collect();
    format!("Email,First Name,Last Name,New Email\n{rows}")
}

fn assert_all_changed(api: &Api) {
    for member in api.sandbox.members() {
        let Some(n) = member
            .member_id
            .strip_prefix("id")
            .and_then(|n| n.parse::<usize>().ok())
        else {
            continue;
        };
        let email = if n % 3 == 0 {
            format!("new{n}@x.org")
        } else {
            format!("user{n}@x.org")
        };
        assert_eq!(
            (member.email, member.first_name, member.last_name),
            (email, format!("First{n}"), format!("Last{n}"))
        );
    }
}

fn assert_all_as_before(api: &Api) {
    for member in api.sandbox.members() {
        let Some(n) = member.member_id.strip_prefix("id") else {
            continue;
        };
        assert_eq!(
            (member.email, member.first_name, member.last_name),
            (
                format!("user{n}@x.org"),
                "First".to_owned(),
                "Last".to_owned()
            )
        );
    }
}

/// Latency, refusals before and after the change, cut connections: all that a network does, but no hang.
fn bad_weather(seed: u64) -> Faults {
    Faults {
        seed,
        latency: Duration::from_millis(4),
        fail_before: 0.02,
        fail_after: 0.02,
        close_before: 0.01,
        close_after: 0.02,
        ..Faults::default()
    }
}

fn spawn(bench: &Bench, words: &[&str]) -> Child {
    bench
        .command()
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the run after ever other times, and resumes it until it ends by itself; answers how often it was killed.
fn kill_until_done(bench: &Bench, api: &Api, first: &[&str], dir: &str, seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let url = api.sandbox.url();
    let concurrency = CONCURRENCY.to_string();
    let resume = [
        "resume",
        dir,
        "--rate",
        "0",
        "--concurrency",
        &concurrency,
        "--retries",
        "8",
        "--base-url",
        &url,
    ];
    let mut child = spawn(bench, first);
    let mut kills = 0;
    loop {
        // Time is only what makes the moments differ: the assertions hold whenever the kill comes.
        std::thread::sleep(Duration::from_millis(random.u64(20..400)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // A run that was killed before it wrote its journal's head is begun anew.
        let is_begun = std::fs::read_to_string(bench.path(dir).join("journal.jsonl"))
            .is_ok_and(|journal| journal.contains('\n'));
        if is_begun {
            child = spawn(bench, &resume);
        } else {
            let _ = std::fs::remove_dir_all(bench.path(dir));
            child = spawn(bench, first);
        }
    }
    api.sandbox.set_faults(Faults::default());
    // Whatever the last piece ended with: this one finds nothing more to do, or does it.
    let more: Vec<&str> = resume.iter().copied().chain(["--only-failed"]).collect();
    bench.run(&more).exits(0);
    kills
}

/// How many updates repeat one that was applied already.
fn repeated(patches: &[PatchRecord]) -> usize {
    let mut applied: HashMap<(String, String), usize> = HashMap::new();
    for patch in patches.iter().filter(|patch| patch.applied) {
        *applied
            .entry((patch.member_id.clone(), patch.body.to_string()))
            .or_default() += 1;
    }
    applied.values().map(|count| count - 1).sum()
}

#[test]
fn killed_at_many_moments_and_resumed_and_undone_the_same_way() {
    let mut all_kills = 0;
    for seed in [1, 2, 3] {
        let (api, bench) = (
            Api::with_users(ROWS).faults(bad_weather(seed)),
            Bench::new(),
        );
        bench.write("input.csv", csv());
        let url = api.sandbox.url();
        let concurrency = CONCURRENCY.to_string();
        let first = [
            "update",
            "input.csv",
            "--base-url",
            &url,
            "--rate",
            "0",
            "--concurrency",
            &concurrency,
            "--run-dir",
            "run",
            "--retries",
            "8",
        ];
        let kills = kill_until_done(&bench, &api, &first, "run", seed);
        assert_all_changed(&api);
        let counts = bench.check_files();
        assert_eq!(
            counts,
            BTreeMap::from([("updated".to_owned(), ROWS as u64)]),
            "seed {seed}"
        );
        let undo = lines(&bench.path("run/undo.csv"));
        assert_eq!(undo.len(), ROWS, "undo.csv is whole");
        for line in &undo {
            assert_eq!(
                (line["First Name"].as_str(), line["Last Name"].as_str()),
                ("First", "Last")
            );
        }
        let stats = api.stats();
        assert!(
            stats.peak_in_flight <= CONCURRENCY,
            "{}",
            stats.peak_in_flight
        );
        // Further tries after a lost answer repeat an applied change too, and faults cause those.
        let lost = stats
            .patches
            .iter()
            .filter(|p| p.applied && p.status.is_none_or(|s| s != 200))
            .count();
        let repeated = repeated(&stats.patches);
        assert!(
            repeated <= kills * CONCURRENCY + lost,
            "{repeated} repeats after {kills} kills and {lost} lost answers"
        );
        all_kills += kills;

        api.sandbox.set_faults(bad_weather(seed + 10));
        let undo = [
            "undo",
            "run",
            "--rate",
            "0",
            "--concurrency",
            &concurrency,
            "--run-dir",
            "undo",
            "--retries",
            "8",
        ];
        all_kills += kill_until_done(&bench, &api, &undo, "undo", seed + 10);
        assert_all_as_before(&api);
    }
    assert!(
        all_kills > 6,
        "only {all_kills} kills: they came too late to show anything"
    );
}

#[test]
fn a_row_that_was_sent_and_not_answered_is_read_back_and_not_sent_again() {
    let faults = Faults {
        hang_after: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(3).faults(faults), Bench::new());
    bench.write(
        "input.csv",
        "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n",
    );
    let url = api.sandbox.url();
    let mut child = spawn(&bench, &bench.update_words(&url, &["--concurrency", "2"]));
    api.wait_until(|stats| stats.applied >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 3)].into());
    assert_eq!(
        api.stats().requests_to(Endpoint::UpdateMember),
        3,
        "the two were not sent again"
    );
    let results = bench.results();
    assert!(
        results[0]["Message"].contains("read to confirm"),
        "{}",
        results[0]["Message"]
    );
    assert_eq!(
        results[0]["Changes"], "First Name: First → A",
        "the first previous value is kept"
    );
    // A second resume has nothing to do.
    bench.resume(&[]).exits(0);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 3);
}

#[test]
fn two_runs_that_begin_in_one_directory_do_not_hurt_one_another() {
    let faults = Faults {
        latency: Duration::from_millis(200),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    bench.write(
        "input.csv",
        "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\n",
    );
    let url = api.sandbox.url();
    let mut first = spawn(&bench, &bench.update_words(&url, &[]));
    wait_until("the directory is taken", || {
        bench.path("run/input.csv").exists()
    });
    // It has signed in or not: the directory is taken in either case.
    bench.run(&bench.update_words(&url, &[])).exits(2);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(bench.check_files(), [("updated".to_owned(), 2)].into());
}

#[test]
fn only_failed_gives_failed_rows_another_go() {
    let faults = Faults {
        forced: Some(403),
        only: Some(vec![Endpoint::UpdateMember]),
        max_faults: Some(1),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    bench
        .update(
            &api,
            "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\n",
            &["--concurrency", "1"],
        )
        .exits(1);
    assert_eq!(bench.outcomes(), ["failed", "updated"]);
    bench.resume(&[]).exits(1);
    assert_eq!(
        bench.outcomes(),
        ["failed", "updated"],
        "a failed row is final"
    );
    bench.resume(&["--only-failed"]).exits(0);
    bench.check_files();
    assert_eq!(bench.outcomes(), ["updated", "updated"]);
    assert_eq!(
        bench.summary()["requests"]["by_status"]["403"],
        1,
        "requests of all pieces are counted"
    );
}

/// A run that was stopped after its first row.
fn stopped(api: &Api) -> Bench {
    let bench = Bench::new();
    let csv = "Email,First Name\nnobody@x.org,A\nuser1@x.org,B\nuser2@x.org,C\n";
    bench
        .update(api, csv, &["--max-failures", "1", "--concurrency", "1"])
        .exits(4);
    bench
}

#[test]
fn a_torn_last_line_is_mended_and_damage_elsewhere_is_refused() {
    let api = Api::with_users(2);
    let bench = stopped(&api);
    let whole = bench.read("run/journal.jsonl");
    bench.write(
        "run/journal.jsonl",
        format!("{whole}{{\"intent\":{{\"row\":2,\"ha"),
    );
    bench.resume(&[]).exits(1);
    assert_eq!(bench.outcomes(), ["not_found", "updated", "updated"]);
    let mended = bench.read("run/journal.jsonl");
    assert!(
        mended
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );

    let bench = stopped(&api);
    let whole = bench.read("run/journal.jsonl");
    let (head, rest) = whole.split_once('\n').unwrap();
    bench.write("run/journal.jsonl", format!("{head}\n{{\"inte\n{rest}"));
    bench
        .run(&["resume", "run"])
        .exits(2)
        .says("damaged at line 2");
}

#[test]
fn a_changed_input_another_host_and_another_organization_are_refused() {
    let api = Api::with_users(2);
    let bench = stopped(&api);
    bench
        .run(&["resume", "run", "--base-url", "https://example.com"])
        .exits(2)
        .says("https://example.com");
    bench
        .run(&["resume", "run", "--limit", "1"])
        .exits(2)
        .says("--limit");
    bench.run(&["resume", "nowhere"]).exits(2).says("no run");
    let journal = bench.read("run/journal.jsonl");
    let at = journal.find("\"organization\":\"").unwrap() + 16;
    let mut other = journal.clone();
    other.replace_range(at..=at, "x");
    bench.write("run/journal.jsonl", other);
    bench.run(&["resume", "run"]).exits(2).says("organization");
    bench.write("run/journal.jsonl", journal);
    bench.write(
        "run/input.csv",
        "Email,First Name\nnobody@x.org,A\nuser1@x.org,X\nuser2@x.org,C\n",
    );
    bench
        .run(&["resume", "run"])
        .exits(2)
        .says("was changed since the run began");
}

#[test]
fn a_run_directory_that_holds_a_run_is_refused_with_the_remedy() {
    let api = Api::with_users(2);
    let bench = stopped(&api);
    bench
        .update(&api, "Email\nuser1@x.org\n", &[])
        .exits(2)
        .says("sigma-bulk resume run");
}

#[test]
fn renamed_members_are_found_by_their_first_email_on_a_resume() {
    // The run stops after the rename of user1; its second row, and one that names the email it now has, are left.
    let csv = "Email,First Name,New Email\nuser1@x.org,,moved@x.org\nnobody@x.org,A,\nuser1@x.org,Later,\nmoved@x.org,B,\nuser2@x.org,C,\n";
    for mode in ["directory", "each"] {
        let (api, bench) = (Api::with_users(4), Bench::new());
        bench
            .update(
                &api,
                csv,
                &[
                    "--max-failures",
                    "1",
                    "--concurrency",
                    "1",
                    "--lookup",
                    mode,
                ],
            )
            .exits(4);
        assert_eq!(bench.outcomes()[0], "updated");
        bench.resume(&["--lookup", mode]).exits(1);
        assert_eq!(
            bench.outcomes(),
            ["updated", "not_found", "updated", "not_found", "updated"],
            "{mode}"
        );
        bench.check_files();
        assert_eq!(api.member("moved@x.org").first_name, "Later");
    }
}

#[test]
fn a_full_disk_stops_the_run_and_nothing_is_sent_that_is_not_recorded() {
    let (api, bench) = (Api::with_users(120), Bench::new());
    let rows: String = (1..=120)
        .map(|n| format!("user{n}@x.org,First{n}\n"))
        .collect();
    bench.write("input.csv", format!("Email,First Name\n{rows}"));
    let url = api.sandbox.url();
    // No file may grow beyond 32 blocks of 512 bytes, which is a full disk for the journal and for nothing else.
    let mut shell = std::process::Command::new("sh");
    let tool = bench.command();
    shell
        .current_dir(bench.dir.path())
        .env_clear()
        .envs(
            tool.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "sh"])
        .arg(tool.get_program())
        .args(bench.update_words(&url, &["--quiet"]));
    let blocks = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 1; ulimit -f"])
        .output()
        .unwrap();
    assert!(blocks.status.success(), "this shell can't limit files");
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("sigma-bulk resume run"), "{text}");
    let journal = bench.read("run/journal.jsonl");
    let recorded = journal.matches("{\"intent\":").count();
    let sent = api.stats().requests_to(Endpoint::UpdateMember);
    assert!(sent > 0 && sent < 120, "{sent}");
    assert!(
        sent <= recorded as u64,
        "{sent} sent and {recorded} recorded"
    );
    let requests = bench.summary()["requests"]["total"].as_u64();
    assert!(requests >= Some(sent), "{requests:?} of {sent} are told");
    bench.resume(&[]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 120)].into());
}

#[test]
fn a_resume_of_a_real_run_is_no_dry_run_whoever_asks_for_one() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\nuser2@x.org,C\n";
    bench
        .update(&api, csv, &["--max-failures", "1", "--concurrency", "1"])
        .exits(4);
    let before = api.stats().requests;
    let url = api.sandbox.url();
    let mut command = bench.command();
    command.env("SIGMA_BULK_DRY_RUN", "1");
    command.args(["resume", "run", "--base-url", &url]);
    Ran::of(command.output().unwrap(), &bench)
        .exits(2)
        .says("dry-run is set");
    assert_eq!(api.stats().requests, before);
}

#[test]
fn what_is_done_late_behind_a_stop_can_be_undone() {
    let faults = Faults {
        fail_before: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, &["--retries", "9"]));
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > 0);
    send(&child, "-INT");
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(130);
    assert_eq!(bench.outcomes(), ["unknown"]);
    // The proxy has given up, and its server had not.
    api.sandbox
        .edit("id1", |member| member.first_name = "A".to_owned())
        .unwrap();
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// A run of one row that was killed when its change was applied and not answered.
fn killed_in_flight(csv: &str) -> (Api, Bench) {
    let faults = Faults {
        hang_after: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    bench.write("input.csv", csv);
    let url = api.sandbox.url();
    let mut child = spawn(&bench, &bench.update_words(&url, &[]));
    api.wait_until(|stats| stats.applied >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    api.sandbox.set_faults(Faults::default());
    (api, bench)
}

#[test]
fn a_row_that_may_have_been_sent_and_can_not_be_read_back_is_unknown_and_can_be_undone() {
    let only = Some(vec![Endpoint::GetMember]);
    let failing = Faults {
        fail_before: 1.0,
        only: only.clone(),
        ..Faults::default()
    };
    let garbage = Faults {
        garbage: 1.0,
        only,
        ..Faults::default()
    };
    for faults in [failing, garbage] {
        let (api, bench) = killed_in_flight("Email,First Name\nuser1@x.org,A\n");
        api.sandbox.set_faults(faults);
        bench.resume(&["--retries", "0"]).exits(1);
        let results = bench.results();
        assert_eq!(results[0]["Outcome"], "unknown");
        assert_eq!(results[0]["Member ID"], "id1");
        assert_eq!(lines(&bench.path("run/undo.csv"))[0]["First Name"], "First");
        api.sandbox.set_faults(Faults::default());
        bench.undo(&[]).exits(0);
        assert_eq!(api.member("user1@x.org").first_name, "First");
    }
}

#[test]
fn a_row_that_was_sent_stays_in_the_undo_whatever_its_resume_comes_to() {
    let (api, bench) = killed_in_flight("Email,First Name\nuser1@x.org,A\n");
    // Somebody has changed it back, and protected the member since.
    api.sandbox
        .edit("id1", |member| member.first_name = "B".to_owned())
        .unwrap();
    bench.write("c.toml", "protected = [\"user1@x.org\"]\n");
    bench.resume(&["--config", "c.toml"]).exits(1);
    assert_eq!(bench.outcomes(), ["invalid"]);
    assert_eq!(lines(&bench.path("run/undo.csv"))[0]["First Name"], "First");
}

#[test]
fn what_was_sent_is_not_all_that_a_row_wants_when_it_is_read_back() {
    let (api, bench) = killed_in_flight("Email,First Name,Last Name\nuser1@x.org,A,Last\n");
    api.sandbox
        .edit("id1", |member| member.last_name = "Other".to_owned())
        .unwrap();
    bench.resume(&[]).exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
    let member = api.member("user1@x.org");
    assert_eq!((&*member.first_name, &*member.last_name), ("A", "Last"));
    assert_eq!(lines(&bench.path("run/undo.csv"))[0]["First Name"], "First");
}

#[test]
fn failed_csv_names_members_by_the_emails_that_they_have_now() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,New Email,Member Type\nuser1@x.org,moved@x.org,\nuser2@x.org,user1@x.org,\n\
               user1@x.org,,Nonsense\nuser3@x.org,user2@x.org,\nuser2@x.org,,Nonsense,too many\n";
    bench.update(&api, csv, &["--concurrency", "1"]).exits(1);
    assert_eq!(
        bench.outcomes(),
        ["updated", "updated", "invalid", "updated", "invalid"]
    );
    bench.check_files();
    let failed = lines(&bench.path("run/failed.csv"));
    let emails: Vec<&str> = failed.iter().map(|line| &*line["Email"]).collect();
    assert_eq!(emails, ["moved@x.org", "user1@x.org"]);
    // Mended and fed back, they mean the members that they meant.
    let mended = bench.read("run/failed.csv").replace("Nonsense", "Creator");
    let mended = mended.replace(",too many", "");
    bench.write("mended.csv", mended);
    let url = api.sandbox.url();
    let words = ["update", "mended.csv", "--rate", "0", "--base-url", &url];
    bench.run(&words).exits(0);
    let members = api.state();
    let types: Vec<&str> = ["id1", "id2", "id3"]
        .map(|id| &*members[id].member_type)
        .into();
    assert_eq!(types, ["Creator", "Creator", "Viewer"]);
}

#[test]
fn a_run_that_was_stopped_at_its_sign_in_is_bound_by_its_resume() {
    let faults = Faults {
        hang: 1.0,
        only: Some(vec![Endpoint::Whoami]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    bench.write(
        "input.csv",
        "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\nuser2@x.org,C\n",
    );
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, &[]));
    api.wait_until(|stats| stats.requests_to(Endpoint::Whoami) > 0);
    send(&child, "-INT");
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(130);
    let requests = bench.summary()["requests"].clone();
    assert_eq!(requests["total"], 2, "the token and whoami");
    bench.run(&["report", "run"]).exits(130);
    assert_eq!(bench.summary()["requests"], requests);

    api.sandbox.set_faults(Faults::default());
    bench
        .resume(&["--concurrency", "1", "--max-failures", "1"])
        .exits(4);
    let journal = bench.read("run/journal.jsonl");
    let own = "5d0c6c8e";
    assert!(journal.contains(own), "{journal}");
    bench.write("run/journal.jsonl", journal.replace(own, "another1"));
    bench.run(&["resume", "run"]).exits(2).says("organization");
}

#[test]
fn a_stop_lets_a_second_look_come_to_its_end() {
    let faults = |hang: f64, hang_after: f64, only: Endpoint| Faults {
        hang,
        hang_after,
        only: Some(vec![only]),
        ..Faults::default()
    };
    let api = Api::with_users(1).faults(faults(0.0, 1.0, Endpoint::UpdateMember));
    let bench = Bench::new();
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    let more = ["--retries", "0", "--timeout", "2s"];
    let child = bench.start(&bench.update_words(&url, &more));
    api.wait_until(|stats| stats.applied >= 1);
    api.sandbox
        .set_faults(faults(1.0, 0.0, Endpoint::GetMember));
    api.wait_until(|stats| stats.requests_to(Endpoint::GetMember) > 0);
    api.sandbox.set_faults(Faults::default());
    send(&child, "-INT");
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(130);
    assert_eq!(bench.outcomes(), ["updated"]);
}

#[test]
fn a_run_that_still_goes_on_is_not_resumed_by_another_process() {
    let faults = Faults {
        latency: Duration::from_millis(100),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(50).faults(faults), Bench::new());
    let rows: String = (1..=50).map(|n| format!("user{n}@x.org,A\n")).collect();
    bench.write("input.csv", format!("Email,First Name\n{rows}"));
    let url = api.sandbox.url();
    let more = ["--dry-run", "--lookup", "each", "--concurrency", "1"];
    let child = bench.start(&bench.update_words(&url, &more));
    api.wait_until(|stats| stats.requests_to(Endpoint::ListMembers) > 0);
    bench.resume(&[]).exits(2).says("another process");
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(0);
    bench.run(&["report", "run"]).exits(0);
    assert_eq!(
        bench.check_files(),
        [("would_update".to_owned(), 50)].into()
    );
}
