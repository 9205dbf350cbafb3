//! What is particular to Windows: who holds files, names of devices, long paths, and where things lie.

use crate::harness::{Api, Bench, Ran};

const CSV: &str = "Email,First Name\nuser1@x.org,A\nnobody@x.org,B\n";

/// Excel lets nobody replace a file that it has open.
#[cfg(windows)]
#[test]
fn files_that_excel_holds_get_a_new_one_beside_them() {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_SHARE_READ: u32 = 1;
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.update(&api, CSV, &[]).exits(1);
    let before = bench.read("run/results.csv");
    let mut options = std::fs::OpenOptions::new();
    let held = options.read(true).share_mode(FILE_SHARE_READ);
    let held = held.open(bench.path("run/results.csv")).unwrap();
    let ran = bench.run(&["report", "run"]).exits(1);
    assert!(ran.stderr.contains("results.new.csv"), "{}", ran.stderr);
    assert_eq!(bench.read("run/results.new.csv"), before);
    assert!(bench.path("run/summary.json").exists());
    drop(held);
    bench.run(&["report", "run"]).exits(1);
    assert!(!bench.path("run/results.new.csv").exists());
    assert_eq!(bench.read("run/results.csv"), before);
    // What is not a file of a run is not replaced either, and the message says why.
    let export = [
        "export",
        "out.csv",
        "--force",
        "--base-url",
        &api.sandbox.url(),
    ]
    .map(str::to_owned);
    let export: Vec<&str> = export.iter().map(String::as_str).collect();
    bench.run(&export).exits(0);
    let mut options = std::fs::OpenOptions::new();
    let held = options.read(true).share_mode(FILE_SHARE_READ);
    let held = held.open(bench.path("out.csv")).unwrap();
    bench
        .run(&export)
        .exits(4)
        .says("another program has it open");
    drop(held);
}

#[cfg(windows)]
#[test]
fn names_of_devices_are_refused() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let url = api.sandbox.url();
    bench.write("input.csv", CSV);
    for words in [
        ["update", "input.csv", "--run-dir", "CON"],
        ["update", "input.csv", "--run-dir", "nul.run"],
        ["update", "con.csv", "--run-dir", "run"],
    ] {
        let words = [&words[..], &["--base-url", &url]].concat();
        bench.run(&words).exits(2).says("name of a device");
    }
    assert!(api.stats().requests.is_empty());
}

#[cfg(windows)]
#[test]
fn configuration_and_locks_lie_where_windows_keeps_them() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    std::fs::create_dir_all(bench.path("roaming/sigma-bulk")).unwrap();
    let config = format!("base-url = \"{}\"\n", api.sandbox.url());
    bench.write("roaming/sigma-bulk/config.toml", config);
    bench.write("input.csv", CSV);
    let mut command = bench.command();
    command
        .env("APPDATA", bench.path("roaming"))
        .env("LOCALAPPDATA", bench.path("local"))
        .args(["update", "input.csv", "--run-dir", "run"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    let locks = std::fs::read_dir(bench.path("local/sigma-bulk/locks")).unwrap();
    assert!(locks.count() > 0);
}

/// Another folder than the user's own may be open to others.
#[cfg(windows)]
#[test]
fn folders_outside_of_the_profile_are_warned_of() {
    let (api, bench, outside) = (Api::with_users(1), Bench::new(), Bench::new());
    let path = outside.path("run").display().to_string();
    let url = api.sandbox.url();
    bench.write("input.csv", CSV);
    let words = ["update", "input.csv", "--base-url", &url, "--run-dir"];
    bench
        .run(&[&words[..], &[&path]].concat())
        .exits(1)
        .says("outside of your user profile");
    let ran = bench.run(&[&words[..], &["inside"]].concat()).exits(1);
    assert!(!ran.stderr.contains("profile"), "{}", ran.stderr);
}

/// Windows has names of 260 characters unless they are written in another form.
#[test]
fn long_paths_work() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let long = ["a-directory-with-a-long-name-of-forty-one"; 9].join("/");
    std::fs::create_dir_all(bench.path(&long)).unwrap();
    let csv = format!("{long}/input.csv");
    bench.write(&csv, CSV);
    let run = format!("{long}/run");
    let url = api.sandbox.url();
    let words = ["update", &csv, "--base-url", &url, "--run-dir", &run];
    bench.run(&words).exits(1);
    bench.run(&["undo", &run, "--run-dir", "undone"]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// A folder has many names: of a drive, of a share, of the drive's present folder, and as Windows has it inside.
#[cfg(windows)]
#[test]
fn every_form_of_a_path_works() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.write("input.csv", CSV);
    let whole = std::path::absolute(bench.path("")).unwrap();
    let whole = whole.display().to_string();
    let whole = whole.trim_end_matches('\\');
    let (drive, rest) = whole.split_once(':').unwrap();
    let mut forms = vec![
        format!(r"{whole}\"),
        whole.replace('\\', "/") + "/",
        format!(r"{rest}\"),
        format!("{drive}:"),
        format!(r"\\?\{whole}\"),
        format!(r"\\.\{whole}\"),
        r"sub\..\".to_owned(),
    ];
    // The share that Windows makes of each drive; not every account may use it.
    let share = format!(r"\\localhost\{drive}${rest}\");
    if std::fs::metadata(&share).is_ok() {
        forms.push(share);
        forms.push(format!(r"\\?\UNC\localhost\{drive}${rest}\"));
    }
    let url = api.sandbox.url();
    for (number, form) in forms.iter().enumerate() {
        let (input, run) = (format!("{form}input.csv"), format!("{form}run{number}"));
        let words = ["update", &input, "--base-url", &url, "--run-dir", &run];
        bench.run(&words).exits(1);
        let undone = format!("{form}undo{number}");
        bench.run(&["undo", &run, "--run-dir", &undone]).exits(0);
        let results = bench.path(&format!("undo{number}/results.csv"));
        assert!(results.exists(), "{form}");
    }
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// A suggested command is what the shell of this system reads as that command.
#[test]
fn suggested_commands_run_as_they_are() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let run = if cfg!(windows) {
        r"my runs\of 100%"
    } else {
        "my runs/it's \"$HOME\""
    };
    std::fs::create_dir_all(bench.path("my runs")).unwrap();
    bench.write("input.csv", "Email,First Name\nuser1@x.org,A\n");
    let url = api.sandbox.url();
    let mut command = bench.command();
    command.env_remove("MSYSTEM");
    command.args(["update", "input.csv", "--base-url", &url, "--run-dir", run]);
    let ran = Ran::of(command.output().unwrap(), &bench).exits(0);
    let line = ran
        .stdout
        .lines()
        .find(|line| line.contains("sigma-bulk undo"));
    let line = line.unwrap().trim();
    let tool = bench.command();
    let binary = std::path::Path::new(tool.get_program()).parent().unwrap();
    let paths = std::env::var_os("PATH").unwrap();
    let paths = std::env::split_paths(&paths);
    let path = std::env::join_paths(std::iter::once(binary.to_path_buf()).chain(paths));
    #[cfg(windows)]
    let mut shell = {
        use std::os::windows::process::CommandExt;
        let mut shell = std::process::Command::new("cmd");
        shell
            .args(["/D", "/S", "/C"])
            .raw_arg(format!("\"{line}\""));
        shell
    };
    #[cfg(not(windows))]
    let mut shell = {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]);
        shell
    };
    shell
        .current_dir(bench.dir.path())
        .envs(
            tool.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", path.unwrap());
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    assert_eq!(api.member("user1@x.org").first_name, "First");
}
