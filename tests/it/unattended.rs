//! Runs that a scheduler starts: one command line, again and again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults, RateLimit, RateLimitKind, RetryAfter};

use crate::harness::{Api, Bench, Ran, listening, many};

const CSV: &str = "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\n";

/// The line of the scheduler.
fn line(url: &str) -> [&str; 8] {
    [
        "update",
        "feed.csv",
        "--base-url",
        url,
        "--auto-resume",
        "--rate",
        "0",
        "--yes",
    ]
}

/// Runs the line of the scheduler with these arguments behind it.
fn nightly(bench: &Bench, api: &Api, more: &[&str]) -> Ran {
    let url = api.sandbox.url();
    let line = line(&url);
    bench.run(&[&line, more].concat())
}

fn updates(api: &Api) -> u64 {
    api.stats().requests_to(Endpoint::UpdateMember)
}

#[test]
fn a_complete_input_is_not_run_again() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(updates(&api), 1);
    let again = nightly(&bench, &api, &[]).exits(1);
    assert!(
        again.stdout.contains("was run already, in runs/"),
        "{}",
        again.stdout
    );
    let json = nightly(&bench, &api, &["--json"]).exits(1);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["outcomes"]["updated"], 1);
    assert_eq!(updates(&api), 1);
    let quiet = nightly(&bench, &api, &["-q"]).exits(1);
    assert_eq!(quiet.stdout, "");
    assert!(
        quiet.stderr.contains("with exit code 1"),
        "{}",
        quiet.stderr
    );
}

#[test]
fn a_changed_input_is_a_new_run() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    bench.write("feed.csv", CSV.replace(",A", ",C"));
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "C");
    // A dry run of the same input is another run, too, and so is one with other rules.
    nightly(&bench, &api, &["--dry-run"]).exits(1);
    nightly(&bench, &api, &["--limit", "1"]).exits(0);
    let runs = std::fs::read_dir(bench.path("runs")).unwrap().count();
    assert_eq!(runs, 4);
    let again = nightly(&bench, &api, &[]).exits(1);
    assert!(again.stdout.contains("was run already"), "{}", again.stdout);
}

/// A feed may become again what it was, while the members are not. Other files, dry runs and other organizations do not
/// count as versions of it.
#[test]
fn an_input_that_returns_after_another_is_a_new_run() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let other = CSV.replace(",A", ",C");
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    bench.write("feed.csv", &other);
    nightly(&bench, &api, &["--dry-run"]).exits(1);
    bench.write("another.csv", &other);
    let url = api.sandbox.url();
    let another = ["update", "another.csv", "--base-url", &url, "--yes"];
    bench
        .run(&[&another[..], &["--limit", "1"]].concat())
        .exits(0);
    bench.write("feed.csv", CSV);
    let ran = nightly(&bench, &api, &[]).exits(1);
    assert!(ran.stdout.contains("was run already"), "{}", ran.stdout);
    assert_eq!(api.member("user1@x.org").first_name, "C");

    bench.write("feed.csv", &other);
    nightly(&bench, &api, &[]).exits(1);
    bench.write("feed.csv", CSV);
    let ran = nightly(&bench, &api, &[]).exits(1);
    assert!(!ran.stdout.contains("was run already"), "{}", ran.stdout);
    assert_eq!(api.member("user1@x.org").first_name, "A");
}

#[test]
fn an_unfinished_run_is_resumed() {
    let (api, bench) = (Api::with_users(300), Bench::new());
    let api = api.faults(Faults {
        latency: Duration::from_millis(100),
        ..Faults::default()
    });
    bench.write("feed.csv", many(300));
    let url = api.sandbox.url();
    let line = line(&url);
    let mut child = bench.start(&line);
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > 40);
    child.kill().unwrap();
    child.wait().unwrap();
    nightly(&bench, &api, &[]).exits(0);
    let runs: Vec<_> = std::fs::read_dir(bench.path("runs")).unwrap().collect();
    assert_eq!(runs.len(), 1);
    let named = format!(
        "runs/{}/summary.json",
        runs[0].as_ref().unwrap().file_name().display()
    );
    let summary: serde_json::Value = serde_json::from_str(&bench.read(&named)).unwrap();
    assert_eq!(summary["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(summary["outcomes"]["updated"], 300);
}

#[test]
fn another_organization_runs_the_same_input_itself() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    nightly(&bench, &api, &[]).exits(1);
    api.sandbox.set_identity("another", None);
    api.sandbox
        .edit("id1", |member| member.first_name = "First".to_owned());
    nightly(&bench, &api, &[]).exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "A");
    assert_eq!(std::fs::read_dir(bench.path("runs")).unwrap().count(), 2);
}

/// A scheduler may start a job while the one before it is still running.
#[test]
fn of_two_starts_at_once_one_runs() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    // The one that runs waits for the end of an outage, so that the others start while it runs, however slow they are.
    let api = api.faults(Faults {
        fail_before: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    });
    bench.write("feed.csv", many(60));
    let url = api.sandbox.url();
    let line = line(&url);
    let (ended, codes) = std::sync::mpsc::channel();
    for _ in 0..4 {
        let (child, ended) = (bench.start(&line), ended.clone());
        std::thread::spawn(move || {
            let output = child.wait_with_output().unwrap();
            ended.send(output.status.code().unwrap()).unwrap();
        });
    }
    let code = || codes.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!([code(), code(), code()], [5, 5, 5]);
    api.sandbox.set_faults(Faults::default());
    assert_eq!(code(), 0);
    assert_eq!(api.stats().applied, 60);
    assert_eq!(std::fs::read_dir(bench.path("runs")).unwrap().count(), 1);
}

#[test]
fn standard_input_can_not_be_recognized() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let url = api.sandbox.url();
    bench
        .run(&["update", "-", "--base-url", &url, "--auto-resume"])
        .exits(2)
        .says("write it into a file");
}

/// A server for notifications, which keeps what it gets.
struct Hook {
    url: String,
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Hook {
    /// Starts a server that answers with these statuses, one after the other, and then with the last one. Without any, it
    /// never answers.
    fn start(statuses: &'static [u16]) -> Self {
        let (runtime, listener) = listening();
        let url = format!(
            "http://{}/hook-with-a-secret",
            listener.local_addr().unwrap()
        );
        let bodies = Arc::<Mutex<Vec<serde_json::Value>>>::default();
        let kept = Arc::clone(&bodies);
        let answer = move |body: String| {
            let mut bodies = kept.lock().unwrap();
            let status = statuses.get(bodies.len()).or(statuses.last()).copied();
            bodies.push(serde_json::from_str(&body).unwrap());
            async move {
                let Some(status) = status else {
                    return std::future::pending().await;
                };
                let status = axum::http::StatusCode::from_u16(status).unwrap();
                (status, [("location", "http://127.0.0.1:1/elsewhere")])
            }
        };
        let server = axum::Router::new().fallback(answer);
        runtime.spawn(async move { axum::serve(listener, server).await });
        Self {
            url,
            bodies,
            runtime: Some(runtime),
        }
    }

    fn bodies(&self) -> Vec<serde_json::Value> {
        self.bodies.lock().unwrap().clone()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// Whatever becomes of a notification, the run ends as it would without it, and the address is in no output and no file.
#[test]
fn notifications_never_change_a_run() {
    for (statuses, tries, is_told) in [
        (&[][..], 3, true),
        (&[204], 1, false),
        (&[503, 200], 2, false),
        (&[500], 3, true),
        (&[302], 1, true),
        (&[404], 1, true),
    ] {
        let (api, bench, hook) = (Api::with_users(3), Bench::new(), Hook::start(statuses));
        bench.write("feed.csv", CSV);
        let ran = nightly(&bench, &api, &["-q", "--notify-url", &hook.url]).exits(1);
        assert_eq!(hook.bodies().len(), tries, "{statuses:?}");
        assert_eq!(
            ran.stderr.contains("--notify-url"),
            is_told,
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("hook-with-a-secret"), "{}", ran.stderr);
        let runs = std::fs::read_dir(bench.path("runs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        for file in std::fs::read_dir(runs.path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains("hook-with-a-secret"));
        }
        let body = &hook.bodies()[0];
        assert_eq!(body["outcomes"]["updated"], 1);
        let text = body["text"].as_str().unwrap();
        assert!(
            text.contains("1 not_found, 1 updated (exit code 1)"),
            "{text}"
        );
    }
    let bench = Bench::new();
    bench.write("feed.csv", CSV);
    let words = [
        "update",
        "feed.csv",
        "--notify-url",
        "http://hooks.example.com/hook-with-a-secret",
    ];
    let ran = bench.run(&words).exits(2).says("use https");
    assert!(!ran.stderr.contains("hook-with-a-secret"), "{}", ran.stderr);
}

#[test]
fn notifications_are_sent_when_they_are_wanted() {
    let (api, bench, hook) = (Api::with_users(3), Bench::new(), Hook::start(&[200]));
    let run = |csv: &str, when: &str| {
        bench.write("feed.csv", csv);
        let url = api.sandbox.url();
        let line = [
            "update",
            "feed.csv",
            "--base-url",
            &url,
            "--rate",
            "0",
            "--yes",
            "-q",
        ];
        bench.run(&[&line[..], &["--notify-url", &hook.url, "--notify-on", when]].concat());
        std::mem::take(&mut *hook.bodies.lock().unwrap()).len()
    };
    let right = "Email,First Name\nuser1@x.org,A\n";
    assert_eq!(run(right, "failure"), 0);
    assert_eq!(run(CSV, "failure"), 1);
    // Now the member has the value: another outcome than in the run before, and then the same one.
    assert_eq!(run(right, "change"), 1);
    assert_eq!(run(right, "change"), 0);
    assert_eq!(run(CSV, "change"), 1);
    assert_eq!(run(right, "always"), 1);
    // A run that can't start is a failure.
    assert_eq!(run("Mail\nuser1@x.org\n", "failure"), 1);
}

#[cfg(unix)]
#[test]
fn a_command_gets_the_summary_when_the_files_are_there() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    let command = "cat > summary.toml; ls runs/*/results.csv; exit 3";
    let ran = nightly(&bench, &api, &["--json", "--on-finish", command]).exits(1);
    let own: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let given: serde_json::Value = serde_json::from_str(&bench.read("summary.toml")).unwrap();
    assert_eq!(own, given);
    assert!(ran.stderr.contains("results.csv"), "{}", ran.stderr);
    ran.says("--on-finish: the command failed: exit status: 3; the run is not affected");
}

#[test]
fn metrics_are_whole_and_keep_the_last_success() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let run = |csv: &str, code| {
        bench.write("feed.csv", csv);
        nightly(&bench, &api, &["--metrics-file", "m.prom"]).exits(code);
        bench.read("m.prom")
    };
    let value = |metrics: &str, name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    let first = run("Email,First Name\nuser1@x.org,A\n", 0);
    let success = value(&first, "sigma_bulk_last_success_timestamp_seconds").unwrap();
    let second = run(CSV, 1);
    assert_eq!(value(&second, "sigma_bulk_exit_code"), Some("1".to_owned()));
    assert_eq!(
        value(&second, "sigma_bulk_last_success_timestamp_seconds"),
        Some(success)
    );
    assert!(second.contains("outcome=\"not_found\"} 1"), "{second}");
    assert!(second.contains("status=\"200\"}"), "{second}");
    // A run that can't start has metrics as well.
    let third = run("Mail\nuser1@x.org\n", 2);
    assert_eq!(value(&third, "sigma_bulk_exit_code"), Some("2".to_owned()));
    // Each metric is declared once, before its samples.
    for metrics in [first, second, third] {
        let mut declared = String::new();
        for line in metrics.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => {
                    let name = rest.strip_suffix(" gauge").unwrap();
                    assert!(
                        !metrics[..metrics.find(line).unwrap()].contains(&format!("\n{name}{{"))
                    );
                    declared = name.to_owned();
                }
                None if line.starts_with('#') => {}
                None => assert!(line.starts_with(&format!("{declared}{{")), "{line}"),
            }
        }
    }
}

/// At `info` the log tells what happened, and at `debug` each row and request; neither has an email.
#[test]
fn the_log_tells_the_story_of_a_run() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    let limit = RateLimit {
        per_second: 40.0,
        kind: RateLimitKind::FixedWindow {
            window: Duration::from_secs(1),
        },
        retry_after: RetryAfter::Seconds,
    };
    let api = api.faults(Faults {
        rate_limit: Some(limit),
        ..Faults::default()
    });
    bench.write("feed.csv", many(60));
    let log = [
        "--log-format",
        "json",
        "--log-file",
        "a.log",
        "--rate",
        "auto",
    ];
    nightly(
        &bench,
        &api,
        &[
            &log[..],
            &["--log-level", "debug", "--client-secret", "typed"],
        ]
        .concat(),
    )
    .exits(0);
    let events: Vec<serde_json::Value> = (bench.read("a.log").lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |message: &str| -> Vec<&serde_json::Value> {
        let of_name = events
            .iter()
            .filter(|event| event["fields"]["message"] == message);
        of_name.map(|event| &event["fields"]).collect()
    };
    let started = named("run started")[0];
    assert_eq!(started["host"], api.sandbox.url());
    assert_eq!(started["rows"], 60);
    assert!(
        started["command"]
            .as_str()
            .unwrap()
            .starts_with("sigma-bulk update feed.csv")
    );
    assert_eq!(named("members listed")[0]["members"], 60);
    assert!(!named("the API asks for a pause").is_empty());
    assert!(!named("rate").is_empty());
    let ended = named("run ended")[0];
    assert_eq!(
        (&ended["outcomes"], &ended["exit_code"]),
        (&"updated=60".into(), &0.into())
    );
    assert_eq!(named("row ended").len(), 60);
    assert!(named("request").len() > 60);
    let log = bench.read("a.log");
    assert!(!log.contains('@') && !log.contains("typed"), "{log}");
}

/// A program that wraps the tool can follow a run, and gets the summary at its end.
#[test]
fn events_tell_what_happens_as_json_lines() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write("feed.csv", CSV);
    let ran = nightly(&bench, &api, &["--events", "-", "--no-progress", "-v"]).exits(1);
    let to_file = nightly(&bench, &api, &["--events", "e.jsonl", "--dry-run"]).exits(1);
    assert!(to_file.stdout.contains("Plan:"), "{}", to_file.stdout);
    for (text, updated) in [
        (ran.stdout, "updated"),
        (bench.read("e.jsonl"), "unchanged"),
    ] {
        let events: Vec<serde_json::Value> = (text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(events.iter().all(|event| event["v"] == 1), "{text}");
        let at = |event: &serde_json::Value| event["at"].as_str().unwrap().to_owned();
        assert!(events.is_sorted_by_key(at), "{text}");
        assert_eq!(events[0]["event"], "started");
        assert_eq!(events[0]["rows"], 2);
        let rows: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "row")
            .collect();
        assert_eq!(rows.len(), 2);
        let first = rows.iter().find(|row| row["row"] == 1).unwrap();
        assert_eq!(
            (&first["outcome"], &first["email"]),
            (&updated.into(), &"user1@x.org".into())
        );
        let last = events.last().unwrap();
        assert_eq!(last["event"], "ended");
        assert_eq!(last["summary"]["exit_code"], 1);
        assert!(events.iter().any(|event| event["event"] == "progress"));
    }
    // Nobody listens any more: the run goes on.
    #[cfg(target_os = "linux")]
    {
        bench.write("other.csv", CSV.replace(",A", ",C"));
        let url = api.sandbox.url();
        let words = [
            "update",
            "other.csv",
            "--base-url",
            &url,
            "--yes",
            "--events",
            "/dev/full",
        ];
        bench.run(&words).exits(1);
        assert_eq!(api.member("user1@x.org").first_name, "C");
    }
}

/// Two nights of a job that an HR system feeds: the first has failures, and before the second the file was mended.
#[test]
fn two_nights_of_one_line() {
    let (api, bench, hook) = (Api::with_users(3), Bench::new(), Hook::start(&[200]));
    let night = |csv: &str| {
        bench.write("feed.csv", csv);
        let more = [
            "-q",
            "--notify-url",
            &hook.url,
            "--notify-on",
            "change",
            "--metrics-file",
            "m.prom",
        ];
        nightly(&bench, &api, &more)
    };
    let first =
        night("Email,First Name\nuser1@x.org,A\nnobody@x.org,B\nuser2@x.org,\u{fffd}\n").exits(1);
    // The mail of the first morning.
    for text in [
        "exit code 1",
        "1 × not_found",
        "1 × invalid",
        "line 3",
        "failed.csv",
    ] {
        assert!(first.stderr.contains(text), "{text}: {}", first.stderr);
    }
    assert!(bench.read("m.prom").contains("outcome=\"invalid\"} 1"));
    assert_eq!(hook.bodies()[0]["exit_code"], 1);
    // The job is started once more in the same night, by mistake: nothing is sent, and nobody is notified.
    let again =
        night("Email,First Name\nuser1@x.org,A\nnobody@x.org,B\nuser2@x.org,\u{fffd}\n").exits(1);
    assert!(again.stderr.contains("was run already"), "{}", again.stderr);
    assert_eq!(hook.bodies().len(), 1);
    let second = night("Email,First Name\nuser1@x.org,A\nuser3@x.org,B\nuser2@x.org,C\n").exits(0);
    assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("", ""));
    assert_eq!(api.member("user2@x.org").first_name, "C");
    assert_eq!(hook.bodies()[1]["exit_code"], 0);
    let metrics = bench.read("m.prom");
    assert!(
        metrics.contains("sigma_bulk_exit_code{profile=\"\",organization="),
        "{metrics}"
    );
    assert!(
        metrics.contains("sigma_bulk_last_success_timestamp_seconds"),
        "{metrics}"
    );
}
