//! HTTP behaviour: which statuses are retried, pauses, rate limits, tokens and connections.

use std::time::Duration;

use sigma_bulk::sandbox::{
    Config, Endpoint, Faults, Population, RateLimit, RateLimitKind, RetryAfter,
};

use crate::harness::{Api, Bench, many, user};

const ONE: &str = "Email,First Name\nuser1@x.org,A\n";

fn updates_only(faults: Faults) -> Faults {
    Faults {
        only: Some(vec![Endpoint::UpdateMember]),
        ..faults
    }
}

/// Sends every status from 300 to 599 and checks which of them cause a retry.
#[test]
fn only_transient_statuses_are_retried() {
    let api = Api::with_users(1);
    // `gateway::retry` has the table of all of them.
    let statuses = [
        300, 302, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 423, 425, 428,
        429, 451, 499, 500, 501, 502, 503, 504, 505, 506, 511, 520, 522, 524, 527, 530, 599,
    ];
    let tried_again: Vec<u16> = statuses
        .into_iter()
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
    let transient = [
        408, 425, 429, 500, 502, 503, 504, 506, 511, 520, 522, 524, 527, 530, 599,
    ];
    assert_eq!(tried_again, transient);
}

/// `Retry-After` works both as a number of seconds and as an HTTP date.
#[test]
fn retry_after_pauses_all_workers() {
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
            .update(&api, many(20), &["--concurrency", "1"])
            .exits(0);
        let at: Vec<Duration> = api.stats().patches.iter().map(|patch| patch.at).collect();
        let pause = at[1] - at[0];
        // A date has whole seconds and the tool needs time to start, so at least one second is left.
        assert!(pause >= Duration::from_millis(950), "{header}: {pause:?}");
    }
}

#[test]
fn rate_limit_without_retry_after_loses_no_rows() {
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
    bench.update(&api, many(60), &["--retries", "8"]).exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
}

#[test]
fn server_concurrency_limit_loses_no_rows() {
    let (api, bench) = (Api::with_users(60), Bench::new());
    api.sandbox.set_faults(Faults {
        max_concurrent: Some(5),
        latency: Duration::from_millis(10),
        ..Faults::default()
    });
    // The server rejects all but five requests of the first burst.
    bench
        .update(&api, many(60), &["--retries", "5", "--concurrency", "16"])
        .exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
    assert!(api.stats().refused_by_concurrency > 0);
}

/// `--rate` covers whoami and the listing as well as the updates.
#[test]
fn rate_limits_all_requests() {
    let (api, bench) = (Api::with_users(30), Bench::new());
    bench.update(&api, many(30), &["--rate", "50"]).exits(0);
    let arrivals = api.stats().arrivals;
    // 1 whoami, 1 for the own user, 1 listing, 30 updates. Token requests are counted separately.
    assert_eq!(arrivals.len(), 33);
    let took = arrivals[32] - arrivals[0];
    assert!(
        took >= Duration::from_millis(580),
        "32 requests at 50 a second took {took:?}"
    );
}

/// `--concurrency` covers lookups as well as updates, in both lookup modes.
#[test]
fn concurrency_limits_all_requests() {
    for (mode, concurrency) in [("each", 3), ("directory", 5)] {
        let faults = Faults {
            latency: Duration::from_millis(10),
            ..Faults::default()
        };
        let (api, bench) = (Api::with_users(60).faults(faults), Bench::new());
        let most = concurrency.to_string();
        bench
            .update(&api, many(60), &["--concurrency", &most, "--lookup", mode])
            .exits(0);
        assert_eq!(api.stats().peak_in_flight, concurrency);
    }
}

/// The token expires every two seconds. Workers share each renewal instead of requesting their own token.
#[test]
fn expired_token_is_renewed_once_for_all_workers() {
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
        .update(&api, many(40), &["--concurrency", "8"])
        .exits(0);
    let calls = api.stats().token_calls;
    assert!(calls.len() >= 2, "{calls:?}");
    // They are a second apart when they are sent, and less when they arrive on a busy machine.
    for pair in calls.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(500),
            "two token calls within a second: {calls:?}"
        );
    }
}

/// The server rejects tokens long before the expiry that it announced.
#[test]
fn rejected_token_is_replaced_and_rows_continue() {
    let api = Api::start(Config {
        population: Population::Members((1..=12).map(user).collect()),
        // The server announces an hour but rejects the token after half a second.
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
        .update(&api, many(12), &["--concurrency", "4"])
        .exits(0);
    let stats = api.stats();
    assert!(stats.answered(401) > 0, "no token was rejected");
    assert!(stats.token_calls.len() >= 2);
    for pair in stats.token_calls.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(500),
            "{:?}",
            stats.token_calls
        );
    }
}

/// Losing access in the middle of a run exits with 3, fails no rows, and a resume finishes the run.
#[test]
fn revoked_credentials_stop_a_resumable_run() {
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
fn connections_are_reused() {
    let (api, bench) = (Api::with_users(200), Bench::new());
    bench
        .update(&api, many(200), &["--concurrency", "4"])
        .exits(0);
    let connections = api.stats().connections;
    assert!(connections <= 5, "{connections} connections for 200 rows");
}

/// The secret is sent in the form body, and a rejected one is not sent again.
#[test]
fn wrong_secret_fails_without_retry() {
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
        "a rejected secret is not sent again"
    );
}

/// A request that waits for a rate-limit permit must not send a token that was rejected in the meantime.
#[test]
fn queued_requests_use_the_latest_token() {
    let api = Api::start(Config {
        population: Population::Members((1..=60).map(user).collect()),
        token_lifetime: Duration::from_millis(700),
        token_expires_in: Some(Duration::from_secs(3600)),
        ..Config::default()
    });
    let bench = Bench::new();
    // All 32 workers wait for the rate limit all the time, so a token can expire while a request waits.
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
        "{refused} rejected requests with {tokens} tokens"
    );
}
