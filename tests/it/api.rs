//! What is sent and what is made of the answers: statuses, retries, pauses, tokens, listings.

use std::time::Duration;

use sigma_bulk::sandbox::{
    Config, Endpoint, Faults, Population, RateLimit, RateLimitKind, RetryAfter,
};

use crate::harness::{Api, Bench, user};

const ONE: &str = "Email,First Name\nuser1@x.org,A\n";

fn many(count: usize) -> String {
    let rows: String = (1..=count)
        .map(|n| format!("user{n}@x.org,New{n}\n"))
        .collect();
    format!("Email,First Name\n{rows}")
}

fn updates_only(faults: Faults) -> Faults {
    Faults {
        only: Some(vec![Endpoint::UpdateMember]),
        ..faults
    }
}

#[test]
fn every_status_is_final_or_tried_again() {
    let api = Api::with_users(1);
    let tried_again: Vec<u16> = (300..=599)
        .filter(|status| {
            let status = *status;
            let before = api.stats().requests_to(Endpoint::UpdateMember);
            let bench = Bench::new();
            let faults = Faults {
                forced: Some(status),
                ..Faults::default()
            };
            api.sandbox.set_faults(updates_only(faults));
            bench.update(&api, ONE, &[]).exits(1);
            let line = &bench.results()[0];
            assert_eq!(line["Status"], status.to_string());
            assert_eq!(line["Outcome"], "failed");
            let sent = api.stats().requests_to(Endpoint::UpdateMember) - before;
            assert_eq!(line["Attempts"], sent.to_string());
            status != 401 && sent > 1
        })
        .collect();
    assert_eq!(tried_again, [408, 429, 500, 502, 503, 504]);
}

#[test]
fn a_retry_after_in_seconds_or_as_a_date_pauses_all_workers() {
    let date = || {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let seconds = || "1".to_owned();
    for header in [&seconds as &dyn Fn() -> String, &date] {
        let header = header();
        let faults = updates_only(Faults {
            forced: Some(429),
            max_faults: Some(1),
            retry_after_header: Some(header.clone()),
            ..Faults::default()
        });
        let (api, bench) = (Api::with_users(20).faults(faults), Bench::new());
        bench
            .update(&api, &many(20), &["--concurrency", "1"])
            .exits(0);
        let at: Vec<Duration> = api.stats().patches.iter().map(|patch| patch.at).collect();
        let pause = at[1] - at[0];
        // A date has whole seconds, and the tool takes a moment to start: of three seconds, one is left at least.
        assert!(pause >= Duration::from_millis(950), "{header}: {pause:?}");
    }
}

#[test]
fn a_rate_limit_without_retry_after_loses_nothing() {
    let rate_limit = Some(RateLimit {
        per_second: 60.0,
        kind: RateLimitKind::TokenBucket { burst: 10.0 },
        retry_after: RetryAfter::None,
    });
    let (api, bench) = (Api::with_users(60), Bench::new());
    api.sandbox.set_faults(Faults {
        rate_limit,
        ..Faults::default()
    });
    bench.update(&api, &many(60), &["--retries", "8"]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
}

#[test]
fn a_limit_of_requests_at_once_loses_nothing() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    api.sandbox.set_faults(Faults {
        max_concurrent: Some(5),
        latency: Duration::from_millis(10),
        ..Faults::default()
    });
    // All of the first burst but five are refused.
    bench
        .update(&api, &many(60), &["--retries", "5", "--concurrency", "16"])
        .exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
    assert!(api.stats().refused_by_concurrency > 0);
}

#[test]
fn the_rate_holds_for_everything_that_is_sent() {
    let (api, bench) = (Api::with_users(30), Bench::new());
    bench.update(&api, &many(30), &["--rate", "50"]).exits(0);
    let arrivals = api.stats().arrivals;
    // 1 whoami, 1 listing, 30 updates; the token's own is counted elsewhere.
    assert_eq!(arrivals.len(), 32);
    let took = arrivals[31] - arrivals[0];
    assert!(
        took >= Duration::from_millis(580),
        "32 requests at 50 a second took {took:?}"
    );
}

#[test]
fn the_concurrency_holds_for_everything_that_is_sent() {
    for (mode, concurrency) in [("each", 3), ("directory", 5)] {
        let faults = Faults {
            latency: Duration::from_millis(10),
            ..Faults::default()
        };
        let (api, bench) = (Api::with_users(60).faults(faults), Bench::new());
        let most = concurrency.to_string();
        bench
            .update(&api, &many(60), &["--concurrency", &most, "--lookup", mode])
            .exits(0);
        assert_eq!(api.stats().peak_in_flight, concurrency);
    }
}

#[test]
fn a_token_that_expires_every_two_seconds_is_renewed_once_for_all() {
    let api = Api::start(Config {
        population: Population::Members((1..=40).map(user).collect()),
        token_lifetime: Duration::from_secs(2),
        faults: Faults {
            latency: Duration::from_millis(700),
            ..Faults::default()
        },
        ..Config::default()
    });
    let bench = Bench::new();
    bench
        .update(&api, &many(40), &["--concurrency", "8"])
        .exits(0);
    let calls = api.stats().token_calls;
    assert!(calls.len() >= 2, "{calls:?}");
    for pair in calls.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(990),
            "two token calls within a second: {calls:?}"
        );
    }
}

#[test]
fn a_token_that_is_refused_is_replaced_and_the_row_goes_on() {
    let api = Api::start(Config {
        population: Population::Members((1..=12).map(user).collect()),
        // It says an hour, and means half a second.
        token_lifetime: Duration::from_millis(500),
        token_expires_in: Some(Duration::from_secs(3600)),
        faults: Faults {
            latency: Duration::from_millis(150),
            ..Faults::default()
        },
        ..Config::default()
    });
    let bench = Bench::new();
    bench
        .update(&api, &many(12), &["--concurrency", "4"])
        .exits(0);
    let stats = api.stats();
    assert!(stats.answered(401) > 0, "no token was refused");
    assert!(stats.token_calls.len() >= 2);
    for pair in stats.token_calls.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(990),
            "{:?}",
            stats.token_calls
        );
    }
}

#[test]
fn credentials_that_are_taken_away_during_the_run_stop_it_and_it_can_be_resumed() {
    let faults = Faults {
        latency: Duration::from_millis(20),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(200).faults(faults), Bench::new());
    bench.write("input.csv", many(200));
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, &[]));
    api.wait_until(|stats| stats.applied >= 10);
    api.sandbox.revoke_tokens();
    api.sandbox.set_faults(Faults {
        fail_before: 1.0,
        fail_status: 403,
        token_faults: true,
        only: Some(vec![Endpoint::Token]),
        ..Faults::default()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(bench.summary()["stop"], "error");
    let counts = bench.check_files();
    assert!(
        counts["not_attempted"] > 0 && !counts.contains_key("failed"),
        "{counts:?}"
    );
    api.sandbox.set_faults(Faults::default());
    bench.resume(&[]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 200)].into());
}

#[test]
fn connections_are_used_again() {
    let (api, bench) = (Api::with_users(200), Bench::new());
    bench
        .update(&api, &many(200), &["--concurrency", "4"])
        .exits(0);
    let connections = api.stats().connections;
    assert!(connections <= 5, "{connections} connections for 200 rows");
}

#[test]
fn the_secret_goes_in_the_form_and_wrong_ones_end_it_at_once() {
    let api = Api::start(Config {
        population: Population::Members(vec![user(1)]),
        client_id: Some("id-of-the-tests".to_owned()),
        client_secret: Some(crate::harness::SECRET.to_owned()),
        ..Config::default()
    });
    let bench = Bench::new();
    bench.update(&api, ONE, &[]).exits(0);
    let mut command = bench.command();
    command.env("SIGMA_CLIENT_SECRET", "wrong").args([
        "update",
        "input.csv",
        "--base-url",
        &api.sandbox.url(),
    ]);
    crate::harness::Ran::of(command.output().unwrap(), &bench)
        .exits(3)
        .says("401");
    assert_eq!(
        api.stats().requests_to(Endpoint::Token),
        2,
        "a refused secret is not sent again"
    );
}

#[test]
fn those_who_wait_for_their_turn_do_not_send_a_token_that_others_were_refused_with() {
    let api = Api::start(Config {
        population: Population::Members((1..=60).map(user).collect()),
        token_lifetime: Duration::from_millis(700),
        token_expires_in: Some(Duration::from_secs(3600)),
        ..Config::default()
    });
    let bench = Bench::new();
    // All 32 are in the line all the time, and each has the token of when it came.
    bench.write("input.csv", many(60));
    let url = api.sandbox.url();
    let words = ["update", "input.csv", "--base-url", &url, "--rate", "20"];
    bench
        .run(&[&words[..], &["--run-dir", "run"]].concat())
        .exits(0);
    let stats = api.stats();
    let (refused, tokens) = (stats.answered(401), stats.token_calls.len() as u64);
    assert!(tokens >= 3, "{tokens} tokens");
    assert!(
        refused <= 4 * tokens,
        "{refused} refusals of {tokens} tokens"
    );
}
