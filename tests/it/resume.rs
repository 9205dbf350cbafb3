//! Runs that are killed or stopped and then resumed: every member ends right, and every row is reported once.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Stdio};
use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults, PatchRecord};

use crate::harness::{Api, Bench, Ran, lines, send, wait_until};

const ROWS: usize = 300;
const CONCURRENCY: usize = 8;

/// Returns a CSV that changes each user's names, and the email of every third user.
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

/// Returns the faults of a bad network, but no hangs: latency, errors before and after the change, closed
/// connections.
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

/// Kills the run after random times and resumes it until it exits by itself. Returns the number of kills.
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
        // The sleep only varies the moment of the kill. The assertions hold for any moment. It grows, because a process may
        // need longer than that to start.
        let longest = 400 + 20 * kills as u64;
        std::thread::sleep(Duration::from_millis(random.u64(20..longest)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // A run that was killed before it wrote the journal's header starts again.
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
    // The last session may have left failed rows. This one finishes them, or finds nothing to do.
    let more: Vec<&str> = resume.iter().copied().chain(["--only-failed"]).collect();
    bench.run(&more).exits(0);
    kills
}

/// Returns how many updates repeat one that was already applied.
fn repeated(patches: &[PatchRecord]) -> usize {
    let mut applied: HashMap<(String, String), usize> = HashMap::new();
    for patch in patches.iter().filter(|patch| patch.applied) {
        *applied
            .entry((patch.member_id.clone(), patch.body.to_string()))
            .or_default() += 1;
    }
    applied.values().map(|count| count - 1).sum()
}

/// Kills a run and its undo at random moments, and resumes each until it is done.
#[test]
fn killed_runs_complete_after_resume_and_undo() {
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
        assert_eq!(undo.len(), ROWS, "undo.csv is complete");
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
        // A retry after a lost answer also repeats an applied change, and the faults cause such retries.
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
        "only {all_kills} kills: too few for this test to be meaningful"
    );
}

/// The run is killed after the API applied an update and before it answered.
#[test]
fn unanswered_row_is_read_back_not_resent() {
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
        results[0]["Message"].contains("confirmed by reading"),
        "{}",
        results[0]["Message"]
    );
    assert_eq!(
        results[0]["Changes"], "First Name: First → A",
        "the original previous value is kept"
    );
    // A second resume has nothing to do.
    bench.resume(&[]).exits(0);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 3);
}

/// The second run is rejected, and the first one finishes undisturbed.
#[test]
fn two_runs_cannot_start_in_one_directory() {
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
    wait_until("the run directory exists", || {
        bench.path("run/input.csv").exists()
    });
    // Whether or not the first run has signed in yet, it owns the directory.
    bench.run(&bench.update_words(&url, &[])).exits(2);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(bench.check_files(), [("updated".to_owned(), 2)].into());
}

#[test]
fn only_failed_retries_the_failed_rows() {
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
        "requests of all sessions are counted"
    );
}

/// Returns the directory of a run that stopped after its first row.
fn stopped(api: &Api) -> Bench {
    let bench = Bench::new();
    let csv = "Email,First Name\nnobody@x.org,A\nuser1@x.org,B\nuser2@x.org,C\n";
    bench
        .update(api, csv, &["--max-failures", "1", "--concurrency", "1"])
        .exits(4);
    bench
}

/// A kill can leave only the last line incomplete. Damage in any other line is an error.
#[test]
fn truncated_last_journal_line_is_repaired() {
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
fn resume_rejects_another_input_host_or_organization() {
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
    bench
        .run(&["resume", "nowhere"])
        .exits(2)
        .says("does not hold a run");
    api.sandbox.set_identity("another-one", None);
    bench.run(&["resume", "run"]).exits(2).says("another-one");
    bench.write(
        "run/input.csv",
        "Email,First Name\nnobody@x.org,A\nuser1@x.org,X\nuser2@x.org,C\n",
    );
    bench
        .run(&["resume", "run"])
        .exits(2)
        .says("was changed since the run started");
}

#[test]
fn used_run_directory_is_rejected_with_a_hint() {
    let api = Api::with_users(2);
    let bench = stopped(&api);
    bench
        .update(&api, "Email\nuser1@x.org\n", &[])
        .exits(2)
        .says("sigma-bulk resume run");
}

#[test]
fn resume_finds_renamed_members_by_their_old_email() {
    // The run stops after user1 is renamed. Its second row, and a row that names its new email, are left.
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

/// A row is sent only after the journal holds its intent, so a full disk must stop the run.
#[cfg(unix)]
#[test]
fn full_disk_stops_before_an_unrecorded_update() {
    let (api, bench) = (Api::with_users(120), Bench::new());
    let rows: String = (1..=120)
        .map(|n| format!("user{n}@x.org,First{n}\n"))
        .collect();
    bench.write("input.csv", format!("Email,First Name\n{rows}"));
    let url = api.sandbox.url();
    // No file may exceed 32 blocks of 512 bytes. Only the journal reaches this limit, as on a full disk.
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
    assert!(
        requests >= Some(sent),
        "the summary counts {requests:?} requests, but {sent} updates were sent"
    );
    bench.resume(&[]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 120)].into());
}

/// The setting could come from the environment, and must not turn a resume into a preview.
#[test]
fn resume_rejects_dry_run_for_a_real_run() {
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
        .says("sets dry-run");
    assert_eq!(api.stats().requests, before);
}

/// The server applies an update after the run stopped with an unknown outcome.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn update_applied_after_a_stop_can_be_undone() {
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
    // A proxy answered with an error, but the server behind it applies the update after all.
    api.sandbox
        .edit("id1", |member| member.first_name = "A".to_owned())
        .unwrap();
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// Returns a run of one row that was killed after its change was applied and before it was answered.
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

/// The row may have been sent before the kill, and the member cannot be read on the resume.
#[test]
fn unreadable_sent_row_is_unknown_but_undoable() {
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

/// Even if the resume finds the row invalid, its first update may have changed the member.
#[test]
fn sent_row_stays_in_undo_csv_after_any_resume() {
    let (api, bench) = killed_in_flight("Email,First Name\nuser1@x.org,A\n");
    // Since the kill, somebody changed the value again and protected the member.
    api.sandbox
        .edit("id1", |member| member.first_name = "B".to_owned())
        .unwrap();
    bench.write("c.toml", "protected = [\"user1@x.org\"]\n");
    bench.resume(&["--config", "c.toml"]).exits(1);
    assert_eq!(bench.outcomes(), ["invalid"]);
    assert_eq!(lines(&bench.path("run/undo.csv"))[0]["First Name"], "First");
}

/// After the kill, somebody changed a field of the row that had not needed an update before.
#[test]
fn resume_sends_fields_that_differ_since_the_kill() {
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

/// A corrected failed.csv must target the same members even after other rows renamed them.
#[test]
fn failed_csv_uses_the_current_emails() {
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
    // The corrected rows still target the same members.
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

/// The first session never learned its organization, so the resume records it.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn resume_binds_a_run_stopped_during_sign_in() {
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
    api.sandbox.set_identity("another-one", None);
    bench.run(&["resume", "run"]).exits(2).says("another-one");
}

/// The read that confirms an unanswered update finishes, and its row gets a final outcome.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn stop_waits_for_a_verification_in_flight() {
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

/// The run directory is locked while a process works in it.
#[test]
fn running_run_cannot_be_resumed() {
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
