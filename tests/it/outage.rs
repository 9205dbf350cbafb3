//! Trouble that is alike for everybody: outages, blocks and bans. It is not about the rows, and costs none of them.

use std::process::Child;
use std::time::Duration;

use sigma_bulk::sandbox::{Ban, Endpoint, Faults, Stats};

use crate::harness::{Api, Bench, Ran, many};

const ROWS: usize = 120;

/// Every request has this fault, also those for tokens.
fn everywhere(faults: Faults) -> Faults {
    Faults {
        token_faults: true,
        ..faults
    }
}

fn updates(faults: Faults) -> Faults {
    Faults {
        only: Some(vec![Endpoint::UpdateMember]),
        ..faults
    }
}

/// Starts an update with no tries to lose, and returns when the API has applied a few rows.
fn started(api: &Api, bench: &Bench, more: &[&str]) -> Child {
    api.sandbox.set_faults(Faults {
        latency: Duration::from_millis(20),
        ..Faults::default()
    });
    bench.write("input.csv", many(ROWS));
    let url = api.sandbox.url();
    let flags = ["--retries", "0", "--concurrency", "8"];
    let child = bench.start(&bench.update_words(&url, &[&flags, more].concat()));
    api.wait_until(|stats| stats.applied >= 20);
    child
}

fn ended(child: Child, bench: &Bench) -> Ran {
    Ran::of(child.wait_with_output().unwrap(), bench)
}

/// The names of the outcomes that occur.
fn names(bench: &Bench) -> Vec<String> {
    bench.check_files().into_keys().collect()
}

fn total(stats: &Stats) -> u64 {
    stats.requests.values().sum()
}

/// The API is gone for all. Everybody waits, few requests are sent into the outage, and no row is lost.
#[test]
fn outage_is_waited_out_without_losing_a_row() {
    let outages = [
        Faults {
            fail_before: 1.0,
            fail_status: 521,
            ..Faults::default()
        },
        Faults {
            close_before: 1.0,
            ..Faults::default()
        },
        Faults {
            hang: 1.0,
            ..Faults::default()
        },
    ];
    for outage in outages {
        let (api, bench) = (Api::with_users(ROWS), Bench::new());
        let child = started(&api, &bench, &["--timeout", "1s"]);
        api.sandbox.set_faults(everywhere(outage));
        let before = api.stats();
        // Only probes are sent once everybody waits.
        let probes = |stats: &Stats| stats.requests_to(Endpoint::Whoami);
        api.wait_until(|stats| probes(stats) >= probes(&before) + 2);
        let sent = total(&api.stats()) - total(&before);
        assert!(sent <= 24, "{sent} requests were sent into the outage");
        // The API has restarted, and no longer knows the token.
        api.sandbox.revoke_tokens();
        api.sandbox.set_faults(Faults::default());
        let ran = ended(child, &bench)
            .exits(0)
            .says("API unreachable")
            .says("All requests wait")
            .says("The API answers again");
        assert!(!ran.stderr.contains("refuses"), "{}", ran.stderr);
        assert_eq!(names(&bench), ["updated"]);
    }
}

/// Only updates fail, while the API answers everything else.
#[test]
fn outage_of_updates_alone_is_waited_out() {
    let (api, bench) = (Api::with_users(ROWS), Bench::new());
    let child = started(&api, &bench, &[]);
    api.sandbox.set_faults(updates(Faults {
        fail_before: 1.0,
        fail_status: 522,
        ..Faults::default()
    }));
    let before = api.stats().answered(522);
    api.wait_until(|stats| stats.answered(522) >= before + 10);
    api.sandbox.revoke_tokens();
    api.sandbox.set_faults(Faults::default());
    let ran = ended(child, &bench).exits(0).says("The API answers again");
    assert!(!ran.stderr.contains("refuses"), "{}", ran.stderr);
    assert_eq!(names(&bench), ["updated"]);
}

/// The listing and the first request of a run meet an outage too.
#[test]
fn outage_during_the_listing_is_waited_out() {
    let (api, bench) = (Api::with_users(ROWS), Bench::new());
    api.sandbox.set_faults(Faults {
        fail_before: 1.0,
        fail_status: 530,
        max_faults: Some(4),
        ..Faults::default()
    });
    bench.update(&api, many(ROWS), &[]).exits(0);
    assert_eq!(names(&bench), ["updated"]);
}

#[test]
fn long_outage_stops_a_resumable_run() {
    let (api, bench) = (Api::with_users(ROWS), Bench::new());
    let child = started(&api, &bench, &["--outage-limit", "2s"]);
    api.sandbox.set_faults(everywhere(Faults {
        fail_before: 1.0,
        fail_status: 521,
        ..Faults::default()
    }));
    let ran = ended(child, &bench).exits(3);
    assert!(
        ran.stdout
            .contains("the API could not be reached for too long (521"),
        "{}",
        ran.stdout
    );
    assert_eq!(bench.summary()["stop"], "error");
    let counts = bench.check_files();
    assert!(
        counts["not_attempted"] > 0 && !counts.contains_key("failed"),
        "{counts:?}"
    );
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(names(&bench), ["updated"]);
}

/// What always fails for one member, or for some, is about them and not about the API.
#[test]
fn poisoned_members_do_not_hold_the_others() {
    for poisoned in [&["id7"][..], &["id1", "id60", "id61", "id62", "id120"]] {
        let (api, bench) = (Api::with_users(ROWS), Bench::new());
        api.sandbox.set_faults(Faults {
            poisoned: poisoned.iter().map(|id| (*id).to_owned()).collect(),
            fail_status: 500,
            ..Faults::default()
        });
        let ran = bench.update(&api, many(ROWS), &[]).exits(1);
        assert!(!ran.stderr.contains("requests wait"), "{}", ran.stderr);
        let counts = bench.check_files();
        assert_eq!(counts["failed"], poisoned.len() as u64, "{counts:?}");
        assert_eq!(counts["updated"], (ROWS - poisoned.len()) as u64);
    }
}

/// Something in front of the API answers instead of it, or the API refuses every update. After a short wait the run stops
/// with the reason, and no row has failed.
#[test]
fn what_blocks_everybody_stops_the_run() {
    let cases = [
        (
            everywhere(Faults {
                challenge: 1.0,
                ..Faults::default()
            }),
            "allow-list",
        ),
        (
            everywhere(Faults {
                login: 1.0,
                ..Faults::default()
            }),
            "a login or a proxy",
        ),
        (
            everywhere(Faults {
                redirect: 1.0,
                ..Faults::default()
            }),
            "a redirect",
        ),
        (
            updates(Faults {
                html: 1.0,
                html_status: 403,
                ..Faults::default()
            }),
            "a firewall or proxy",
        ),
        (
            updates(Faults {
                forced: Some(403),
                ..Faults::default()
            }),
            "belong to an administrator",
        ),
        (
            updates(Faults {
                forced: Some(401),
                ..Faults::default()
            }),
            "belong to an administrator",
        ),
    ];
    for (faults, says) in cases {
        let (api, bench) = (Api::with_users(ROWS), Bench::new());
        let child = started(&api, &bench, &["--outage-limit", "2s"]);
        api.sandbox.set_faults(faults);
        let ran = ended(child, &bench).exits(3);
        assert!(ran.stdout.contains(says), "{says}: {}", ran.stdout);
        let counts = bench.check_files();
        assert!(counts["not_attempted"] > 50, "{says}: {counts:?}");
        assert!(!counts.contains_key("failed"), "{says}: {counts:?}");
        let tokens = api.stats().token_calls.len();
        assert!(tokens <= 6, "{says}: {tokens} tokens");
        api.sandbox.set_faults(Faults::default());
        bench.resume(&[]).exits(0);
        assert_eq!(names(&bench), ["updated"], "{says}");
    }
}

/// A firewall that dislikes the content of one update blocks that row alone.
#[test]
fn one_blocked_row_fails_alone_with_a_hint() {
    let (api, bench) = (Api::with_users(ROWS), Bench::new());
    api.sandbox.set_faults(Faults {
        firewall: Some("DROP TABLE".to_owned()),
        ..Faults::default()
    });
    let csv = many(ROWS).replace("user5@x.org,New5", "user5@x.org,Bobby; DROP TABLE");
    bench.update(&api, csv, &[]).exits(1);
    let counts = bench.check_files();
    assert_eq!((counts["failed"], counts["updated"]), (1, 119));
    let message = &bench.results()[4]["Message"];
    assert!(message.contains("a firewall or proxy"), "{message}");
}

/// The edge bans the client for its rate and prolongs the ban with each request. The ban is waited out in one piece.
#[test]
fn ban_is_waited_out_and_not_prolonged() {
    let (api, bench) = (Api::with_users(ROWS), Bench::new());
    api.sandbox.set_faults(everywhere(Faults {
        latency: Duration::from_millis(5),
        ban: Some(Ban {
            after: 60,
            lasts: Duration::from_secs(20),
            grows_by: Duration::from_millis(500),
        }),
        ..Faults::default()
    }));
    bench
        .update(&api, many(ROWS), &["--concurrency", "8"])
        .exits(0)
        .says("banned by the API's edge");
    assert_eq!(names(&bench), ["updated"]);
    let stats = api.stats();
    assert!(
        stats.refused_by_ban <= 10,
        "{} requests during the ban",
        stats.refused_by_ban
    );
}

/// A final answer with `Retry-After` is about its row, and holds nobody.
#[test]
fn retry_after_of_a_final_answer_holds_nobody() {
    let (api, bench) = (Api::with_users(40), Bench::new());
    api.sandbox.set_faults(updates(Faults {
        forced: Some(409),
        max_faults: Some(1),
        retry_after_header: Some("3600".to_owned()),
        ..Faults::default()
    }));
    bench
        .update(&api, many(40), &["--deadline", "60s"])
        .exits(1);
    assert_eq!(bench.check_files()["failed"], 1);
}
