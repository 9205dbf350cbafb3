//! The first minutes: `init`, `check`, help, completions, and what is said about a wrong setup.

use sigma_bulk::sandbox::{Config, Endpoint, Member, Population};

use crate::harness::{Api, Bench, Ran, SECRET, listening, user};

/// Runs `init --yes` with these arguments and without credentials in the environment.
fn init(bench: &Bench, more: &[&str]) -> Ran {
    let mut command = bench.command();
    command.env_remove("SIGMA_CLIENT_ID");
    command.env_remove("SIGMA_CLIENT_SECRET");
    command.args(["init", "--yes"]).args(more);
    Ran::of(command.output().unwrap(), bench)
}

/// Returns an API with an administrator to whom the credentials belong, and three members.
fn organization() -> Api {
    let admin = Member {
        member_type: "Admin".to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Okafor".to_owned(),
        ..Member::new("admin@example.com")
    };
    Api::with(std::iter::once(admin).chain((1..=3).map(user)))
}

#[cfg(unix)]
#[test]
fn init_writes_a_private_configuration_that_works() {
    use std::os::unix::fs::PermissionsExt;
    let (api, bench) = (organization(), Bench::new());
    bench.write_private("secret.toml", SECRET);
    let url = api.sandbox.url();
    let flags = [
        "--base-url",
        &url,
        "--client-id",
        "abc",
        "--client-secret-file",
        "secret.toml",
    ];
    init(&bench, &flags).exits(0).says("as admin@example.com");
    let path = bench.path(".config/sigma-bulk/config.toml");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Everything is in the configuration now.
    let mut command = bench.command();
    command
        .env_remove("SIGMA_CLIENT_ID")
        .env_remove("SIGMA_CLIENT_SECRET");
    let ran = Ran::of(command.args(["check", "--json"]).output().unwrap(), &bench).exits(0);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["role"], "Admin");
}

#[cfg(unix)]
#[test]
fn init_never_replaces_a_profile_unasked() {
    let (api, bench) = (organization(), Bench::new());
    let url = api.sandbox.url();
    bench.write("script.toml", format!("echo {SECRET}\n"));
    let mut flags = vec!["--base-url", url.as_str(), "--client-id", "abc"];
    flags.extend([
        "--client-secret-command",
        "sh script.toml",
        "--config",
        "c.toml",
    ]);
    bench.write(
        "c.toml",
        "# mine\nretries = 3 # few\n[profile.emea]\nclient-id = \"x\"\n",
    );
    init(&bench, &flags).exits(0);
    let written = bench.read("c.toml");
    assert!(
        written.contains("# mine") && written.contains("retries = 3 # few"),
        "{written}"
    );
    assert!(written.contains("client-id = \"abc\""), "{written}");
    init(&bench, &flags).exits(2).says("--force");
    let emea = [&flags[..], &["--profile", "emea"]].concat();
    init(&bench, &emea).exits(2).says("--force");
    assert!(bench.read("c.toml").contains("client-id = \"x\""));
    init(&bench, &[&emea[..], &["--force"]].concat()).exits(0);
    assert!(!bench.read("c.toml").contains("client-id = \"x\""));
    // A profile that is not there yet needs no flag.
    init(&bench, &[&flags[..], &["--profile", "new"]].concat()).exits(0);
    assert!(bench.read("c.toml").contains("[profile.new]"));
}

#[test]
fn init_keeps_nothing_that_does_not_work() {
    let api = Api::start(Config {
        client_secret: Some("another".to_owned()),
        ..Config::default()
    });
    let bench = Bench::new();
    bench.write_private("secret.toml", SECRET);
    let url = api.sandbox.url();
    let flags = [
        "--base-url",
        &url,
        "--client-id",
        "abc",
        "--client-secret-file",
        "secret.toml",
    ];
    init(&bench, &flags).exits(3).says("could not sign in");
    assert!(!bench.path(".config").exists());
    init(&bench, &[]).exits(2).says("--cloud");
    init(&bench, &["--cloud", "gcp"])
        .exits(2)
        .says("client id and the client secret");
}

/// A secret in a file that others can read is refused, however the file is named.
#[cfg(unix)]
#[test]
fn open_secret_files_are_refused_with_the_remedy() {
    let (api, bench) = (organization(), Bench::new());
    bench.write("open.toml", SECRET);
    let url = api.sandbox.url();
    for name in ["SIGMA_BULK_CLIENT_SECRET_FILE", "flag"] {
        let mut command = bench.command();
        command
            .env_remove("SIGMA_CLIENT_SECRET")
            .args(["check", "--base-url", &url]);
        if name == "flag" {
            command.args(["--client-secret-file", "open.toml"]);
        } else {
            command.env(name, "open.toml");
        }
        let ran = Ran::of(command.output().unwrap(), &bench).exits(2);
        assert!(ran.stdout.contains("chmod 600 open.toml"), "{}", ran.stdout);
    }
}

#[cfg(unix)]
#[test]
fn secret_commands_show_their_errors_and_never_their_output() {
    let (api, bench) = (organization(), Bench::new());
    let url = api.sandbox.url();
    let with = |secret_command: &str| {
        let mut command = bench.command();
        command.env_remove("SIGMA_CLIENT_SECRET");
        command.args([
            "check",
            "--base-url",
            &url,
            "--client-secret-command",
            secret_command,
        ]);
        Ran::of(command.output().unwrap(), &bench)
    };
    // It is run once, however many parts of the tool need the secret.
    with("echo once >> count.toml; echo a").exits(0);
    assert_eq!(bench.read("count.toml"), "once\n");
    let ran = with("echo half-a-secret; echo why >&2; exit 3")
        .exits(2)
        .says("why");
    assert!(!ran.stdout.contains("half-a-secret"), "{}", ran.stdout);
    assert!(ran.stdout.contains("exit status: 3"), "{}", ran.stdout);
    let ran = with("true").exits(2);
    assert!(ran.stdout.contains("printed nothing"), "{}", ran.stdout);
}

#[test]
fn check_says_who_and_where() {
    let (api, bench) = (organization(), Bench::new());
    let url = api.sandbox.url();
    let ran = bench.run(&["check", "--base-url", &url]).exits(0);
    for text in [
        "Ada Okafor <admin@example.com>, Admin",
        "4 members",
        "Viewer",
        "in order",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
}

/// Several problems are named in one go.
#[test]
fn check_names_all_problems_together() {
    let bench = Bench::new();
    let mut command = bench.command();
    command
        .env_remove("SIGMA_CLIENT_ID")
        .env_remove("SIGMA_CLIENT_SECRET");
    let ran = Ran::of(command.arg("check").output().unwrap(), &bench).exits(2);
    for text in [
        "client id and the client secret",
        "cloud is not set",
        "2 problems",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
}

/// The owner of the credentials may read members and not change them.
#[test]
fn check_finds_credentials_that_are_no_administrators() {
    let viewer = Member {
        member_type: "Viewer".to_owned(),
        ..Member::new("admin@example.com")
    };
    let api = Api::start(Config {
        population: Population::Members(vec![viewer]),
        account_types_forbidden: true,
        ..Config::default()
    });
    let bench = Bench::new();
    let url = api.sandbox.url();
    let ran = bench.run(&["check", "--base-url", &url]).exits(3);
    assert!(
        ran.stdout
            .contains("not an administrator (account type Viewer)"),
        "{}",
        ran.stdout
    );
    let ran = bench.run(&["check", "--base-url", &url, "--json"]).exits(3);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["is_administrator"], false);
    assert_eq!(json["exit_code"], 3);
}

#[test]
fn check_counts_what_a_csv_would_do_and_keeps_nothing() {
    let (api, bench) = (organization(), Bench::new());
    let url = api.sandbox.url();
    bench.write(
        "m.csv",
        "Email,First Name,isArchived\nuser1@x.org,A,\nuser2@x.org,First,\nuser3@x.org,,true\nnobody@x.org,B,\n",
    );
    let ran = bench.run(&["check", "m.csv", "--base-url", &url]).exits(2);
    for text in [
        "2 to change, 1 unchanged, 1 not possible",
        "1 to be archived",
        "line 5",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    assert!(!bench.path("runs").exists());
    bench.write("wrong.csv", "Mail\nuser1@x.org\n");
    let ran = bench
        .run(&["check", "wrong.csv", "--base-url", &url])
        .exits(2);
    assert!(ran.stdout.contains("no column \"Email\""), "{}", ran.stdout);
    let own = "user1@x.org";
    bench.write("right.csv", format!("Email,First Name\n{own},First\n"));
    bench
        .run(&["check", "right.csv", "--base-url", &url])
        .exits(0);
}

#[test]
fn failed_sign_in_leaves_no_directories() {
    let api = Api::start(Config {
        client_secret: Some("another".to_owned()),
        ..Config::default()
    });
    let bench = Bench::new();
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    bench
        .run(&[
            "update",
            "input.csv",
            "--base-url",
            &api.sandbox.url(),
            "--retries",
            "0",
        ])
        .exits(3);
    assert!(!bench.path("runs").exists());
}

#[test]
fn misspelt_variables_are_refused() {
    let bench = Bench::new();
    let mut command = bench.command();
    command.env("SIGMA_BULK_CONCURENCY", "3").arg("runs");
    Ran::of(command.output().unwrap(), &bench)
        .exits(2)
        .says("did you mean \"SIGMA_BULK_CONCURRENCY\"?");
}

#[test]
fn a_csv_is_no_plan() {
    let bench = Bench::new();
    bench.write("members.csv", "Email\na@x.org\n");
    bench
        .run(&["apply", "members.csv"])
        .exits(2)
        .says("sigma-bulk update members.csv");
}

/// Errors before the first request are one JSON document, too.
#[test]
fn json_is_printed_for_every_end() {
    let bench = Bench::new();
    bench.write("input.csv", "Mail\na@x.org\n");
    let url = "http://127.0.0.1:1";
    for (words, code) in [
        (vec!["update", "input.csv", "--base-url", url, "--json"], 2),
        (
            vec!["update", "--base-url", url, "--json", "--no-such-flag"],
            2,
        ),
        (
            vec![
                "export",
                "--base-url",
                url,
                "--retries",
                "0",
                "--json",
                "m.csv",
            ],
            3,
        ),
        (vec!["undo", "latest", "--json"], 2),
    ] {
        let ran = bench.run(&words).exits(code);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(json["exit_code"], code, "{words:?}");
        assert!(!json["error"].as_str().unwrap().is_empty(), "{words:?}");
    }
}

#[test]
fn help_shows_commands_and_topics() {
    let bench = Bench::new();
    let ran = bench.run(&["help", "csv"]).exits(0);
    assert!(ran.stdout.starts_with("# "), "{}", ran.stdout);
    let ran = bench.run(&["help", "exit-codes"]).exits(0);
    assert!(ran.stdout.contains("| 5 |"), "{}", ran.stdout);
    let ran = bench.run(&["help", "update"]).exits(0);
    assert!(
        ran.stdout.contains("[env: SIGMA_BULK_CONCURRENCY]"),
        "{}",
        ran.stdout
    );
    bench.run(&["help", "udate"]).exits(2).says("\"update\"");
}

#[test]
fn completions_know_clouds_profiles_and_runs() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("c.toml", "[profile.emea]\nretries = 1\n");
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    bench
        .run(&["update", "input.csv", "--base-url", &url])
        .exits(0);
    let complete = |words: &[&str]| {
        let mut command = bench.command();
        command
            .env("_SIGMA_BULK_COMPLETE", "fish")
            .env("SIGMA_BULK_CONFIG", "c.toml");
        command.arg("--").arg("sigma-bulk").args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(complete(&["update", "--cloud", "aws-e"]).contains("aws-eu"));
    assert!(complete(&["update", "--profile", ""]).contains("emea"));
    let runs = complete(&["undo", ""]);
    assert!(runs.contains("latest") && runs.contains("-input"), "{runs}");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = bench
            .command()
            .args(["completions", shell])
            .output()
            .unwrap();
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains("sigma-bulk"), "{shell}");
    }
}

#[test]
fn man_pages_are_written_for_every_command() {
    let bench = Bench::new();
    bench.run(&["man", "pages"]).exits(0);
    let page = bench.read("pages/sigma-bulk-update.1");
    assert!(page.contains("\\-\\-dry\\-run"), "{page}");
    let version = bench.run(&["--version"]).exits(0).stdout;
    assert!(
        version.starts_with(&format!("sigma-bulk {}", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
}

/// The API says the time with every answer.
#[test]
fn check_warns_of_a_clock_that_is_off() {
    let (runtime, listener) = listening();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = |request: axum::extract::Request| async move {
        let body = match request.uri().path() {
            "/v2/auth/token" => r#"{"access_token":"t","expires_in":3600}"#,
            "/v2/whoami" => r#"{"userId":"u1","organizationId":"o1"}"#,
            _ => r#"{"entries":[]}"#,
        };
        ([("date", "Tue, 01 Jan 2030 00:00:00 GMT")], body)
    };
    let server = axum::Router::new().fallback(answer);
    runtime.spawn(async move { axum::serve(listener, server).await });
    let ran = Bench::new().run(&["check", "--base-url", &url]).exits(0);
    assert!(ran.stdout.contains("behind of the API's"), "{}", ran.stdout);
    runtime.shutdown_background();
}
