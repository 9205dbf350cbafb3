//! What a row costs: processor time, memory, and the start.

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
    println!("| job | rows | rows/s | processor µs/row | peak MiB | beside |");
    println!("|---|---:|---:|---:|---:|---|");
}

/// The whole way of a row beside the bare request.
pub(crate) fn a_row(bench: &mut Bench, goals: &mut Goals) {
    head("What a row costs");
    let sandbox = Sandbox::start(ROWS, &[]);
    let csv = bench.csv(ROWS, "A");
    let tool = bench.update(&sandbox.url, &csv, &AS_FAST_AS_CAN_BE);
    let (id, token) = (bench.member_id(), token(&sandbox));
    let bare = bare_reqwest(&sandbox, &id, &token, ROWS, 32);
    let wrk = wrk(bench, &sandbox, &id, &token);
    if let Some((took, count)) = &wrk {
        line(
            "wrk, the same update: the sandbox by itself",
            *count,
            took,
            "1.0 × wrk",
        );
    }
    let per_wrk = wrk.map(|(took, count)| took.per_row(count));
    let beside = |took: &Took| {
        let reqwest = format!(
            "{:.2} × bare reqwest",
            took.per_row(ROWS) / bare.per_row(ROWS)
        );
        match per_wrk {
            Some(wrk) => format!("{reqwest}, {:.1} × wrk", took.per_row(ROWS) / wrk),
            None => reqwest,
        }
    };
    line("bare reqwest, the same update", ROWS, &bare, &beside(&bare));
    line("sigma-bulk, 32 at once", ROWS, &tool, &beside(&tool));
    let again = bench.update(&sandbox.url, &csv, &AS_FAST_AS_CAN_BE);
    line(
        "sigma-bulk, all unchanged",
        ROWS,
        &again,
        "no update is sent",
    );
    let few = 10_000;
    let csv = bench.csv(few, "B");
    let one = bench.update(&sandbox.url, &csv, &["--rate", "0", "--concurrency", "1"]);
    let faster = (ROWS as f64 / tool.wall) / (few as f64 / one.wall);
    line(
        "sigma-bulk, one by one",
        few,
        &one,
        &format!("32 at once are {faster:.1} × as fast"),
    );
    if let Some(wrk) = per_wrk {
        let times = tool.per_row(ROWS) / wrk;
        goals.add(
            "the whole way of a row takes at most 2.0 times wrk's processor time for the bare PATCH",
            format!(
                "{times:.1} times; bare reqwest alone {:.1} times",
                bare.per_row(ROWS) / wrk
            ),
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

/// The same updates by reqwest alone, on a runtime like the tool's. It needs a run of the tool before, for an id.
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

/// The same updates by wrk, if it is there, and how many it sent.
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

/// Where memory goes.
pub(crate) fn memory(bench: &mut Bench, goals: &mut Goals) {
    head("Over an organization of 1,000,000 members, which is listed");
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

/// How long it takes to begin.
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
