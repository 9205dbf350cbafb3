//! The guide is true: its transcripts are run.

use std::time::Instant;

use sigma_bulk::sandbox::Config;

use crate::harness::{Api, Bench, SECRET};

/// A command of a transcript, and what it prints.
struct Step {
    /// When it ran, as the transcript says.
    at: f64,
    command: String,
    output: String,
}

/// Returns the commands in the `console` blocks of a topic: lines such as ` 0.3 $ command`.
fn steps(topic: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_console = false;
    for line in topic.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            continue;
        }
        let command = line.trim_start().split_once(" $ ");
        match command.and_then(|(at, command)| Some((at.parse().ok()?, command))) {
            Some((at, command)) if is_console => steps.push(Step {
                at,
                command: command.to_owned(),
                output: String::new(),
            }),
            _ if is_console => {
                let step = steps.last_mut().unwrap();
                step.output.push_str(line);
                step.output.push('\n');
            }
            _ => {}
        }
    }
    steps
}

/// Replaces what differs from run to run.
fn normalized(text: &str, url: &str, home: &str) -> String {
    let mut text = text
        .replace(url, "https://aws-api.sigmacomputing.com")
        .replace(home, "~");
    for (found, name) in [
        (r"\d{8}T\d{6}Z", "[time]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d [A-Z+0-9]+", "[local time]"),
        (r"in \d+(\.\d)? s", "in [time]"),
        (r"\d+ seconds? off", "[offset] off"),
    ] {
        let found = regex::Regex::new(found).unwrap();
        text = found.replace_all(&text, name).into_owned();
    }
    text.trim_end().to_owned()
}

/// The first five minutes, from the binary to a change of one exported member, and back.
#[test]
fn first_run_is_what_happens() {
    let (api, bench) = (Api::start(Config::default()), Bench::new());
    let home = bench
        .dir
        .path()
        .canonicalize()
        .unwrap()
        .display()
        .to_string();
    let guide = bench.run(&["guide", "first-run"]).exits(0).stdout;
    let binary = assert_cmd::cargo::cargo_bin!("sigma-bulk");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", binary.parent().unwrap().display());
    let typed = bench.write_private("typed.toml", SECRET);
    let started = Instant::now();
    let mut last = 0.0;
    for step in steps(&guide) {
        assert!(step.at >= last, "the times go on: {}", step.command);
        last = step.at;
        let mut shell = std::process::Command::new("sh");
        // The transcript names the cloud; the variable leads it to the sandbox.
        shell
            .args(["-c", &step.command])
            .stdin(std::fs::File::open(&typed).unwrap())
            .current_dir(&home)
            .env_clear()
            .env("PATH", &path)
            .env("HOME", &home)
            .env("SIGMA_BULK_BASE_URL", api.sandbox.url())
            .env("SIGMA_BULK_LOG_LEVEL", "error")
            // A terminal removes it.
            .env("SIGMA_BULK_NO_PROGRESS", "true");
        let output = shell.output().unwrap();
        let text = [output.stderr, output.stdout].concat();
        let text = String::from_utf8(text).unwrap();
        let url = api.sandbox.url();
        assert_eq!(
            normalized(&text, &url, &home),
            normalized(&step.output, &url, &home),
            "{}",
            step.command
        );
        assert!(output.status.success(), "{}", step.command);
    }
    assert!(steps(&guide).len() > 8);
    assert!(started.elapsed().as_secs() < 5 * 60);
    assert_eq!(api.member("priya.raman@example.com").member_type, "Viewer");
}

/// Every recipe of the cookbook is run from its very text, on an organization of its own.
#[test]
fn recipes_of_the_cookbook_work() {
    let guide = Bench::new().run(&["guide", "cookbook"]).exits(0).stdout;
    let binary = assert_cmd::cargo::cargo_bin!("sigma-bulk");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", binary.parent().unwrap().display());
    let recipes: Vec<&str> = guide.split("\n## ").skip(1).collect();
    assert_eq!(recipes.len(), 7);
    for recipe in recipes {
        let (api, bench) = (Api::start(Config::default()), Bench::new());
        let before = api.state();
        let title = recipe.lines().next().unwrap();
        // A file stands under its name; everything else in a block is a script.
        for block in recipe.split("```").skip(1).step_by(2) {
            let (kind, text) = block.split_once('\n').unwrap();
            if kind == "csv" {
                let above = recipe.split(block).next().unwrap().trim_end_matches("```");
                let name = above
                    .trim_end()
                    .rsplit('\n')
                    .next()
                    .unwrap()
                    .trim_matches('`');
                bench.write(name, text);
                continue;
            }
            assert_eq!(kind, "sh", "{title}");
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-e", "-c", text])
                .current_dir(bench.dir.path())
                .env_clear()
                .env("PATH", &path)
                .env("HOME", bench.dir.path())
                .env("SIGMA_CLIENT_ID", "id")
                .env("SIGMA_CLIENT_SECRET", SECRET)
                .env("SIGMA_BULK_BASE_URL", api.sandbox.url());
            let output = shell.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{title}\n{text}\n{stdout}{stderr}");
        }
        let is_undone = title.starts_with("Leavers");
        assert_eq!(api.state() == before, is_undone, "{title}");
    }
}
