//! Settings from flags, environment variables and the configuration file, tested through the binary.

use sigma_bulk::sandbox::{Config, Population};

use crate::harness::{Api, Bench, Ran, user};

const CSV: &str = "Email,First Name\nuser1@x.org,A\n";

#[test]
fn sample_script_command_line_works_unchanged() {
    // This would connect to Sigma, so the file is invalid: its error shows that all arguments were accepted.
    let bench = Bench::new();
    bench.write("f.csv", "First Name\n");
    let words = "update --client_id 123 --client_secret abc --csv ./f.csv --env production --cloud gcp --abort_on_update_fail enable";
    let words: Vec<&str> = words.split(' ').collect();
    bench.run(&words).exits(2).says("no column \"Email\"");
    // With the sandbox's address instead of Sigma's, the same arguments update the member.
    let api = Api::with_users(1);
    bench.write("f.csv", CSV);
    let url = api.sandbox.url();
    let mut words = words;
    words.extend(["--base_url", &url]);
    bench
        .run(&words)
        .exits(0)
        .says("every user of this machine can see --client-secret");
    assert_eq!(api.member("user1@x.org").first_name, "A");
}

#[test]
fn example_command_runs_on_the_embedded_sandbox() {
    let bench = Bench::new();
    let csv = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/members.csv");
    let mut command = bench.command();
    command
        .env_remove("SIGMA_CLIENT_ID")
        .env_remove("SIGMA_CLIENT_SECRET");
    command.args([
        "update",
        "--env",
        "sandbox",
        csv,
        "--run-dir",
        "run",
        "--rate",
        "0",
    ]);
    Ran::of(command.output().unwrap(), &bench).exits(0);
    let counts = bench.check_files();
    assert!(
        counts["updated"] > 10 && counts["unchanged"] > 0 && counts["empty"] > 0,
        "{counts:?}"
    );
    bench
        .run(&["resume", "run"])
        .exits(2)
        .says("embedded sandbox");
}

#[test]
fn environment_overrides_profile_overrides_file() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", CSV);
    let url = api.sandbox.url();
    bench.write(
        "c.toml",
        format!("base-url = \"https://nowhere.example\"\nrun-dir = \"file\"\n[profile.here]\nbase-url = \"{url}\"\nrun-dir = \"profile\"\n"),
    );
    bench
        .run(&[
            "update",
            "input.csv",
            "--config",
            "c.toml",
            "--profile",
            "here",
        ])
        .exits(0);
    assert!(bench.path("profile/summary.json").exists());
    let mut command = bench.command();
    command.envs([
        ("SIGMA_BULK_CONFIG", "c.toml"),
        ("SIGMA_BULK_PROFILE", "here"),
        ("SIGMA_BULK_RUN_DIR", "environment"),
    ]);
    command.args(["update", "input.csv"]);
    Ran::of(command.output().unwrap(), &bench).exits(0);
    assert!(bench.path("environment/summary.json").exists());
    bench
        .run(&[
            "update",
            "input.csv",
            "--config",
            "c.toml",
            "--profile",
            "there",
        ])
        .exits(2)
        .says("here");
    bench
        .run(&["update", "input.csv", "--profile", "there"])
        .exits(2)
        .says("--config");
    bench.write("d.toml", "\nconcurency = 2\n");
    bench
        .run(&["update", "input.csv", "--config", "d.toml"])
        .exits(2)
        .says("line 2");
}

#[test]
fn secret_can_be_read_from_a_file() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", CSV);
    bench.write_private("secret.toml", format!("{}\n", crate::harness::SECRET));
    let url = api.sandbox.url();
    let mut command = bench.command();
    command.env_remove("SIGMA_CLIENT_SECRET");
    command.args([
        "update",
        "input.csv",
        "--base-url",
        &url,
        "--client-secret-file",
        "secret.toml",
        "--run-dir",
        "run",
    ]);
    Ran::of(command.output().unwrap(), &bench).exits(0);
    let mut command = bench.command();
    command.env_remove("SIGMA_CLIENT_SECRET");
    command.args([
        "update",
        "input.csv",
        "--base-url",
        &url,
        "--client-secret-file",
        "nowhere",
    ]);
    Ran::of(command.output().unwrap(), &bench)
        .exits(2)
        .says("nowhere");
}

/// Editors and secret stores add a byte order mark or a trailing line end.
#[test]
fn secret_ignores_byte_order_mark_and_line_end() {
    let secret = crate::harness::SECRET;
    let api = Api::start(Config {
        population: Population::Members(vec![user(1)]),
        client_secret: Some(secret.to_owned()),
        ..Config::default()
    });
    let bench = Bench::new();
    bench.write("input.csv", CSV);
    bench.write_private("secret.toml", format!("\u{feff}{secret}\r\n"));
    let url = api.sandbox.url();
    let words = bench.update_words(&url, &[]);
    let mut command = bench.command();
    command.env("SIGMA_CLIENT_SECRET", format!("{secret}\n"));
    Ran::of(command.args(&words).output().unwrap(), &bench).exits(0);
    let mut command = bench.command();
    command.env_remove("SIGMA_CLIENT_SECRET").args(&words);
    command.args(["--client-secret-file", "secret.toml", "--run-dir", "again"]);
    Ran::of(command.output().unwrap(), &bench).exits(0);
}

#[test]
fn logs_are_text_or_json_without_personal_data() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let ran = bench
        .update(&api, CSV, &["--log-level", "trace", "--log-format", "json"])
        .exits(0);
    let events: Vec<serde_json::Value> = ran
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(!events.is_empty());
    assert!(
        !ran.stderr.contains("user1@x.org") && !ran.stderr.contains("Bearer"),
        "{}",
        ran.stderr
    );
    let bench = Bench::new();
    let ran = bench
        .update(
            &api,
            CSV,
            &[
                "--log-level",
                "debug",
                "--log-file",
                "a.log",
                "--no-progress",
            ],
        )
        .exits(0);
    assert_eq!(ran.stderr, "");
    assert!(!bench.read("a.log").is_empty());
}

#[test]
fn ca_cert_must_be_a_readable_pem_file() {
    let bench = Bench::new();
    bench.write("input.csv", CSV);
    let words = [
        "update",
        "input.csv",
        "--cloud",
        "gcp",
        "--ca-cert",
        "ca.pem",
    ];
    bench.run(&words).exits(2).says("ca.pem");
    bench.write("ca.pem", "no certificate");
    bench.run(&words).exits(2).says("PEM");
    assert!(
        !bench.path("runs").exists()
            || std::fs::read_dir(bench.path("runs"))
                .unwrap()
                .next()
                .is_none()
    );
}

/// Setting `cloud` or `env` in one layer overrides `base-url` from the layers below.
#[test]
fn cloud_or_env_overrides_base_url_of_lower_layers() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", CSV);
    let url = api.sandbox.url();
    bench.write(
        "c.toml",
        format!("base-url = \"{url}\"\n[profile.elsewhere]\nbase-url = \"http://127.0.0.1:1\"\n[profile.gcp]\ncloud = \"nowhere\"\n"),
    );
    let with_file = ["update", "input.csv", "--config", "c.toml"];
    let mut words = with_file.to_vec();
    words.extend(["--env", "sandbox", "--run-dir", "a"]);
    bench.run(&words).exits(1);
    let mut words = with_file.to_vec();
    words.extend(["--cloud", "nowhere"]);
    bench.run(&words).exits(2).says("nowhere");
    let mut words = with_file.to_vec();
    words.extend(["--profile", "gcp"]);
    bench.run(&words).exits(2).says("nowhere");
    let from_environment = |words: &[&str]| {
        let mut command = bench.command();
        command.args(["update", "input.csv"]).args(words);
        command.env("SIGMA_BULK_BASE_URL", &url);
        Ran::of(command.output().unwrap(), &bench)
    };
    from_environment(&["--env", "sandbox", "--run-dir", "b"]).exits(1);
    assert!(api.stats().requests.is_empty(), "the base URL is unused");
    // The exception: with both `--env` and `--cloud`, as in the sample script, the environment's URL wins.
    from_environment(&["--env", "production", "--cloud", "gcp"])
        .exits(0)
        .says("SIGMA_BULK_BASE_URL overrides");
    assert_eq!(api.member("user1@x.org").first_name, "A");
}

/// The wrong line may hold a secret, so the error never quotes it.
#[test]
fn configuration_errors_name_the_line_not_its_text() {
    let bench = Bench::new();
    bench.write("input.csv", CSV);
    let secret = crate::harness::SECRET;
    for (line, says) in [
        (format!("client_secret = \"{secret}\""), "client_secret"),
        (format!("client-secret = \"{secret}"), "line 2"),
        (format!("client-id = {secret}"), "line 2"),
        (
            format!("client-secret = [\"{secret}\"]"),
            "expected a string",
        ),
        (
            format!("dry-run = \"{secret}\""),
            "a string, expected a boolean",
        ),
        (format!("retries = \"{secret}\""), "a string, expected u32"),
        (secret.to_owned(), "line 2"),
    ] {
        bench.write("c.toml", format!("yes = true\n{line}\n"));
        // The harness checks that the secret is not shown.
        bench
            .run(&["update", "input.csv", "--config", "c.toml"])
            .exits(2)
            .says("line 2")
            .says(says);
    }
}

#[test]
fn protected_list_is_checked_for_emails() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    bench.write(
        "input.csv",
        "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\nuser3@x.org,C\n",
    );
    let url = api.sandbox.url();
    let with = |list: &str| {
        let mut command = bench.command();
        command.args(bench.update_words(&url, &[]));
        command.env("SIGMA_BULK_PROTECTED", list);
        Ran::of(command.output().unwrap(), &bench)
    };
    with("user1@x.org and user2@x.org").exits(2).says("\"and\"");
    with("user1@x.org user2@x.org").exits(1);
    assert_eq!(bench.outcomes(), ["invalid", "invalid", "updated"]);
}

#[test]
fn password_in_a_url_is_not_shown() {
    let bench = Bench::new();
    bench.write("input.csv", "Email\nuser1@x.org\n");
    for host in ["h.example", "h.exa mple"] {
        let mut command = bench.command();
        let url = format!("https://me:{}@{host}", crate::harness::SECRET);
        command.env("SIGMA_BULK_BASE_URL", url);
        command.args(["update", "input.csv", "--cloud", "gcp"]);
        // The harness checks that the secret is not shown.
        crate::harness::Ran::of(command.output().unwrap(), &bench).exits(2);
    }
}

#[test]
fn quiet_flag_overrides_verbose_from_the_file() {
    let (api, bench) = (Api::start(Config::default()), Bench::new());
    bench.write("c.toml", "verbose = true\n");
    let csv = "Email,First Name\nnobody@example.com,A\n";
    let ran = bench
        .update(&api, csv, &["--config", "c.toml", "--quiet"])
        .exits(1);
    // A verbose run would show the row as it ends.
    assert!(
        !ran.stderr.contains("not_found     line 2"),
        "{}",
        ran.stderr
    );
    let ran = Bench::new().update(&api, csv, &["-q", "-v"]).exits(2);
    assert!(
        ran.stderr.contains("use only one of them"),
        "{}",
        ran.stderr
    );
}

/// The official command line has that variable too. It is the weakest that names a host, and flags override it.
#[test]
fn base_url_of_other_tools_is_read_below_everything() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let check = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = bench.command();
        command
            .envs(variables.iter().copied())
            .arg("check")
            .args(more);
        Ran::of(command.output().unwrap(), &bench).stdout
    };
    let url = api.sandbox.url();
    assert!(check(&[("SIGMA_BASE_URL", &url)], &[]).contains(&url));
    let both = [
        ("SIGMA_BASE_URL", "http://127.0.0.1:1"),
        ("SIGMA_BULK_BASE_URL", &url),
    ];
    assert!(check(&both, &[]).contains(&url));
    let flag = ["--base-url", &url];
    assert!(check(&[("SIGMA_BASE_URL", "http://127.0.0.1:1")], &flag).contains(&url));
}
