//! Everything at once: a long run through all faults, kills and resumes, then its undo. Each claim that the tool makes is
//! compared with what the server really holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::{Child, Stdio};
use std::time::Duration;

use sigma_bulk::sandbox::{
    Config, Faults, LateAnswer, ListingQuirks, Member, Population, RateLimit, RateLimitKind,
    RetryAfter,
};

use crate::harness::{Api, Bench, Line, lines, user};

const ROWS: usize = 20_000;
const KILLS: usize = 10;
/// Members whose update always fails, and whose content a firewall blocks.
const POISONED: [usize; 4] = [17, 9_017, 9_018, 19_997];
const BLOCKED: [usize; 3] = [27, 10_007, 19_987];

/// What row `n` asks for. No two rows concern one member.
fn row(n: usize) -> String {
    let email = format!("user{n}@x.org");
    match n % 10 {
        0 => format!("{email},A{n},B{n},,,\n"),
        1 => format!("{email},,,New{n}@X.org,,\n"),
        2 => format!("{email},,,,,true\n"),
        3 => format!("{email},,,,Creator,\n"),
        4 => format!("{email},First,,,,\n"),
        5 if n % 100 == 5 => format!("nobody{n}@x.org,A,,,,\n"),
        6 => format!("{email},A,,,,perhaps\n"),
        7 if BLOCKED.contains(&n) => format!("{email},DROP TABLE,Z{n},,,\n"),
        8 => format!("{email},C{n},,Moved{n}@x.org,Explorer,\n"),
        _ => format!("{email},D{n},,,,\n"),
    }
}

fn api() -> Api {
    Api::start(Config {
        population: Population::Members((1..=ROWS).map(user).collect()),
        own_email: "user6@x.org".to_owned(),
        normalizes: true,
        listing: ListingQuirks {
            cursor_name: Some("nextPageToken".to_owned()),
            misses: (1..=ROWS / 1000)
                .map(|n| format!("id{}", n * 997))
                .collect(),
            ..ListingQuirks::default()
        },
        ..Config::default()
    })
}

fn all_faults(seed: u64) -> Faults {
    Faults {
        seed,
        latency_jitter: Duration::from_millis(2),
        rate_limit: Some(RateLimit {
            per_second: 3000.0,
            kind: RateLimitKind::TokenBucket { burst: 1000.0 },
            retry_after: RetryAfter::None,
        }),
        fail_before: 0.004,
        fail_after: 0.004,
        fail_status: 520,
        close_before: 0.002,
        close_after: 0.002,
        html: 0.002,
        garbage: 0.002,
        truncate: 0.002,
        hang: 0.0002,
        hang_after: 0.0002,
        late: 0.002,
        late_by: Duration::from_millis(1500),
        late_answer: LateAnswer::OldMember(202),
        read_lag: Duration::from_millis(100),
        listing_lag: Duration::from_secs(10),
        poisoned: POISONED.iter().map(|n| format!("id{n}")).collect(),
        firewall: Some("DROP TABLE".to_owned()),
        ..Faults::default()
    }
}

const FLAGS: [&str; 8] = [
    "--rate",
    "0",
    "--concurrency",
    "24",
    "--retries",
    "4",
    "--timeout",
    "3s",
];

fn spawn(bench: &Bench, words: &[&str]) -> Child {
    let mut command = bench.command();
    command.args(words).args(FLAGS);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Runs `first`, and kills and resumes it at each of these numbers of applied updates.
fn run_with_kills(
    bench: &Bench,
    api: &Api,
    first: &[&str],
    dir: &str,
    kills: &[u64],
) -> Option<i32> {
    let mut child = spawn(bench, first);
    for (number, at) in kills.iter().enumerate() {
        api.wait_until(|stats| stats.applied >= *at);
        child.kill().unwrap();
        child.wait().unwrap();
        api.sandbox.set_faults(all_faults(100 + number as u64));
        child = spawn(bench, &["resume", dir]);
    }
    child.wait().unwrap().code()
}

/// Whether the member holds everything that row `n` asks for.
fn holds(member: &Member, n: usize) -> bool {
    let is = |have: &str, want: String| have.eq_ignore_ascii_case(&want);
    match n % 10 {
        0 => member.first_name == format!("A{n}") && member.last_name == format!("B{n}"),
        1 => is(&member.email, format!("new{n}@x.org")),
        2 => member.is_archived,
        3 => member.member_type == "Creator",
        4 => member.first_name == "First",
        8 => {
            member.first_name == format!("C{n}")
                && is(&member.email, format!("moved{n}@x.org"))
                && member.member_type == "Explorer"
        }
        _ => member.first_name == format!("D{n}"),
    }
}

/// Compares what results.csv says of each row with the server.
fn check_claims(
    results: &[Line],
    now: &BTreeMap<String, Member>,
    before: &BTreeMap<String, Member>,
) {
    assert_eq!(results.len(), ROWS);
    for (n, line) in (1..).zip(results) {
        let id = format!("id{n}");
        let (now, before) = (&now[&id], &before[&id]);
        let is_true = match (line["Outcome"].as_str(), n % 10) {
            ("updated", 0..=3 | 5 | 7..=9) => holds(now, n),
            ("unchanged", 4) => holds(now, n) && now == before,
            ("not_found", 5) | ("invalid", 6) => now == before,
            ("failed", 7 | 8) => (POISONED.contains(&n) || BLOCKED.contains(&n)) && now == before,
            _ => false,
        };
        assert!(is_true, "row {n}: {line:?}\n{now:?}");
    }
}

#[test]
fn every_claim_of_a_long_run_through_all_faults_is_true() {
    let (api, bench) = (api(), Bench::new());
    let before = api.state();
    let rows: String = (1..=ROWS).map(row).collect();
    bench.write(
        "input.csv",
        format!("Email,First Name,Last Name,New Email,Member Type,isArchived\n{rows}"),
    );
    api.sandbox.set_faults(all_faults(1));
    let url = api.sandbox.url();
    let first = [
        "update",
        "input.csv",
        "--base-url",
        &url,
        "--run-dir",
        "run",
    ];
    let kills: Vec<u64> = (1..=KILLS as u64).map(|n| n * 1300).collect();
    let code = run_with_kills(&bench, &api, &first, "run", &kills);
    assert_eq!(code, Some(1));
    // What is late is visible to everybody by now.
    std::thread::sleep(Duration::from_secs(2));
    let after = api.state();
    check_claims(&bench.results(), &after, &before);

    let undo = lines(&bench.path("run/undo.csv"));
    let changed: HashSet<&String> = (before.keys())
        .filter(|id| before[*id] != after[*id])
        .collect();
    let by_email: HashMap<String, &String> = (after.iter())
        .map(|(id, member)| (member.email.to_lowercase(), id))
        .collect();
    let undone: HashSet<&String> = (undo.iter())
        .map(|line| by_email[&line["Email"].to_lowercase()])
        .collect();
    assert!(
        changed.is_subset(&undone),
        "undo.csv has every member that was changed"
    );

    let applied = api.stats().applied;
    let undo_words = ["undo", "run", "--run-dir", "undo"];
    let kills: Vec<u64> = (1..=3).map(|n| applied + n * 3000).collect();
    let code = run_with_kills(&bench, &api, &undo_words, "undo", &kills);
    assert_eq!(code, Some(0));
    std::thread::sleep(Duration::from_secs(2));
    let restored = api.state();
    for (id, member) in &before {
        assert_eq!(&restored[id], member, "{id}");
    }
    for line in lines(&bench.path("undo/results.csv")) {
        assert!(
            ["updated", "unchanged"].contains(&line["Outcome"].as_str()),
            "{line:?}"
        );
    }
}
