//! The format of GitHub's workflows, as far as this project uses it, and its own workflows. A key that is not known is an
//! error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A workflow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are only there to be known")]
pub(crate) struct Workflow {
    name: String,
    on: BTreeMap<Event, Value>,
    permissions: BTreeMap<Scope, Access>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    concurrency: Option<Value>,
    jobs: BTreeMap<String, Job>,
}

/// What starts a workflow.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Event {
    PullRequest,
    Push,
    Schedule,
    WorkflowDispatch,
}

/// What a token may touch.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    Attestations,
    Contents,
    IdToken,
    PullRequests,
}

/// What a token may do.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Access {
    Read,
    Write,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "some fields are only there to be known")]
struct Job {
    name: Option<String>,
    needs: Option<Value>,
    r#if: Option<String>,
    runs_on: String,
    environment: Option<Value>,
    concurrency: Option<Value>,
    permissions: Option<BTreeMap<Scope, Access>>,
    strategy: Option<Value>,
    timeout_minutes: Option<u32>,
    #[serde(default)]
    outputs: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    defaults: Option<Value>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "some fields are only there to be known")]
struct Step {
    id: Option<String>,
    name: Option<String>,
    r#if: Option<String>,
    uses: Option<String>,
    run: Option<String>,
    shell: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, Value>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl Workflow {
    /// Reads a workflow, and checks that its jobs are connected.
    pub(crate) fn parse(text: &str) -> Self {
        let workflow: Self = serde_saphyr::from_str(text).unwrap();
        for (name, job) in &workflow.jobs {
            let needs = match &job.needs {
                Some(Value::String(one)) => vec![one.clone()],
                Some(several) => serde_json::from_value(several.clone()).unwrap(),
                None => Vec::new(),
            };
            for needed in needs {
                assert!(workflow.jobs.contains_key(&needed), "{name} needs {needed}");
            }
            for step in &job.steps {
                assert!(step.uses.is_some() != step.run.is_some(), "{name}");
                assert!(step.uses.is_some() || step.with.is_empty(), "{name}");
            }
        }
        workflow
    }

    /// Returns the shell steps of a job.
    pub(crate) fn steps(&self, job: &str) -> impl Iterator<Item = &str> {
        let steps = self.jobs[job].steps.iter();
        steps.filter_map(|step| step.run.as_deref())
    }
}

/// Nobody can change what the workflows run by moving a tag, no token may do more than its job needs, and the shell can read
/// every step.
#[test]
fn workflows_are_pinned_and_have_few_rights() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/.github/workflows");
    for entry in std::fs::read_dir(directory).unwrap() {
        let workflow = Workflow::parse(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        assert!(
            workflow
                .permissions
                .values()
                .all(|access| *access == Access::Read)
        );
        for (name, job) in &workflow.jobs {
            assert!(job.timeout_minutes.is_some(), "{name}");
            let actions = job.steps.iter().filter_map(|step| step.uses.as_deref());
            for action in actions {
                let (_, version) = action.split_once('@').unwrap();
                let is_commit =
                    version.len() == 40 && version.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(is_commit, "{action}");
            }
            for step in workflow.steps(name) {
                // What GitHub puts into a script is not a part of the script.
                assert!(!step.contains("${{"), "{step}");
                let mut shell = std::process::Command::new("sh");
                assert!(
                    shell.args(["-n", "-c", step]).status().unwrap().success(),
                    "{step}"
                );
            }
        }
    }
}
