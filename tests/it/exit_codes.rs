//! One test for each exit code.

use std::time::Duration;

use sigma_bulk::sandbox::{Config, Endpoint, Faults, Population};

use crate::harness::{Api, Bench, Ran, send, user};

#[test]
fn success_exits_0_and_a_failed_row_exits_1() {
    let api = Api::with_users(1);
    Bench::new()
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(0);
    Bench::new()
        .update(&api, "Email,First Name\nuser2@x.org,A\n", &[])
        .exits(1);
}

/// These errors are found before the run starts: no request is sent and no run directory is left.
#[test]
fn wrong_usage_settings_or_input_exit_2() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.run(&["update", "--no-such-flag"]).exits(2);
    bench.run(&["update"]).exits(2).says("no CSV is given");
    bench.write("f.csv", "Email\n");
    bench.run(&["update", "f.csv"]).exits(2).says("--cloud");
    bench
        .run(&["update", "f.csv", "--base-url", "http://example.com"])
        .exits(2)
        .says("unencrypted");
    bench
        .run(&["update", "f.csv", "--cloud", "gcp", "--concurrency", "0"])
        .exits(2)
        .says("--concurrency");
    bench
        .update(&api, "Email,Shoe Size\n", &[])
        .exits(2)
        .says("Shoe Size");
    bench
        .update(&api, "Email,isArchived\nuser1@x.org,maybe\n", &["--strict"])
        .exits(2)
        .says("line 2");
    assert!(
        !bench.path("run").exists(),
        "a run that did not start leaves no directory"
    );
    assert_eq!(
        api.stats().requests_to(Endpoint::Token),
        0,
        "nothing was sent"
    );
    let mut command = bench.command();
    command
        .env_remove("SIGMA_CLIENT_SECRET")
        .args(["update", "f.csv", "--cloud", "gcp"]);
    Ran::of(command.output().unwrap(), &bench)
        .exits(2)
        .says("SIGMA_CLIENT_SECRET");
}

#[test]
fn wrong_credentials_or_unreachable_host_exit_3() {
    let api = Api::start(Config {
        population: Population::Members(vec![user(1)]),
        client_secret: Some("another".to_owned()),
        ..Config::default()
    });
    let bench = Bench::new();
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(3)
        .says("could not sign in");
    assert!(!bench.path("run").exists());
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    bench
        .run(&bench.update_words(&url, &["--retries", "0"]))
        .exits(3)
        .says("no connection");
}

#[test]
fn loopback_addresses_bypass_the_proxy() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    let mut command = bench.command();
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.args(bench.update_words(&url, &["--retries", "0"]));
    crate::harness::Ran::of(command.output().unwrap(), &bench).exits(0);
}

#[test]
fn failure_limit_exits_4() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,First Name\nnobody1@x.org,A\nnobody2@x.org,A\nuser1@x.org,A\n";
    bench
        .update(&api, csv, &["--max-failures", "2", "--concurrency", "1"])
        .exits(4);
    assert_eq!(
        bench.outcomes(),
        ["not_found", "not_found", "not_attempted"]
    );
    assert_eq!(bench.summary()["exit_code"], 4);
}

#[test]
fn deadline_exits_4() {
    let faults = Faults {
        latency: Duration::from_millis(300),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(50).faults(faults), Bench::new());
    let csv: String = (1..=50).map(|n| format!("user{n}@x.org,A\n")).collect();
    let csv = format!("Email,First Name\n{csv}");
    bench
        .update(&api, &csv, &["--deadline", "2s", "--concurrency", "1"])
        .exits(4);
    assert_eq!(bench.summary()["stop"], "deadline");
    let counts = bench.check_files();
    assert!(counts["not_attempted"] > 0);
    let url = api.sandbox.url();
    api.sandbox.set_faults(Faults::default());
    bench
        .run(&["resume", "run", "--base-url", &url, "--rate", "0"])
        .exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 50)].into());
}

/// Starts a run of 100 rows and returns once four updates have arrived.
fn running(api: &Api, bench: &Bench) -> std::process::Child {
    let csv: String = (1..=100).map(|n| format!("user{n}@x.org,A\n")).collect();
    bench.write("input.csv", format!("Email,First Name\n{csv}"));
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, &["--concurrency", "4"]));
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) >= 4);
    child
}

/// Waits for the process. Returns its exit code and its output, stdout before stderr.
fn ended(child: std::process::Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// After SIGINT, SIGTERM or SIGHUP the summary shows the resume command, and the resume sends nothing twice.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn signal_finishes_requests_in_flight() {
    let signals = [
        ("-INT", 130, "Ctrl-C again quits at once"),
        ("-TERM", 143, "after the requests in flight"),
        ("-HUP", 129, ""),
    ];
    // Windows has no others than Ctrl-C that Wine can send.
    let known = if cfg!(windows) { 1 } else { signals.len() };
    for (signal, code, says) in &signals[..known] {
        let faults = Faults {
            latency: Duration::from_millis(50),
            ..Faults::default()
        };
        let (api, bench) = (Api::with_users(100).faults(faults), Bench::new());
        let child = running(&api, &bench);
        send(&child, signal);
        let (status, text) = ended(child);
        assert_eq!(status, Some(*code), "{signal}");
        assert!(text.contains("sigma-bulk resume run"), "{text}");
        assert!(text.contains(says), "{text}");
        assert_eq!(bench.summary()["stop"], "interrupted");
        let counts = bench.check_files();
        assert!(
            counts["not_attempted"] > 0 && !counts.contains_key("unknown"),
            "{counts:?}"
        );
        assert_eq!(
            api.stats().applied,
            counts["updated"],
            "requests in flight were finished"
        );
        let url = api.sandbox.url();
        api.sandbox.set_faults(Faults::default());
        bench
            .run(&["resume", "run", "--base-url", &url, "--rate", "0"])
            .exits(0);
        assert_eq!(bench.check_files(), [("updated".to_owned(), 100)].into());
        assert_eq!(
            api.stats().requests_to(Endpoint::UpdateMember),
            100,
            "nothing was sent twice"
        );
    }
}

/// A stop must not turn a row that waits for its next attempt into a failed row.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn rows_waiting_for_a_retry_are_left_for_resume() {
    // Most updates fail, so that some rows wait for a retry when the signal arrives.
    let faults = Faults {
        latency: Duration::from_millis(20),
        fail_before: 0.6,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(100).faults(faults), Bench::new());
    let child = running(&api, &bench);
    send(&child, "-INT");
    let (status, _) = ended(child);
    assert_eq!(status, Some(130));
    let counts = bench.check_files();
    assert!(!counts.contains_key("failed"), "{counts:?}");
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 100)].into());
}

#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn second_signal_exits_at_once() {
    let faults = Faults {
        latency: Duration::from_secs(20),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(100).faults(faults), Bench::new());
    let child = running(&api, &bench);
    send(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    send(&child, "-INT");
    let (status, text) = ended(child);
    assert_eq!(status, Some(130));
    assert_eq!(
        bench.summary()["state"],
        "running",
        "the run did not wait for requests in flight"
    );
    assert!(text.contains("sigma-bulk resume run"), "{text}");
    let journal = bench.read("run/journal.jsonl");
    assert!(journal.contains("\"intent\""), "what was sent is recorded");
}

/// The error names the process that holds the lock. A dry run does not need the lock.
#[test]
fn second_run_on_an_organization_exits_5() {
    let faults = Faults {
        latency: Duration::from_millis(200),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(100).faults(faults), Bench::new());
    let mut child = running(&api, &bench);
    let url = api.sandbox.url();
    let words = [
        "update",
        "input.csv",
        "--base-url",
        &url,
        "--rate",
        "0",
        "--run-dir",
        "other",
    ];
    let pid = child.id().to_string();
    let ran = bench.run(&words).exits(5).says(&format!("process {pid}"));
    assert!(ran.stderr.contains("run directory"), "{}", ran.stderr);
    assert!(!bench.path("other").exists());
    let dry: Vec<&str> = words
        .iter()
        .copied()
        .chain(["--dry-run", "--limit", "1", "--run-dir", "dry"])
        .collect();
    bench.run(&dry).exits(0);
    child.kill().unwrap();
    ended(child);
    api.sandbox.set_faults(Faults::default());
    bench.run(&words).exits(0);
}

/// The run does not wait for a hanging listing, and the summary still counts the requests that were sent.
#[test]
#[cfg_attr(windows, ignore = "only Wine sends a signal to one process")]
fn signal_during_listing_exits_at_once() {
    let faults = Faults {
        hang: 1.0,
        only: Some(vec![Endpoint::ListMembers]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    bench.write(
        "input.csv",
        "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\n",
    );
    let url = api.sandbox.url();
    let more = ["--lookup", "directory", "--timeout", "1h"];
    let child = bench.start(&bench.update_words(&url, &more));
    api.wait_until(|stats| stats.requests_to(Endpoint::ListMembers) > 0);
    send(&child, "-INT");
    let (status, text) = ended(child);
    assert_eq!(status, Some(130), "{text}");
    assert_eq!(
        bench.check_files(),
        [("not_attempted".to_owned(), 2)].into()
    );
    assert_eq!(bench.summary()["requests"]["total"], 4);
}

/// A pipeline must know whether there is something to apply.
#[test]
fn detailed_exit_code_says_whether_there_are_changes() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let more = |dir| ["--dry-run", "--detailed-exitcode", "--run-dir", dir];
    let change = "Email,First Name\nuser1@x.org,A\n";
    bench.update(&api, change, &more("a")).exits(6);
    bench
        .update(&api, change, &["--dry-run", "--run-dir", "b"])
        .exits(0);
    let same = "Email,First Name\nuser1@x.org,First\n";
    bench.update(&api, same, &more("c")).exits(0);
    let wrong = "Email,First Name\nuser1@x.org,A\nnobody@x.org,A\n";
    bench.update(&api, wrong, &more("d")).exits(1);
}
