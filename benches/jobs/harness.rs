//! Runs the tool and the sandbox as processes, measures them, and collects the goals.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_sigma-bulk");
/// Linux clock ticks per second, the unit of CPU times in `/proc`. It is 100 on all current machines.
const TICKS: f64 = 100.0;

/// Returns a description of the date and the machine.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    format!("{date} · {model}, {cores} cores")
}

/// Returns the CPU time, in seconds, of this process and of its terminated children.
pub(crate) fn processor() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields start after the name in parentheses, which may contain spaces. State is field 3, utime is
    // field 14 and cutime is field 16.
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

/// Returns the peak memory of a process so far, in MiB.
fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// A sandbox in a separate process.
pub(crate) struct Sandbox {
    child: Child,
    pub(crate) url: String,
}

impl Sandbox {
    pub(crate) fn start(members: usize, more: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let mut child = Command::new(TOOL)
            .args(["sandbox", "--port", &port.to_string()])
            .args(["--members", &members.to_string()])
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

/// The measurements of one job: times in seconds, and peak memory in MiB (0 if not measured).
pub(crate) struct Took {
    pub(crate) wall: f64,
    pub(crate) processor: f64,
    pub(crate) peak: f64,
    /// The tool's summary.json, or null for other programs.
    pub(crate) summary: Value,
}

impl Took {
    /// Returns the CPU time per row, in microseconds.
    pub(crate) fn per_row(&self, rows: usize) -> f64 {
        self.processor / rows as f64 * 1e6
    }
}

/// A temporary directory for input files and runs.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    runs: u32,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            runs: 0,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a CSV that changes the first `rows` members of the sandbox.
    pub(crate) fn csv(&self, rows: usize, word: &str) -> PathBuf {
        self.csv_of(1..=rows, word)
    }

    /// Writes a CSV that changes the given members of the sandbox.
    pub(crate) fn csv_of(&self, members: impl Iterator<Item = usize>, word: &str) -> PathBuf {
        let path = self.path(&format!("{word}.csv"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        writeln!(file, "Email,First Name").expect("written");
        for n in members {
            writeln!(file, "user{n:06}@example.com,{word}{n}").expect("written");
        }
        path
    }

    fn command(&self, url: &str, csv: &Path, run_dir: &Path) -> Command {
        let mut command = Command::new(TOOL);
        command
            .arg("update")
            .arg(csv)
            .args(["--base-url", url, "--quiet", "--json", "--yes"])
            .arg("--lock-dir")
            .arg(self.path("locks"))
            .arg("--run-dir")
            .arg(run_dir)
            .env("SIGMA_CLIENT_ID", "bench")
            .env("SIGMA_CLIENT_SECRET", "bench");
        command
    }

    /// Runs an update to completion and measures it.
    pub(crate) fn update(&mut self, url: &str, csv: &Path, more: &[&str]) -> Took {
        self.runs += 1;
        let run_dir = self.path(&format!("run{}", self.runs));
        let before = processor().1;
        let start = Instant::now();
        let mut child = self
            .command(url, csv, &run_dir)
            .args(more)
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
        let summary = std::fs::read(run_dir.join("summary.json")).expect("a summary");
        Took {
            wall,
            processor: processor().1 - before,
            peak: highest,
            summary: serde_json::from_slice(&summary).expect("JSON"),
        }
    }

    /// Returns the id of the first member that the first run changed.
    pub(crate) fn member_id(&self) -> String {
        let results = std::fs::read_to_string(self.path("run1/results.csv")).expect("results");
        let first = results.lines().nth(1).expect("a row");
        first.split(',').nth(3).expect("an id").to_owned()
    }

    /// Returns the milliseconds from the process start to its first connection, for a CSV of 1,000 rows.
    pub(crate) fn start_up(&self, number: u32) -> f64 {
        let csv = self.csv(1_000, "start");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let run_dir = self.path(&format!("start{number}"));
        let start = Instant::now();
        let mut child = self
            .command(&url, &csv, &run_dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tool starts");
        let _connection = listener.accept().expect("it connects");
        let time = start.elapsed().as_secs_f64();
        let _ = child.kill();
        let _ = child.wait();
        time * 1000.0
    }
}

/// The project's goals, the measured values, and whether each goal is met.
#[derive(Default)]
pub(crate) struct Goals(Vec<(String, String, bool)>);

impl Goals {
    pub(crate) fn add(&mut self, goal: &str, measured: String, is_met: bool) {
        self.0.push((goal.to_owned(), measured, is_met));
    }

    pub(crate) fn print(&self) {
        println!("\n### Goals\n\n| goal | measured | |\n|---|---|---|");
        for (goal, measured, is_met) in &self.0 {
            let mark = if *is_met { "met" } else { "**not met**" };
            println!("| {goal} | {measured} | {mark} |");
        }
    }
}
