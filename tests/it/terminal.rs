//! What people see: the tool runs in a terminal, whose screen is read after all movements of the cursor.

use std::io::{Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::termios::{LocalModes, tcgetattr};
use sigma_bulk::sandbox::{Endpoint, Faults};

use crate::harness::{Api, Bench, SECRET, many, wait_until};

const ROWS: u16 = 40;

/// A terminal in which the tool runs.
struct Terminal {
    pty: std::sync::Arc<Pty>,
    child: Child,
    output: Receiver<Vec<u8>>,
    /// All that was written so far.
    bytes: Vec<u8>,
    screen: vt100::Parser,
    started: Instant,
}

impl Terminal {
    fn start(bench: &Bench, words: &[&str], columns: u16) -> Self {
        Self::start_with(bench, words, columns, &[])
    }

    /// Starts the tool with more environment variables.
    fn start_with(bench: &Bench, words: &[&str], columns: u16, more: &[(&str, &str)]) -> Self {
        let (pty, slave) = open().unwrap();
        pty.resize(Size::new(ROWS, columns)).unwrap();
        let template = bench.command();
        let variables = template.get_envs();
        let child = Command::new(template.get_program())
            .args(words)
            .current_dir(bench.dir.path())
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "xterm-256color")
            .envs(more.iter().copied())
            .spawn(slave)
            .unwrap();
        let pty = std::sync::Arc::new(pty);
        let (sender, output) = channel();
        let reader = pty.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // It fails when the tool has ended.
            while let Ok(length @ 1..) = (&*reader).read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            pty,
            child,
            output,
            bytes: Vec::new(),
            screen: vt100::Parser::new(ROWS, columns, 0),
            started: Instant::now(),
        }
    }

    /// Reads what the tool writes next. Returns false if it has ended.
    fn reads_more(&mut self) -> bool {
        let end = Duration::from_secs(60).saturating_sub(self.started.elapsed());
        match self.output.recv_timeout(end) {
            Ok(bytes) => {
                self.screen.process(&bytes);
                self.bytes.extend(bytes);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => panic!("still runs after a minute: {}", self.text()),
        }
    }

    /// Reads what the tool writes until `holds`. Each state of the screen is shown to `each`.
    fn watch(&mut self, holds: impl Fn(&Self) -> bool, mut each: impl FnMut(&vt100::Screen)) {
        while !holds(self) {
            assert!(self.reads_more(), "it has ended: {}", self.text());
            each(self.screen.screen());
        }
    }

    /// Reads what the tool writes until this text is on the screen.
    fn until(&mut self, text: &str) {
        self.watch(|terminal| terminal.text().contains(text), |_| ());
    }

    /// Reads what the tool writes until this question is on the screen and reads keys. What is typed before is lost.
    fn until_question(&mut self, text: &str) {
        self.until(text);
        wait_until("the question reads keys", || {
            let modes = tcgetattr(&*self.pty).unwrap().local_modes;
            !modes.contains(LocalModes::ECHO)
        });
    }

    /// Waits for the question before a run, to its last character, so that the answer stands behind it.
    fn until_asked(&mut self) {
        self.watch(|terminal| terminal.bytes.ends_with(b"[y/N] "), |_| ());
    }

    /// Returns what is on the screen.
    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    fn types(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Reads what the tool writes until it ends. Each state of the screen is shown to `each`.
    fn watch_to_end(&mut self, mut each: impl FnMut(&vt100::Screen)) {
        while self.reads_more() {
            each(self.screen.screen());
        }
    }

    /// Returns the exit code, the last screen, and all that was written.
    fn ends(mut self) -> (Option<i32>, String, Vec<u8>) {
        self.watch_to_end(|_| ());
        let code = self.child.wait().unwrap().code();
        let text = self.text();
        assert!(!text.contains(SECRET), "the secret is shown: {text}");
        (code, text, self.bytes)
    }
}

/// Returns the one row of the screen that is so, if there is any. It must fit the width.
fn only_row(screen: &vt100::Screen, is_so: impl Fn(&str) -> bool) -> Option<String> {
    let columns = screen.size().1;
    let rows: Vec<String> = screen.rows(0, columns).collect();
    let found: Vec<usize> = (0..rows.len()).filter(|row| is_so(&rows[*row])).collect();
    assert!(found.len() <= 1, "at {columns} columns: {rows:#?}");
    let row = *found.first()?;
    let is_wrapped = screen.row_wrapped(u16::try_from(row).unwrap());
    assert!(!is_wrapped, "at {columns} columns: {rows:#?}");
    Some(rows[row].clone())
}

/// Starts an update that is slow enough to be seen.
fn slow(columns: u16) -> (Api, Bench, Terminal) {
    let (api, bench) = (Api::with_users(60), Bench::new());
    let api = api.faults(Faults {
        latency: Duration::from_millis(20),
        ..Faults::default()
    });
    bench.write("input.csv", many(63));
    let url = api.sandbox.url();
    let words = bench.update_words(&url, &["--concurrency", "2", "--yes"]);
    let terminal = Terminal::start(&bench, &words, columns);
    (api, bench, terminal)
}

/// The question before a run and the summary after it.
#[test]
fn a_run_is_asked_for_and_summed_up_at_each_width() {
    for columns in [80, 110] {
        let (api, bench) = (Api::with_users(30), Bench::new());
        bench.write("input.csv", many(30) + "user2@x.org,Again\n");
        let url = api.sandbox.url();
        let words = bench.update_words(&url, &["--concurrency", "1"]);
        let mut terminal = Terminal::start(&bench, &words, columns);
        terminal.until_asked();
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
        terminal.types("y\r");
        let (code, text, _) = terminal.ends();
        assert_eq!(code, Some(1), "{text}");
        insta::with_settings!({filters => vec![
            (r"127\.0\.0\.1:\d+", "127.0.0.1:12345"),
            (r"in \d+\.\d s(, [\d.]+ rows/s)?", "in 0.1 s"),
        ]}, {
            insta::assert_snapshot!(format!("a_run_at_{columns}_columns"), text);
        });
    }
}

/// Whatever is no "yes" sends nothing. Ctrl-C leaves a run that can be resumed.
#[test]
fn no_answer_is_a_no() {
    for (keys, expected) in [
        ("\r", 2),
        ("n\r", 2),
        ("maybe\r", 2),
        ("\u{4}", 2),
        ("\u{3}", 130),
    ] {
        let (api, bench) = (Api::with_users(3), Bench::new());
        bench.write("input.csv", many(3));
        let url = api.sandbox.url();
        let mut terminal = Terminal::start(&bench, &bench.update_words(&url, &[]), 80);
        terminal.until_asked();
        terminal.types(keys);
        let (code, text, _) = terminal.ends();
        assert_eq!(code, Some(expected), "{keys:?}: {text}");
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0, "{text}");
    }
}

/// The bar is one line at each width, moves on, and leaves nothing behind.
#[test]
fn the_bar_is_one_line_and_goes() {
    let is_bar = |row: &str| row.contains(['─', '━']);
    for columns in [30, 40, 80, 110] {
        let (_api, _bench, mut terminal) = slow(columns);
        let mut shown = std::collections::BTreeSet::new();
        terminal.watch(
            |terminal| terminal.text().contains("What went wrong"),
            |screen| {
                shown.extend(only_row(screen, is_bar));
            },
        );
        assert!(shown.len() > 2, "{shown:?}");
        let (code, text, _) = terminal.ends();
        assert_eq!(code, Some(1), "{text}");
        assert!(!text.lines().any(is_bar), "{text}");
    }
}

/// What a command says while it works is one line at each width, and leaves nothing behind.
#[test]
fn stages_are_one_line_and_go() {
    let is_stage = |row: &str| row.contains(|c| ('\u{2800}'..='\u{28ff}').contains(&c));
    for columns in [30, 80] {
        for words in [
            &["check", "input.csv"][..],
            &["export", "out.csv"],
            &["update", "input.csv", "--dry-run"],
            &["apply", "plan.jsonl", "--yes"],
            &["undo", "run", "--yes"],
        ] {
            let (api, bench) = (Api::with_users(20), Bench::new());
            let input = many(21);
            bench.update(&api, &input, &["--run-dir", "run"]).exits(1);
            let plan = ["--dry-run", "--save-plan", "plan.jsonl", "--run-dir", "dry"];
            bench
                .update(&api, input.replace("New", "Old"), &plan)
                .exits(1);
            let api = api.faults(Faults {
                latency: Duration::from_millis(100),
                ..Faults::default()
            });
            let url = api.sandbox.url();
            let words = match words[0] {
                "apply" | "undo" => words.to_vec(),
                _ => [words, &["--base-url", &url]].concat(),
            };
            let mut terminal = Terminal::start(&bench, &words, columns);
            let mut shown = 0;
            let case = format!("{words:?} at {columns} columns");
            terminal.watch_to_end(|screen| {
                shown += usize::from(only_row(screen, is_stage).is_some());
            });
            assert!(shown > 0, "{case}");
            let text = terminal.text();
            assert!(!text.lines().any(is_stage), "{case}: {text}");
        }
    }
}

#[test]
fn colours_follow_the_flag_and_the_environment() {
    let style = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    for (flags, variables, is_coloured) in [
        (&[][..], &[][..], true),
        (&["--color", "never"], &[], false),
        (&[], &[("NO_COLOR", "1")], false),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
        (&[], &[("TERM", "dumb")], false),
    ] {
        let (api, bench) = (Api::with_users(20), Bench::new());
        bench.write("input.csv", many(21));
        let url = api.sandbox.url();
        let words = bench.update_words(&url, &[&["--yes"], flags].concat());
        let (code, text, bytes) = Terminal::start_with(&bench, &words, 80, variables).ends();
        assert_eq!(code, Some(1), "{text}");
        let written = String::from_utf8(bytes).unwrap();
        let case = format!("{flags:?} {variables:?}");
        assert_eq!(style.is_match(&written), is_coloured, "{case}: {written:?}");
    }
}

#[test]
fn ctrl_c_ends_a_run_that_can_be_resumed() {
    let (api, bench, mut terminal) = slow(80);
    terminal.until(" of 63 rows");
    terminal.types("\u{3}");
    let (code, text, _) = terminal.ends();
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("sigma-bulk resume run"), "{text}");
    assert!(!text.contains(['─', '━']), "{text}");
    bench.resume(&[]).exits(1);
    assert_eq!(api.stats().applied, 60);
}

const NO_CREDENTIALS: [(&str, &str); 2] = [("SIGMA_CLIENT_ID", ""), ("SIGMA_CLIENT_SECRET", "")];
/// The questions of `init` with a base URL, and the answers.
const QUESTIONS: [(&str, &str); 4] = [
    ("Client id", "id-of-the-tests\r"),
    ("Where is the client secret?", "\r"),
    ("File", "secret.txt\r"),
    ("to put into it", "s3cr3t-of-the-tests\r"),
];

/// What is typed as a secret is not shown.
#[test]
fn init_asks_and_shows_no_secret() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let url = api.sandbox.url();
    let words = ["init", "--config", "c.toml", "--base-url", &url];
    let mut terminal = Terminal::start_with(&bench, &words, 80, &NO_CREDENTIALS);
    for (question, answer) in QUESTIONS {
        terminal.until_question(question);
        terminal.types(answer);
    }
    let (code, text, bytes) = terminal.ends();
    assert_eq!(code, Some(0), "{text}");
    assert!(!String::from_utf8_lossy(&bytes).contains(SECRET));
    assert_eq!(bench.read("secret.txt"), format!("{SECRET}\n"));
    let unset = ["check", "--config", "c.toml"];
    let (code, text, _) = Terminal::start_with(&bench, &unset, 80, &NO_CREDENTIALS).ends();
    assert_eq!(code, Some(0), "{text}");
}

/// Ctrl-C at any question writes nothing. It leaves a terminal that shows the cursor and what is typed.
#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_as_it_was() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let url = api.sandbox.url();
    let words = ["init", "--config", "c.toml", "--base-url", &url];
    for last in 0..QUESTIONS.len() {
        let mut terminal = Terminal::start_with(&bench, &words, 80, &NO_CREDENTIALS);
        for (question, answer) in &QUESTIONS[..last] {
            terminal.until_question(question);
            terminal.types(answer);
        }
        let question = QUESTIONS[last].0;
        terminal.until_question(question);
        terminal.types("\u{3}");
        terminal.until("the configuration was not written");
        let modes = tcgetattr(&*terminal.pty).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ECHO | LocalModes::ICANON),
            "{question}"
        );
        assert!(!terminal.screen.screen().hide_cursor(), "{question}");
        let (code, text, _) = terminal.ends();
        assert_eq!(code, Some(130), "{question}: {text}");
        assert!(!bench.path("c.toml").exists(), "{question}");
        assert!(!bench.path("secret.txt").exists(), "{question}");
    }
}

/// A server that does not answer holds nobody who has seen enough.
#[test]
fn ctrl_c_ends_the_trial_of_init_at_once() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let api = api.faults(Faults {
        hang: 1.0,
        token_faults: true,
        ..Faults::default()
    });
    let url = api.sandbox.url();
    let words = ["init", "--config", "c.toml", "--base-url", &url];
    let terminal = Terminal::start(&bench, &words, 80);
    api.wait_until(|stats| stats.requests_to(Endpoint::Token) > 0);
    terminal.types("\u{3}");
    let (code, text, _) = terminal.ends();
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("the configuration was not written"), "{text}");
    assert!(!bench.path("c.toml").exists());
}
