//! Measures the cost of a row in CPU time and memory, and the start-up time.

use std::process::Command;
use std::time::Instant;

use futures::StreamExt;
use serde_json::Value;

use crate::harness::{Bench, Goals, Sandbox, Took, processor};

const ROWS: usize = 100_000;
const AS_FAST_AS_CAN_BE: [&str; 4] = ["--rate", "0", "--concurrency", "32"];

fn line(name: &str, rows: usize, took: &Took, beside: &str) {
    let peak = if took.peak > 0.0 {
        format!("{:.1}", took.peak)
    } else {
        "—".to_owned()
    };
    println!(
        "| {name} | {rows} | {:.0} | {:.1} | {peak} | {beside} |",
        rows as f64 / took.wall,
        took.per_row(rows),
    );
}

fn head(title: &str) {
    println!("\n### {title}\n");
}

fn table_head() {
    println!("| job | rows | rows/s | processor µs/row | peak MiB | beside |");
    println!("|---|---:|---:|---:|---:|---|");
}

/// The number of rounds in which the compared programs alternate. Alternating evens out drift in machine
/// speed and in the cost of waking the server.
const ROUNDS: usize = 5;

/// The measurements of one job, one per round.
#[derive(Default)]
struct Rounds(Vec<(Took, usize)>);

impl Rounds {
    /// Returns the round with the median CPU time per row, and its number of rows.
    fn median(&self) -> Option<(&Took, usize)> {
        let mut rounds: Vec<_> = self.0.iter().collect();
        rounds.sort_by(|a, b| a.0.per_row(a.1).total_cmp(&b.0.per_row(b.1)));
        let (took, rows) = rounds.get(rounds.len() / 2)?;
        Some((took, *rows))
    }

    /// Returns the ratio of the CPU times per row, this job's to the other's: median, minimum and maximum.
    fn beside(&self, other: &Self) -> Option<[f64; 3]> {
        let mut times: Vec<f64> = (self.0.iter().zip(&other.0))
            .map(|((took, rows), (beside, others))| took.per_row(*rows) / beside.per_row(*others))
            .collect();
        times.sort_by(f64::total_cmp);
        Some([
            *times.get(times.len() / 2)?,
            *times.first()?,
            *times.last()?,
        ])
    }
}

/// Compares the cost of processing a row with that of the bare request.
pub(crate) fn a_row(bench: &mut Bench, goals: &mut Goals) {
    head("What a row costs");
    let sandbox = Sandbox::start(ROWS, &[]);
    let (mut tool, mut bare, mut wrk) = (Rounds::default(), Rounds::default(), Rounds::default());
    let token = token(&sandbox);
    let mut newest = None;
    for round in 0..ROUNDS {
        let csv = bench.csv(ROWS, &format!("A{round}-"));
        tool.0
            .push((bench.update(&sandbox.url, &csv, &AS_FAST_AS_CAN_BE), ROWS));
        let id = bench.member_id();
        bare.0
            .push((bare_reqwest(&sandbox, &id, &token, ROWS, 32), ROWS));
        wrk.0.extend(self::wrk(bench, &sandbox, &id, &token));
        newest = Some(csv);
    }
    println!("The median of {ROUNDS} rounds in which the three took turns.\n");
    table_head();
    if let Some((took, count)) = wrk.median() {
        let name = "wrk, the same update: the sandbox by itself";
        line(name, count, took, "1.0 × wrk");
    }
    let times = |rounds: &Rounds, other: &Rounds, name: &str| {
        let [median, from, to] = rounds.beside(other)?;
        Some(format!("{median:.2} × {name} ({from:.2} to {to:.2})"))
    };
    let beside = |all: &[Option<String>]| {
        let all: Vec<&str> = all.iter().flatten().map(String::as_str).collect();
        all.join(", ")
    };
    if let Some((took, rows)) = bare.median() {
        let beside = beside(&[times(&bare, &wrk, "wrk")]);
        line("bare reqwest, the same update", rows, took, &beside);
    }
    if let Some((took, rows)) = tool.median() {
        let beside = beside(&[
            times(&tool, &bare, "bare reqwest"),
            times(&tool, &wrk, "wrk"),
        ]);
        line("sigma-bulk, 32 at once", rows, took, &beside);
    }
    if let Some(csv) = newest {
        let again = bench.update(&sandbox.url, &csv, &AS_FAST_AS_CAN_BE);
        line(
            "sigma-bulk, all unchanged",
            ROWS,
            &again,
            "no update is sent",
        );
    }
    let few = 10_000;
    let csv = bench.csv(few, "B");
    let one = bench.update(&sandbox.url, &csv, &["--rate", "0", "--concurrency", "1"]);
    let at_once = tool
        .median()
        .map_or(f64::NAN, |(took, rows)| rows as f64 / took.wall);
    let faster = at_once / (few as f64 / one.wall);
    line(
        "sigma-bulk, one by one",
        few,
        &one,
        &format!("32 at once are {faster:.1} × as fast"),
    );
    if let (Some([times, ..]), Some([alone, ..])) = (tool.beside(&wrk), bare.beside(&wrk)) {
        goals.add(
            "the whole way of a row takes at most 2.0 times wrk's processor time for the bare PATCH",
            format!("{times:.1} times; bare reqwest alone {alone:.1} times"),
            times <= 2.0,
        );
    }
}

fn token(sandbox: &Sandbox) -> String {
    let runtime = runtime();
    runtime.block_on(async {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "b"),
            ("client_secret", "b"),
        ];
        let answer = reqwest::Client::new()
            .post(format!("{}/v2/auth/token", sandbox.url))
            .form(&form)
            .send()
            .await
            .expect("an answer");
        let body = answer.bytes().await.expect("a body");
        let token: Value = serde_json::from_slice(&body).expect("JSON");
        let token = token.get("access_token").and_then(Value::as_str);
        token.expect("a token").to_owned()
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Sends the same updates with reqwest alone, on a runtime like the tool's. The tool must have run before,
/// because a member id is read from its results.
pub(crate) fn bare(bench: &Bench, sandbox: &Sandbox, requests: usize, at_once: usize) -> Took {
    bare_reqwest(
        sandbox,
        &bench.member_id(),
        &token(sandbox),
        requests,
        at_once,
    )
}

fn bare_reqwest(sandbox: &Sandbox, id: &str, token: &str, requests: usize, at_once: usize) -> Took {
    let runtime = runtime();
    let before = processor().0;
    let start = Instant::now();
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("{}/v2/members/{id}", sandbox.url);
        futures::stream::iter(0..requests)
            .map(|n| {
                let request = client
                    .patch(&url)
                    .bearer_auth(token)
                    .header("content-type", "application/json")
                    .body(format!("{{\"firstName\":\"Bare{n}\"}}"));
                async move {
                    let answer = request.send().await.expect("an answer");
                    assert!(answer.status().is_success());
                    answer.bytes().await.expect("a body").len()
                }
            })
            .buffer_unordered(at_once)
            .fold(0, |sum, length| async move { sum + length })
            .await
    });
    Took {
        wall: start.elapsed().as_secs_f64(),
        processor: processor().0 - before,
        peak: 0.0,
        summary: Value::Null,
    }
}

/// Sends the same updates with wrk, if it is installed, and returns the number of requests.
fn wrk(bench: &Bench, sandbox: &Sandbox, id: &str, token: &str) -> Option<(Took, usize)> {
    let script = bench.path("wrk.lua");
    let lua = format!(
        "wrk.method = 'PATCH'\nwrk.path = '/v2/members/{id}'\nwrk.headers['Authorization'] = 'Bearer {token}'\n\
         wrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{{\"firstName\":\"Wrk\"}}'\n"
    );
    std::fs::write(&script, lua).ok()?;
    let before = processor().1;
    let start = Instant::now();
    let output = Command::new("wrk")
        .args(["-t1", "-c32", "-d4s", "-s"])
        .arg(&script)
        .arg(&sandbox.url)
        .output()
        .ok()?;
    let took = Took {
        wall: start.elapsed().as_secs_f64(),
        processor: processor().1 - before,
        peak: 0.0,
        summary: Value::Null,
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("requests in"))?;
    Some((took, line.split_whitespace().next()?.parse().ok()?))
}

/// Measures the peak memory for different numbers of rows.
pub(crate) fn memory(bench: &mut Bench, goals: &mut Goals) {
    head("Over an organization of 1,000,000 members, which is listed");
    table_head();
    let sandbox = Sandbox::start(1_000_000, &[]);
    let mut peaks = Vec::new();
    for rows in [1_000, ROWS, 1_000_000] {
        let csv = bench.csv(rows, "E");
        let more = [&AS_FAST_AS_CAN_BE[..], &["--lookup", "directory"]].concat();
        let took = bench.update(&sandbox.url, &csv, &more);
        line("sigma-bulk", rows, &took, "");
        peaks.push(took.peak);
    }
    let [few, some, all] = peaks[..] else { return };
    let measured = |peak: f64| format!("{peak:.0} MiB");
    goals.add(
        "1,000,000 rows over 1,000,000 members: at most 200 MiB",
        measured(all),
        all <= 200.0,
    );
    goals.add(
        "1,000 rows over 1,000,000 members: at most 40 MiB",
        measured(few),
        few <= 40.0,
    );
    goals.add(
        "1,000,000 rows end with the peak of 100,000, plus what the rows' keys need",
        format!(
            "{:.0} bytes for each further row",
            (all - some) * 1024.0 * 1024.0 / 900_000.0
        ),
        all - some <= 900_000.0 * 128.0 / 1024.0 / 1024.0,
    );
}

/// Measures the time from the start to the first request.
pub(crate) fn start_up(bench: &Bench, goals: &mut Goals) {
    let mut times: Vec<f64> = (0..9).map(|number| bench.start_up(number)).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(0.0);
    goals.add(
        "from the start to the first request: at most 20 ms",
        format!("{median:.1} ms (median of 9, 1,000 rows)"),
        median <= 20.0,
    );
}
