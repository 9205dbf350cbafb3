//! Measures how fully the tool uses a concurrency limit, a given rate, and a rate limit it has to discover.

use std::time::Duration;

use serde_json::Value;
use sigma_bulk::sandbox::{self, Config, Population};

use crate::cost::bare;
use crate::harness::{Bench, Goals, Sandbox, Took};

/// Measures the throughput as a share of C/L, for concurrency C and latency L. L is the measured time of
/// one request, because the sandbox's timers are slightly late.
pub(crate) fn latency(bench: &mut Bench, goals: &mut Goals) {
    const AT_ONCE: usize = 32;
    let sandbox = Sandbox::start(10_000, &["--latency", "50ms"]);
    let mut run = |rows: usize, word: &str, at_once: usize| {
        let csv = bench.csv(rows, word);
        let at_once = at_once.to_string();
        let more = [
            "--rate",
            "0",
            "--lookup",
            "directory",
            "--concurrency",
            &at_once,
        ];
        bench.update(&sandbox.url, &csv, &more).wall
    };
    // The difference of two runs excludes the start, the listing and the connection setup.
    let (short, long, one) = (
        run(1_600, "C", AT_ONCE),
        run(8_000, "D", AT_ONCE),
        run(100, "F", 1),
    );
    let reqwest = |requests: usize, at_once: usize| bare(bench, &sandbox, requests, at_once).wall;
    let latency = (reqwest(110, 1) - reqwest(10, 1)) / 100.0;
    let bare = 6_400.0 / (reqwest(7_040, AT_ONCE) - reqwest(640, AT_ONCE));
    let tool = 6_400.0 / (long - short);
    let at_most = AT_ONCE as f64 / latency;
    println!(
        "\n### {:.1} ms of latency, {AT_ONCE} at once: {at_most:.0} requests a second at most\n",
        latency * 1e3
    );
    println!("| | requests/s | of these |\n|---|---:|---:|");
    for (name, rate) in [
        ("bare reqwest", bare),
        ("sigma-bulk, once it runs", tool),
        (
            "sigma-bulk, start and listing of 10,000 members included",
            8_000.0 / long,
        ),
        ("sigma-bulk, one by one", 100.0 / one),
    ] {
        println!("| {name} | {rate:.0} | {:.1} % |", rate / at_most * 100.0);
    }
    goals.add(
        "with concurrency C and latency L, at least 97% of C/L requests a second",
        format!("{:.1}%", tool / at_most * 100.0),
        tool / at_most >= 0.97,
    );
}

/// Returns the lowest and the highest number of times in any window of this length that starts at one of
/// the times and ends by the last one. `times` must be sorted.
fn windows(times: &[f64], length: f64) -> (usize, usize) {
    let last = times.last().copied().unwrap_or(0.0);
    let counts: Vec<usize> = times
        .iter()
        .filter(|from| **from + length <= last)
        .map(|from| {
            times.partition_point(|t| *t < from + length) - times.partition_point(|t| t < from)
        })
        .collect();
    let fewest = counts.iter().min().copied().unwrap_or(0);
    (fewest, counts.iter().max().copied().unwrap_or(0))
}

/// Measures how closely the tool keeps to `--rate`.
pub(crate) fn rate(bench: &mut Bench, goals: &mut Goals) {
    const RATE: usize = 200;
    let config = Config {
        population: Population::Generated(5_000),
        record_patches: true,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let api = runtime
        .block_on(sandbox::Sandbox::start(([127, 0, 0, 1], 0).into(), config))
        .expect("it starts");
    let csv = bench.csv(RATE * 22, "G");
    bench.update(&api.url(), &csv, &["--rate", &RATE.to_string()]);
    let times: Vec<f64> = api
        .stats()
        .arrivals
        .iter()
        .map(Duration::as_secs_f64)
        .collect();
    let (fewest, most) = windows(&times, 10.0);
    let (_, burst) = windows(&times, 0.001);
    let begin = times.first().copied().unwrap_or(0.0);
    let first = times.partition_point(|t| *t < begin + 1.0);
    goals.add(
        "`--rate R`: over any 10 s within 1%, no burst beyond a tenth of a second's, the first second no faster",
        format!(
            "`--rate {RATE}`: {fewest} to {most} in any 10 s, {first} in the first second, {burst} within any millisecond"
        ),
        fewest.abs_diff(RATE * 10) <= RATE / 10
            && most.abs_diff(RATE * 10) <= RATE / 10
            && first <= RATE + RATE / 100 + 1
            && burst <= RATE / 10 + 1,
    );
}

/// Measures how well the tool discovers unknown rate limits, in real time. (src/pace/simulation.rs runs an
/// hour of each in virtual time.)
pub(crate) fn limits(bench: &mut Bench) {
    println!(
        "\n### Limits that it is not told, each for a minute of real time, the discovery included\n"
    );
    println!("| limit | accepted/s | of the limit | refused |\n|---|---:|---:|---:|");
    let cases: [(usize, &str, &[&str]); 6] = [
        (20, "20/s, a bucket of 5", &["--burst", "5"]),
        (
            50,
            "50/s, windows of 10 s, told",
            &["--window", "10s", "--retry-after", "seconds"],
        ),
        (100, "100/s, a bucket of 100", &[]),
        (100, "100/s, windows of 1 s", &["--window", "1s"]),
        (
            400,
            "400/s, a bucket of 40, told",
            &["--burst", "40", "--retry-after", "seconds"],
        ),
        (1_000, "1,000/s, a bucket of 1,000", &[]),
    ];
    for (limit, name, more) in cases {
        let per_second = limit.to_string();
        let flags = [&["--latency", "20ms", "--rate-limit", &per_second], more].concat();
        let took = minute(bench, limit, &flags);
        limit_line(name, limit as f64, &took);
    }
    let took = minute(bench, 100, &["--latency", "50ms", "--max-concurrent", "5"]);
    limit_line("5 at once, 50 ms of latency: 100/s at best", 100.0, &took);
}

/// Runs an update with as many rows as the limit allows in a minute.
fn minute(bench: &mut Bench, limit: usize, flags: &[&str]) -> Took {
    const SECONDS: usize = 60;
    let rows = limit * SECONDS;
    let sandbox = Sandbox::start(rows, flags);
    let csv = bench.csv(rows, "H");
    bench.update(&sandbox.url, &csv, &["--concurrency", "64"])
}

fn limit_line(name: &str, limit: f64, took: &Took) {
    let answered = |status: &str| {
        let path = format!("/requests/by_status/{status}");
        took.summary
            .pointer(&path)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    };
    let seconds = took.summary.get("elapsed_seconds").and_then(Value::as_f64);
    let accepted = answered("200") / seconds.unwrap_or(f64::INFINITY);
    println!(
        "| {name} | {accepted:.1} | {:.1} % | {:.2} % |",
        accepted / limit * 100.0,
        answered("429") / (answered("200") + answered("429")) * 100.0
    );
}
