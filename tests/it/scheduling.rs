//! The examples for schedulers are true: their files stand in the guide, fit the schedulers' formats, and their lines are run,
//! with the same input twice, and with another one in the night after.

use std::collections::BTreeMap;
use std::path::Path;

use sigma_bulk::sandbox::Endpoint;

use crate::harness::{Api, Bench, SECRET};
use crate::workflow::Workflow;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scheduling");
const PROFILES: [&str; 3] = ["emea", "apac", "us"];

/// Reads an example.
fn example(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(EXAMPLES).join(name)).unwrap();
    text.replace("\r\n", "\n")
}

#[test]
fn the_guide_shows_every_example() {
    let guide = Bench::new().run(&["guide", "scheduling"]).exits(0).stdout;
    for entry in std::fs::read_dir(EXAMPLES).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = example(&name);
        let is_shown = guide.split("```").skip(1).step_by(2).any(|block| {
            let (_, shown) = block.split_once('\n').unwrap();
            shown == text
        });
        assert!(is_shown, "{name}");
    }
}

/// What a scheduler starts.
struct Job {
    environment: BTreeMap<String, String>,
    line: String,
}

/// A machine with the configuration of the examples, and three organizations.
struct Machine {
    bench: Bench,
    organizations: [Api; 3],
}

impl Machine {
    fn start() -> Self {
        let machine = Self {
            bench: Bench::new(),
            organizations: PROFILES.map(|_| Api::with_users(2)),
        };
        for directory in ["etc", "lib/sigma-bulk", "lib/node_exporter/textfile", "bin"] {
            std::fs::create_dir_all(machine.bench.path(directory)).unwrap();
        }
        let mut config = machine.here(&example("config.toml"));
        for (index, api) in machine.organizations.iter().enumerate() {
            let cloud = ["aws-eu", "aws-au", "gcp"][index];
            config = config.replace(
                &format!("cloud = \"{cloud}\""),
                &format!("base-url = \"{}\"", api.sandbox.url()),
            );
            let secret = format!("etc/{}.secret", PROFILES[index]);
            machine.bench.write_private(&secret, SECRET);
            // The index of a Kubernetes job is a profile as well.
            let profile = config.split("\n\n").nth(index).unwrap();
            let by_index = profile.replace(
                &format!("[profile.{}]", PROFILES[index]),
                &format!("[profile.{index}]"),
            );
            config = format!("{config}\n{by_index}\n");
        }
        machine.bench.write("etc/config.toml", config);
        machine
    }

    /// Returns the text of an example with the paths of this machine.
    fn here(&self, text: &str) -> String {
        let home = self.bench.dir.path().to_str().unwrap();
        let binary = assert_cmd::cargo::cargo_bin!("sigma-bulk");
        text.replace("/etc/sigma-bulk", &format!("{home}/etc"))
            .replace("/var/lib", &format!("{home}/lib"))
            .replace("/usr/bin/sigma-bulk", binary.to_str().unwrap())
    }

    /// Writes the file of each organization, under its profile's name and its index, and that of the first one.
    fn feed(&self, name: &str) {
        let csv = format!("Email,First Name\nuser1@x.org,{name}\n");
        for stem in PROFILES.iter().chain(&["0", "1", "2", "feed"]) {
            self.bench
                .write(&format!("lib/sigma-bulk/{stem}.csv"), &csv);
        }
    }

    /// Runs a line of the shell, and returns its exit code and what it prints.
    fn run(&self, job: &Job) -> (Option<i32>, String) {
        let binary = assert_cmd::cargo::cargo_bin!("sigma-bulk");
        let mut path = vec![
            self.bench.path("bin"),
            binary.parent().unwrap().to_path_buf(),
        ];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut shell = std::process::Command::new("sh");
        let output = shell
            .args(["-e", "-c", &self.here(&job.line)])
            .current_dir(self.bench.path("lib/sigma-bulk"))
            .env_clear()
            .env("HOME", self.bench.dir.path())
            .envs(job.environment.iter().map(|(n, v)| (n, self.here(v))))
            .env("PATH", std::env::join_paths(path).unwrap())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// Runs a job in two nights, and twice in the first, for these organizations.
    #[track_caller]
    fn two_nights(&self, job: &Job, organizations: &[usize]) {
        let sent = |index: &usize| {
            let stats = self.organizations[*index].stats();
            stats.requests_to(Endpoint::UpdateMember)
        };
        for (name, expected) in [("One", 1), ("One", 1), ("Two", 2)] {
            self.feed(name);
            let (code, text) = self.run(job);
            assert_eq!(code, Some(0), "{text}");
            for index in organizations {
                let api = &self.organizations[*index];
                assert_eq!(api.member("user1@x.org").first_name, name, "{text}");
                assert_eq!(sent(index), expected, "{text}");
            }
        }
        let others = (0..PROFILES.len()).filter(|index| !organizations.contains(index));
        assert!(others.into_iter().all(|index| sent(&index) == 0));
    }
}

#[test]
fn cron_runs_two_nights() {
    let mut job = Job {
        environment: BTreeMap::new(),
        line: String::new(),
    };
    for line in example("crontab").lines() {
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        match (line.split_once('='), words.as_slice()) {
            _ if line.starts_with('#') => {}
            (_, [minute, hour, day, month, weekday, user, command]) => {
                for (field, most) in [
                    (minute, 59),
                    (hour, 23),
                    (day, 31),
                    (month, 12),
                    (weekday, 7),
                ] {
                    assert!(*field == "*" || field.parse::<u8>().unwrap() <= most);
                }
                assert_eq!(*user, "sigma-bulk");
                // A % would be a line break.
                assert!(!command.contains('%'));
                job.line = (*command).to_owned();
            }
            (Some((name, value)), _) => {
                job.environment.insert(name.to_owned(), value.to_owned());
            }
            _ => panic!("{line}"),
        }
    }
    Machine::start().two_nights(&job, &[0]);
}

/// The other lines of the guide, which name no scheduler.
#[test]
fn lines_of_the_guide_run_two_nights() {
    let guide = Bench::new().run(&["guide", "scheduling"]).exits(0).stdout;
    let blocks = guide.split("```sh\n").skip(1);
    let lines: Vec<_> = blocks
        .map(|block| block.split("```").next().unwrap())
        .filter(|block| block.starts_with("sigma-bulk"))
        .collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        let job = Job {
            environment: of_profile("emea"),
            line: line.to_owned(),
        };
        Machine::start().two_nights(&job, &[0]);
    }
}

/// Returns the environment of a job with the configuration of the examples.
fn of_profile(name: &str) -> BTreeMap<String, String> {
    [
        ("SIGMA_BULK_CONFIG", "/etc/sigma-bulk/config.toml"),
        ("SIGMA_BULK_PROFILE", name),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Stands in for GNU parallel where it is not installed: one job after the other.
const PARALLEL: &str = r#"#!/bin/sh
while [ "$1" != sigma-bulk ]; do shift; done
template=
while [ "$1" != ::: ]; do template="$template $1"; shift; done
shift
for argument; do
  sh -c "$(printf '%s' "$template" | sed "s/{}/$argument/g")" || exit 1
done
"#;

#[test]
fn parallel_runs_all_organizations() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::start();
    let is_there = |version: std::process::Output| version.status.success();
    let version = std::process::Command::new("parallel")
        .arg("--version")
        .output();
    if !version.is_ok_and(is_there) {
        let path = machine.bench.write("bin/parallel", PARALLEL);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let job = Job {
        environment: of_profile("emea"),
        line: example("parallel.sh"),
    };
    machine.two_nights(&job, &[0, 1, 2]);
}

#[test]
fn systemd_runs_two_nights() {
    let machine = Machine::start();
    let unit = example("sigma-bulk@.service").replace("%i", "emea");
    let secret = machine.bench.path("etc/emea.secret");
    let unit = unit.replace("%d/secret", secret.to_str().unwrap());
    let mut job = Job {
        environment: BTreeMap::new(),
        line: String::new(),
    };
    for line in unit.lines() {
        match line.split_once('=') {
            Some(("Environment", pairs)) => {
                let pairs = pairs.split(' ').filter_map(|pair| pair.split_once('='));
                let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
                job.environment.extend(pairs);
            }
            Some(("ExecStart", command)) => job.line = command.to_owned(),
            Some(("WorkingDirectory", directory)) => assert_eq!(directory, "/var/lib/sigma-bulk"),
            _ => {}
        }
    }
    machine.two_nights(&job, &[0]);

    // systemd itself, where it is installed.
    let names = ["sigma-bulk@.service", "sigma-bulk@.timer"];
    for name in names {
        machine.bench.write(name, machine.here(&example(name)));
    }
    let mut verify = std::process::Command::new("systemd-analyze");
    verify
        .arg("verify")
        .args(names.map(|name| machine.bench.path(name)));
    if let Ok(output) = verify.output() {
        let text = String::from_utf8_lossy(&output.stderr);
        let text: Vec<_> = text
            .lines()
            .filter(|line| line.contains("sigma-bulk"))
            .collect();
        assert!(text.is_empty(), "{text:?}");
    }
}

/// A part of the Kubernetes API, as far as the examples use it. A field that is not known is an error.
mod kubernetes {
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Object<S> {
        pub(super) api_version: String,
        pub(super) kind: String,
        #[expect(dead_code, reason = "it must be there")]
        metadata: Name,
        pub(super) spec: S,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Name {
        #[expect(dead_code, reason = "it must be there")]
        name: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct CronJob {
        pub(super) schedule: String,
        pub(super) concurrency_policy: String,
        pub(super) job_template: Template<Job>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Template<S> {
        pub(super) spec: S,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "some fields are only there to be known")]
    pub(super) struct Job {
        #[serde(default)]
        completion_mode: String,
        #[serde(default)]
        pub(super) completions: usize,
        #[serde(default)]
        parallelism: usize,
        backoff_limit: Option<u32>,
        backoff_limit_per_index: Option<u32>,
        pod_failure_policy: Value,
        pub(super) template: Template<Pod>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "some fields are only there to be known")]
    pub(super) struct Pod {
        pub(super) restart_policy: String,
        termination_grace_period_seconds: u32,
        security_context: Value,
        pub(super) containers: Vec<Container>,
        pub(super) volumes: Vec<Volume>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "some fields are only there to be known")]
    pub(super) struct Container {
        name: String,
        image: String,
        pub(super) working_dir: String,
        pub(super) env: Vec<Variable>,
        pub(super) command: Vec<String>,
        pub(super) volume_mounts: Vec<Mount>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Variable {
        pub(super) name: String,
        pub(super) value: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Mount {
        pub(super) name: String,
        pub(super) mount_path: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Volume {
        pub(super) name: String,
        #[expect(dead_code, reason = "it may be there")]
        persistent_volume_claim: Option<Value>,
        pub(super) secret: Option<Secret>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Secret {
        #[expect(dead_code, reason = "it must be there")]
        secret_name: String,
        pub(super) default_mode: u32,
    }
}

/// Returns what one container of a Kubernetes job runs.
fn container(job: &kubernetes::Job, index: usize) -> Job {
    let pod = &job.template.spec;
    // A failed process is judged by the job's policy.
    assert_eq!(pod.restart_policy, "Never");
    let container = &pod.containers[0];
    assert_eq!(container.working_dir, "/var/lib/sigma-bulk");
    for mount in &container.volume_mounts {
        assert!(pod.volumes.iter().any(|volume| volume.name == mount.name));
        assert!(mount.mount_path.starts_with('/'));
    }
    // Nobody but the process reads the secrets: its group is that of the files.
    let secrets = pod
        .volumes
        .iter()
        .filter_map(|volume| volume.secret.as_ref());
    assert!(
        secrets
            .into_iter()
            .all(|secret| secret.default_mode == 0o440)
    );
    let variables = container.env.iter();
    Job {
        environment: variables
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect(),
        line: (container.command.join(" ")).replace("$(JOB_COMPLETION_INDEX)", &index.to_string()),
    }
}

#[test]
fn kubernetes_runs_two_nights() {
    let job: kubernetes::Object<kubernetes::CronJob> =
        serde_saphyr::from_str(&example("cronjob.yaml")).unwrap();
    assert_eq!(
        (job.api_version.as_str(), job.kind.as_str()),
        ("batch/v1", "CronJob")
    );
    assert_eq!(job.spec.schedule.split(' ').count(), 5);
    assert_eq!(job.spec.concurrency_policy, "Forbid");
    Machine::start().two_nights(&container(&job.spec.job_template.spec, 0), &[0]);

    let job: kubernetes::Object<kubernetes::Job> =
        serde_saphyr::from_str(&example("indexed-job.yaml")).unwrap();
    assert_eq!(
        (job.api_version.as_str(), job.kind.as_str()),
        ("batch/v1", "Job")
    );
    for index in 0..job.spec.completions {
        Machine::start().two_nights(&container(&job.spec, index), &[index]);
    }
}

/// The task of Windows names its command in two parts, which its shell joins.
#[test]
fn the_task_of_windows_runs_two_nights() {
    use quick_xml::events::Event;
    let text = example("task.xml");
    let mut reader = quick_xml::Reader::from_str(&text);
    let (mut path, mut values) = (Vec::new(), BTreeMap::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => path.push(tag.name().as_ref().to_owned()),
            Event::End(_) => drop(path.pop()),
            Event::Eof => break,
            Event::Text(text) => {
                let value: &mut String = values.entry(path.join("/")).or_default();
                value.push_str(&text);
            }
            Event::GeneralRef(name) if &*name == "gt" => {
                values.entry(path.join("/")).or_default().push('>');
            }
            _ => {}
        }
    }
    assert_eq!(path, [""; 0]);
    let of = |path: &str| values[path].trim().to_owned();
    assert_eq!(of("Task/Settings/MultipleInstancesPolicy"), "IgnoreNew");
    assert_eq!(of("Task/Actions/Exec/Command"), "cmd");
    let arguments = of("Task/Actions/Exec/Arguments");
    let line = arguments.strip_prefix("/C ").unwrap().to_owned();
    let job = Job {
        environment: of_profile("us"),
        line,
    };
    Machine::start().two_nights(&job, &[0]);
}

/// What GitHub's tool prints and keeps: the file of the comment.
const GH: &str =
    "#!/bin/sh\n[ \"$1 $2 $3 $4\" = \"pr comment 7 --body-file\" ] && cp \"$5\" comment.md\n";

/// A pull request is previewed, approved and applied; then another one, whose CSV changes before it is approved.
#[test]
fn pull_requests_are_previewed_and_applied() {
    use std::os::unix::fs::PermissionsExt;
    let workflow = Workflow::parse(&example("pull-request.yml"));
    let machine = Machine::start();
    let path = machine.bench.write("bin/gh", GH);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let api = &machine.organizations[0];
    let environment: BTreeMap<_, _> = [
        ("SIGMA_CLIENT_ID", "id"),
        ("SIGMA_CLIENT_SECRET", SECRET),
        ("SIGMA_BULK_BASE_URL", &api.sandbox.url()),
        ("GITHUB_OUTPUT", "output"),
        ("GITHUB_STEP_SUMMARY", "summary.md"),
        ("NUMBER", "7"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let read = |name: &str| machine.bench.read(&format!("lib/sigma-bulk/{name}"));
    // Returns the exit codes of the steps up to the first failure; what installs the tool is left out.
    let run = |job: &str| -> Vec<Option<i32>> {
        let mut environment = environment.clone();
        let mut codes = Vec::new();
        for step in workflow.steps(job).filter(|step| !step.starts_with("curl")) {
            let line = step.to_owned();
            let (code, _) = machine.run(&Job {
                environment: environment.clone(),
                line,
            });
            codes.push(code);
            if code != Some(0) {
                break;
            }
            let outputs = std::fs::read_to_string(machine.bench.path("lib/sigma-bulk/output"));
            let outputs = outputs.unwrap_or_default();
            let code = outputs
                .lines()
                .filter_map(|line| line.strip_prefix("code="))
                .next_back();
            environment.extend(code.map(|code| ("CODE".to_owned(), code.to_owned())));
        }
        for made in ["preview", "applied"] {
            let _ = std::fs::remove_dir_all(machine.bench.path(&format!("lib/sigma-bulk/{made}")));
        }
        codes
    };
    let plan = machine.bench.path("lib/sigma-bulk/plan.jsonl");
    for name in ["One", "Two"] {
        let csv = format!("Email,First Name\nuser1@x.org,{name}\n");
        machine.bench.write("lib/sigma-bulk/members.csv", csv);
        assert_eq!(run("preview"), [Some(0); 3]);
        assert!(read("output").ends_with("code=6\n"));
        assert!(read("comment.md").contains(name), "{}", read("comment.md"));
        assert_ne!(api.member("user1@x.org").first_name, name);
        assert_eq!(run("apply"), [Some(0); 2]);
        assert_eq!(api.member("user1@x.org").first_name, name);
        assert!(
            read("summary.md").contains("updated"),
            "{}",
            read("summary.md")
        );
        std::fs::remove_file(&plan).unwrap();
    }
    // Nobody has to approve a pull request that changes nothing.
    assert_eq!(run("preview"), [Some(0); 3]);
    assert!(read("output").ends_with("code=0\n"));
    std::fs::remove_file(&plan).unwrap();
    // A row that is wrong fails the check, after the comment has told it.
    machine.bench.write(
        "lib/sigma-bulk/members.csv",
        "Email,First Name\nnobody@x.org,Three\n",
    );
    assert_eq!(run("preview"), [Some(0), Some(0), Some(1)]);
    assert!(
        read("comment.md").contains("not_found"),
        "{}",
        read("comment.md")
    );
    std::fs::remove_file(&plan).unwrap();
    // The branch goes on after the preview.
    machine.bench.write(
        "lib/sigma-bulk/members.csv",
        "Email,First Name\nuser1@x.org,Three\n",
    );
    assert_eq!(run("preview"), [Some(0); 3]);
    machine.bench.write(
        "lib/sigma-bulk/members.csv",
        "Email,First Name\nuser1@x.org,Four\n",
    );
    assert_eq!(run("apply"), [Some(2)]);
    assert_eq!(api.member("user1@x.org").first_name, "Two");
}
