//! Test helpers: start the sandbox on its own thread, run the built binary, and read the files of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sigma_bulk::sandbox::{Config, Faults, Member, Population, Sandbox, Stats};
use tempfile::TempDir;

/// The client secret of all runs. No file and no output may contain it.
pub(crate) const SECRET: &str = "s3cr3t-of-the-tests";

/// A sandbox that runs until it is dropped.
pub(crate) struct Api {
    pub(crate) sandbox: Arc<Sandbox>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Api {
    pub(crate) fn start(config: Config) -> Self {
        let runtime = background_runtime();
        let sandbox = runtime
            .block_on(Sandbox::start(([127, 0, 0, 1], 0).into(), config))
            .unwrap();
        Self {
            sandbox: Arc::new(sandbox),
            runtime: Some(runtime),
        }
    }

    /// Starts a sandbox with these members.
    pub(crate) fn with(members: impl IntoIterator<Item = Member>) -> Self {
        Self::start(Config {
            population: Population::Members(members.into_iter().collect()),
            record_patches: true,
            ..Config::default()
        })
    }

    /// Starts a sandbox with `count` members, from `user1@x.org` on, that differ only in id and email.
    pub(crate) fn with_users(count: usize) -> Self {
        Self::with((1..=count).map(user))
    }

    pub(crate) fn faults(self, faults: Faults) -> Self {
        self.sandbox.set_faults(faults);
        self
    }

    pub(crate) fn stats(&self) -> Stats {
        self.sandbox.stats()
    }

    /// Waits until `holds` is true for the requests that the sandbox received.
    #[track_caller]
    pub(crate) fn wait_until(&self, holds: impl Fn(&Stats) -> bool) {
        wait_until("the sandbox receives the requests", || holds(&self.stats()));
    }

    pub(crate) fn member(&self, email: &str) -> Member {
        self.sandbox
            .member_by_email(email)
            .unwrap_or_else(|| panic!("no member has the email {email}"))
    }

    /// Returns all members by id.
    pub(crate) fn state(&self) -> BTreeMap<String, Member> {
        self.sandbox
            .members()
            .into_iter()
            .map(|member| (member.member_id.clone(), member))
            .collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns a runtime with a thread of its own, and a listener on a free port, for a test's own server.
pub(crate) fn listening() -> (tokio::runtime::Runtime, tokio::net::TcpListener) {
    let runtime = background_runtime();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    (runtime, listener)
}

fn background_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until `holds` is true. Panics after a minute, so that a test cannot hang.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "timed out after a minute: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns a CSV that gives `user1@x.org` to `user<count>@x.org` new first names.
pub(crate) fn many(count: usize) -> String {
    let rows: String = (1..=count)
        .map(|n| format!("user{n}@x.org,New{n}\n"))
        .collect();
    format!("Email,First Name\n{rows}")
}

/// Returns the member `user<n>@x.org`.
pub(crate) fn user(n: usize) -> Member {
    Member {
        member_id: format!("id{n}"),
        email: format!("user{n}@x.org"),
        first_name: "First".to_owned(),
        last_name: "Last".to_owned(),
        member_type: "Viewer".to_owned(),
        ..Member::default()
    }
}

/// A temporary directory in which a test runs the binary.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write_private(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, bytes);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let permissions = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, permissions).unwrap();
        }
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Returns a command for the binary with a clean environment, so that the machine's settings don't apply.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sigma-bulk"));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.dir.path())
            .envs(self.windows())
            .env("SIGMA_CLIENT_ID", "id-of-the-tests")
            .env("SIGMA_CLIENT_SECRET", SECRET)
            .stdin(Stdio::null());
        command
    }

    /// Returns what stands for the home directory on Windows, and what programs need there to start.
    fn windows(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        if !cfg!(windows) {
            return Vec::new();
        }
        let own = ["USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP"].into_iter();
        own.map(|name| (name, self.dir.path().into()))
            // Git Bash, so that suggested commands are quoted as elsewhere.
            .chain([("MSYSTEM", "MINGW64".into())])
            .chain(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .collect()
    }

    /// Runs `sigma-bulk` with these arguments until it exits.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        // Wine can't start a process now and then.
        const ERROR_INTERNAL_ERROR: i32 = 1359;
        let start = || self.command().args(words).output();
        let output = start().or_else(|error| match error.raw_os_error() {
            Some(ERROR_INTERNAL_ERROR) if cfg!(windows) => start(),
            _ => Err(error),
        });
        Ran::of(output.unwrap(), self)
    }

    /// Starts `sigma-bulk` with these arguments and does not wait for it.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command();
        command.args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        #[cfg(windows)]
        STARTED.lock().unwrap().push((child.id(), words.join(" ")));
        child
    }

    /// Returns the arguments for an update of `input.csv` against `url` without a rate limit.
    pub(crate) fn update_words<'w>(&self, url: &'w str, more: &[&'w str]) -> Vec<&'w str> {
        let mut words = vec![
            "update",
            "input.csv",
            "--base-url",
            url,
            "--rate",
            "0",
            "--run-dir",
            "run",
            "--retries",
            "1",
        ];
        words.extend(more);
        words
    }

    /// Updates the members of `api` from this CSV without a rate limit.
    pub(crate) fn update(&self, api: &Api, csv: impl AsRef<[u8]>, more: &[&str]) -> Ran {
        self.write("input.csv", csv);
        let url = api.sandbox.url();
        self.run(&self.update_words(&url, more))
    }

    /// Resumes the run of [`Bench::update`] without a rate limit.
    pub(crate) fn resume(&self, more: &[&str]) -> Ran {
        self.run(&[&["resume", "run", "--rate", "0"], more].concat())
    }

    /// Undoes the run of [`Bench::update`]. The undo's run directory is `undo`.
    pub(crate) fn undo(&self, more: &[&str]) -> Ran {
        let words = ["undo", "run", "--rate", "0", "--run-dir", "undo"];
        self.run(&[&words, more].concat())
    }
}

/// Sends a signal to the process. `signal` is an option of `kill`, such as `-INT`.
#[cfg(unix)]
pub(crate) fn send(child: &Child, signal: &str) {
    let words = [signal, &child.id().to_string()];
    assert!(Command::new("kill").args(words).status().unwrap().success());
}

/// The command lines of the processes that were started, by their ids.
#[cfg(windows)]
static STARTED: std::sync::Mutex<Vec<(u32, String)>> = std::sync::Mutex::new(Vec::new());

/// Sends a signal to the process. Under Wine, which is where tests run that send one, a process of Windows is one of Unix as
/// well, under another id, and SIGINT is its Ctrl-C.
#[cfg(windows)]
pub(crate) fn send(child: &Child, signal: &str) {
    let started = STARTED.lock().unwrap();
    let (_, words) = started.iter().find(|(id, _)| *id == child.id()).unwrap();
    let mut shell = Command::new(r"Z:\bin\sh");
    shell.args(["-c", "exec pkill \"$0\" -f -- \"$1\"", signal, words]);
    // Wine returns nothing by which a process of Unix could be waited for.
    let _ = shell.spawn();
}

/// The exit code and the output of a finished process.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output, bench: &Bench) -> Self {
        let ran = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(SECRET), "the secret is shown: {text}");
            let unsafe_ones = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(
                !text.contains(unsafe_ones),
                "the output contains a control character: {text:?}"
            );
            assert!(!text.contains("panicked"), "{text}");
        }
        no_secret_in(bench.dir.path());
        #[cfg(windows)]
        let ran = Self {
            stdout: with_slashes(&ran.stdout),
            stderr: with_slashes(&ran.stderr),
            ..ran
        };
        ran
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "\"{text}\" is not in stderr: {}",
            self.stderr
        );
        self
    }
}

/// Writes the paths of runs as other systems do.
#[cfg(windows)]
fn with_slashes(text: &str) -> String {
    let separator = regex::Regex::new(r"\b(runs?|b|two)\\+").unwrap();
    let text = separator.replace_all(text, "$1/");
    let quoted = regex::Regex::new(r"'((?:runs?|b|two)/[\w./-]+)'").unwrap();
    quoted.replace_all(&text, "$1").into_owned()
}

fn no_secret_in(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret_in(&path);
        } else if path.extension().is_none_or(|extension| extension != "toml") {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes());
            assert!(!found, "the secret is in {}", path.display());
        }
    }
}

/// One line of results.csv, by column.
pub(crate) type Line = BTreeMap<String, String>;

/// Reads a CSV file into one map per row. Its delimiter is the first one in its header.
pub(crate) fn lines(path: &Path) -> Vec<Line> {
    let bytes = std::fs::read(path).unwrap();
    let is_delimiter = |byte: &&u8| matches!(byte, b',' | b';' | b'|' | b'\t');
    let delimiter = bytes.iter().find(is_delimiter).copied();
    // Rows that were invalid in the input can have more cells than the header.
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .delimiter(delimiter.unwrap_or(b','))
        .from_path(path)
        .unwrap();
    let header = reader.headers().unwrap().clone();
    let pairs = |record: csv::StringRecord| {
        header
            .iter()
            .zip(record.iter())
            .map(|(name, cell)| (name.to_owned(), cell.to_owned()))
            .collect()
    };
    reader
        .records()
        .map(|record| pairs(record.unwrap()))
        .collect()
}

impl Bench {
    /// Reads results.csv of the run in `run`.
    pub(crate) fn results(&self) -> Vec<Line> {
        lines(&self.path("run/results.csv"))
    }

    /// Returns the outcomes of the rows, in order.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        self.results()
            .iter()
            .map(|line| line["Outcome"].clone())
            .collect()
    }

    /// Reads summary.json of the run in `run`.
    pub(crate) fn summary(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("run/summary.json")).unwrap()
    }

    /// Checks that `report` writes the same files as the run did. The run builds them from an index that it
    /// keeps while it writes the journal, and `report` from an index that it reads from the journal.
    #[track_caller]
    fn check_report(&self) {
        let files = ["results.csv", "failed.csv", "undo.csv"].map(|name| format!("run/{name}"));
        let read = || files.each_ref().map(|name| self.read(name));
        let kept = read();
        self.run(&["report", "run"]);
        assert_eq!(read(), kept, "report writes the same files as the run");
    }

    /// Checks that the files of the run in `run` are consistent, and returns the number of rows per outcome.
    #[track_caller]
    pub(crate) fn check_files(&self) -> BTreeMap<String, u64> {
        self.check_report();
        let summary = self.summary();
        let mut counts = BTreeMap::new();
        let results = self.results();
        for (index, line) in results.iter().enumerate() {
            assert_eq!(
                line["Row"],
                (index + 1).to_string(),
                "results.csv has each row once, in order"
            );
            *counts.entry(line["Outcome"].clone()).or_insert(0) += 1;
        }
        assert_eq!(summary["rows"], results.len());
        for (name, count) in summary["outcomes"].as_object().unwrap() {
            assert_eq!(
                counts.get(name).copied().unwrap_or(0),
                count.as_u64().unwrap(),
                "{name}"
            );
        }
        let failed = results.iter().filter(|line| {
            !["updated", "would_update", "unchanged", "empty"].contains(&line["Outcome"].as_str())
        });
        let shown: Vec<_> = lines(&self.path("run/failed.csv"))
            .iter()
            .map(|line| (line["Outcome"].clone(), line["Message"].clone()))
            .collect();
        let expected: Vec<_> = failed
            .map(|line| (line["Outcome"].clone(), line["Message"].clone()))
            .collect();
        assert_eq!(
            shown, expected,
            "failed.csv has exactly the rows that did not succeed"
        );
        counts
    }
}
