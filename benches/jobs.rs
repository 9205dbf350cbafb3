//! Whole jobs against the sandbox, side by side in one run: `cargo bench --bench jobs`.
//!
//! Prints a table in Markdown. The machine may be shared and noisy, so that what counts are the ratios: the tool
//! beside one-by-one processing, a bare reqwest loop, and wrk (if it is installed), all sending the same update to
//! the same sandbox, which is another process. Processor times and peaks of memory are Linux' (`/proc`). With
//! `-- --large`, a million rows over an organization of a million as well.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "it is a benchmark"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;

const TOOL: &str = env!("CARGO_BIN_EXE_sigma-bulk");
/// Linux' clock ticks a second, by which `/proc` counts: 100 on every machine of today.
const TICKS: f64 = 100.0;

/// Seconds of processor time of this process, and of its children that ended.
fn processor() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses, which may hold blanks: state is field 3, utime 14, cutime 16.
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let at = |field: usize| fields.get(field - 3).copied().unwrap_or(0.0) / TICKS;
    (at(14) + at(15), at(16) + at(17))
}

/// A process' peak of memory so far, in MiB.
fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

struct Sandbox {
    child: Child,
    url: String,
}

impl Sandbox {
    fn start(members: usize, more: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a port")
            .port();
        let mut child = Command::new(TOOL)
            .args([
                "sandbox",
                "--port",
                &port.to_string(),
                "--members",
                &members.to_string(),
            ])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("piped"))
            .read_line(&mut line)
            .expect("it says that it serves");
        Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    dir: tempfile::TempDir,
    runs: u32,
    table: String,
}

/// What one job took.
struct Took {
    wall: f64,
    processor: f64,
    peak: f64,
}

impl Bench {
    /// A CSV that changes `rows` of the sandbox's members.
    fn csv(&self, rows: usize, word: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{word}-{rows}.csv"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        writeln!(file, "Email,First Name").expect("written");
        for n in 1..=rows {
            writeln!(file, "user{n:06}@example.com,{word}{n}").expect("written");
        }
        path
    }

    fn update(&mut self, sandbox: &Sandbox, csv: &Path, more: &[&str]) -> Took {
        self.runs += 1;
        let before = processor().1;
        let start = Instant::now();
        let mut child = Command::new(TOOL)
            .arg("update")
            .arg(csv)
            .args([
                "--base-url",
                &sandbox.url,
                "--quiet",
                "--json",
                "--yes",
                "--lock-dir",
            ])
            .arg(self.dir.path().join("locks"))
            .arg("--run-dir")
            .arg(self.dir.path().join(format!("run{}", self.runs)))
            .args(more)
            .env("SIGMA_CLIENT_ID", "bench")
            .env("SIGMA_CLIENT_SECRET", "bench")
            .stdout(Stdio::null())
            .spawn()
            .expect("the tool starts");
        let mut highest = 0.0_f64;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break status;
            }
            highest = highest.max(peak(child.id()).unwrap_or(0.0));
            std::thread::sleep(Duration::from_millis(2));
        };
        let wall = start.elapsed().as_secs_f64();
        assert!(status.success(), "the job failed: {status}");
        Took {
            wall,
            processor: processor().1 - before,
            peak: highest,
        }
    }

    fn line(&mut self, name: &str, rows: usize, took: &Took, beside: &str) {
        let rows = rows as f64;
        let line = format!(
            "| {name} | {rows} | {:.0} | {:.1} | {} | {beside} |",
            rows / took.wall,
            took.processor / rows * 1e6,
            if took.peak > 0.0 {
                format!("{:.1}", took.peak)
            } else {
                "—".to_owned()
            },
        );
        println!("{line}");
        let _ = writeln!(self.table, "{line}");
    }
}

fn member_id(bench: &Bench) -> String {
    let results = std::fs::read_to_string(bench.dir.path().join("run1/results.csv"))
        .expect("the first run's results");
    results
        .lines()
        .nth(1)
        .and_then(|line| line.split(',').nth(3))
        .expect("a member's id")
        .to_owned()
}

fn token(sandbox: &Sandbox) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
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
        let token: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        token
            .get("access_token")
            .and_then(|token| token.as_str())
            .expect("a token")
            .to_owned()
    })
}

/// The same updates by reqwest alone, on a runtime like the tool's.
fn bare_reqwest(sandbox: &Sandbox, id: &str, token: &str, requests: usize, at_once: usize) -> Took {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let before = processor().0;
    let start = Instant::now();
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .tcp_nodelay(true)
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
    }
}

/// The same updates by wrk, if it is there, and how many it sent.
fn wrk(bench: &Bench, sandbox: &Sandbox, id: &str, token: &str) -> Option<(Took, usize)> {
    let script = bench.dir.path().join("wrk.lua");
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
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("requests in"))?;
    Some((took, line.split_whitespace().next()?.parse().ok()?))
}

/// From the start of the process to its first request.
fn start_up(bench: &Bench) -> f64 {
    let csv = bench.csv(1_000, "start");
    let mut times: Vec<f64> = (0..9)
        .map(|n| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let start = Instant::now();
            let mut child = Command::new(TOOL)
                .arg("update")
                .arg(&csv)
                .args(["--base-url", &url, "--quiet", "--run-dir"])
                .arg(bench.dir.path().join(format!("start{n}")))
                .env("SIGMA_CLIENT_ID", "bench")
                .env("SIGMA_CLIENT_SECRET", "bench")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the tool starts");
            let _connection = listener.accept().expect("it connects");
            let time = start.elapsed().as_secs_f64();
            let _ = child.kill();
            let _ = child.wait();
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0) * 1000.0
}

fn main() {
    let large = std::env::args().any(|arg| arg == "--large");
    // The bare reqwest's TLS, which nobody uses here, must have a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut bench = Bench {
        dir: tempfile::tempdir().expect("a directory"),
        runs: 0,
        table: String::new(),
    };
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!(
        "{} · {model}, {cores} cores\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d")
    );
    println!("| job | rows | rows/s | processor µs/row | peak MiB | beside |");
    println!("|---|---:|---:|---:|---:|---|");

    without_latency(&mut bench);
    with_latency(&mut bench);
    if large {
        a_million(&mut bench);
    }
    println!(
        "\nFrom start to first request: {:.1} ms (median of 9, 1,000 rows)",
        start_up(&bench)
    );
}

/// What a row costs.
fn without_latency(bench: &mut Bench) {
    let sandbox = Sandbox::start(100_000, &[]);
    let csv = bench.csv(100_000, "A");
    let tool = bench.update(&sandbox, &csv, &["--rate", "0", "--concurrency", "32"]);
    let (id, token) = (member_id(bench), token(&sandbox));
    let bare = bare_reqwest(&sandbox, &id, &token, 100_000, 32);
    let per_wrk = wrk(bench, &sandbox, &id, &token).map(|(took, count)| {
        bench.line("wrk, the same update", count, &took, "1.0 × wrk");
        took.processor / count as f64
    });
    let times = |took: &Took, rows: f64| {
        let own = took.processor / rows;
        let wrk = per_wrk
            .map(|wrk| format!(", {:.1} × wrk", own / wrk))
            .unwrap_or_default();
        format!(
            "{:.2} × bare reqwest{wrk}",
            own / (bare.processor / 100_000.0)
        )
    };
    bench.line(
        "bare reqwest, the same update",
        100_000,
        &bare,
        &times(&bare, 100_000.0),
    );
    bench.line(
        "sigma-bulk, 32 at once",
        100_000,
        &tool,
        &times(&tool, 100_000.0),
    );
    let again = bench.update(&sandbox, &csv, &["--rate", "0", "--concurrency", "32"]);
    bench.line(
        "sigma-bulk, all unchanged",
        100_000,
        &again,
        "no update is sent",
    );
    let csv = bench.csv(10_000, "B");
    let one = bench.update(&sandbox, &csv, &["--rate", "0", "--concurrency", "1"]);
    let faster = (100_000.0 / tool.wall) / (10_000.0 / one.wall);
    bench.line(
        "one by one",
        10_000,
        &one,
        &format!("32 at once are {faster:.1} × as fast"),
    );
}

/// How much of the latency is hidden.
fn with_latency(bench: &mut Bench) {
    let sandbox = Sandbox::start(10_000, &["--latency", "50ms"]);
    let mut run = |rows: usize, word: &str| {
        let csv = bench.csv(rows, word);
        bench.update(&sandbox, &csv, &["--rate", "0", "--concurrency", "32"])
    };
    // The difference of two runs has neither the start nor the listing in it.
    let (short, tool) = (run(1_600, "C"), run(8_000, "D"));
    let reached = 6_400.0 / (tool.wall - short.wall) / (32.0 / 0.05) * 100.0;
    bench.line(
        "50 ms of latency, 32 at once",
        8_000,
        &tool,
        &format!("{reached:.1} % of 32 / 50 ms, once it runs"),
    );
    let csv = bench.csv(100, "F");
    let one = bench.update(&sandbox, &csv, &["--rate", "0", "--concurrency", "1"]);
    let faster = (8_000.0 / tool.wall) / (100.0 / one.wall);
    bench.line(
        "50 ms of latency, one by one",
        100,
        &one,
        &format!("32 at once are {faster:.0} × as fast"),
    );
}

/// Where memory goes.
fn a_million(bench: &mut Bench) {
    let sandbox = Sandbox::start(1_000_000, &[]);
    for rows in [1_000, 100_000, 1_000_000] {
        let csv = bench.csv(rows, "E");
        let result = bench.update(
            &sandbox,
            &csv,
            &[
                "--rate",
                "0",
                "--concurrency",
                "32",
                "--lookup",
                "directory",
            ],
        );
        bench.line(
            "over 1,000,000 members",
            rows,
            &result,
            "the organization is listed",
        );
    }
}
