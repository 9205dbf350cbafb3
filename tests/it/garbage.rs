//! Servers that answer with malformed data: no panic, no false success, and always a message.

use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults};

use crate::harness::{Api, Bench, Ran, listening};

const CSV: &str = "Email,First Name\nuser1@x.org,A\n";

fn update_with(faults: Faults, more: &[&str]) -> (Api, Bench, String) {
    let only = Some(vec![Endpoint::UpdateMember]);
    let (api, bench) = (
        Api::with_users(1).faults(Faults { only, ..faults }),
        Bench::new(),
    );
    bench.update(&api, CSV, more);
    let outcome = bench.outcomes().remove(0);
    bench.check_files();
    (api, bench, outcome)
}

/// An update that answers with invalid or truncated JSON is confirmed by a read, not sent again.
#[test]
fn unreadable_update_body_is_verified_by_reading() {
    for faults in [
        Faults {
            garbage: 1.0,
            ..Faults::default()
        },
        Faults {
            truncate: 1.0,
            ..Faults::default()
        },
    ] {
        let (api, _, outcome) = update_with(faults, &[]);
        assert_eq!(outcome, "updated");
        assert_eq!(
            api.stats().requests_to(Endpoint::UpdateMember),
            1,
            "it was not sent again"
        );
        // One for the user of the credentials, and one to verify the update.
        assert_eq!(api.stats().requests_to(Endpoint::GetMember), 2);
    }
}

#[test]
fn html_error_page_is_summarized() {
    let (_, bench, outcome) = update_with(
        Faults {
            html: 1.0,
            ..Faults::default()
        },
        &[],
    );
    assert_eq!(outcome, "failed");
    let message = &bench.results()[0]["Message"];
    assert!(
        message.contains("502") && message.contains("HTML"),
        "{message}"
    );
}

/// The server answers with an error of ten megabytes.
#[test]
fn huge_error_body_is_truncated() {
    let (_, bench, outcome) = update_with(
        Faults {
            huge_error: 1.0,
            ..Faults::default()
        },
        &["--retries", "0"],
    );
    assert_eq!(outcome, "failed");
    assert!(bench.results()[0]["Message"].len() < 1000);
}

#[test]
fn request_timeout_covers_a_slow_body() {
    let faults = Faults {
        slow_body: 1.0,
        slow_body_over: Duration::from_secs(30),
        ..Faults::default()
    };
    let (_, _, outcome) = update_with(faults, &["--timeout", "500ms", "--retries", "0"]);
    assert_eq!(outcome, "updated");
}

#[test]
fn redirects_are_never_followed() {
    let other = Api::with_users(1);
    for to in [
        None,
        Some(format!("{}/v2/members/id1", other.sandbox.url())),
    ] {
        let faults = Faults {
            redirect: 1.0,
            redirect_to: to,
            ..Faults::default()
        };
        let (api, bench, outcome) = update_with(faults, &[]);
        assert_eq!(outcome, "failed");
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 1);
        assert!(bench.results()[0]["Message"].contains("redirect"));
    }
    assert!(
        other.stats().requests.is_empty(),
        "the other host received no request, and so not the token"
    );
}

#[test]
fn hanging_request_times_out_and_is_retried() {
    let faults = Faults {
        hang: 1.0,
        max_faults: Some(1),
        ..Faults::default()
    };
    let (api, bench, outcome) = update_with(faults, &["--timeout", "300ms"]);
    assert_eq!(outcome, "updated");
    assert_eq!(bench.results()[0]["Attempts"], "2");
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 2);
}

#[test]
fn garbage_from_any_endpoint_gives_a_message() {
    for endpoint in [
        Endpoint::ListMembers,
        Endpoint::Whoami,
        Endpoint::AccountTypes,
        Endpoint::GetMember,
    ] {
        for faults in [
            Faults {
                garbage: 1.0,
                ..Faults::default()
            },
            Faults {
                html: 1.0,
                ..Faults::default()
            },
            Faults {
                truncate: 1.0,
                ..Faults::default()
            },
        ] {
            let faults = Faults {
                only: Some(vec![endpoint]),
                ..faults
            };
            let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
            let csv = "Email,First Name,Member Type\nuser1@x.org,A,Viewer\nuser2@x.org,A,Viewer\n";
            let ran = bench.update(&api, csv, &["--retries", "0"]);
            assert!(
                matches!(ran.code, Some(0 | 3)),
                "{:?}: {}",
                ran.code,
                ran.stderr
            );
            assert!(
                ran.code == Some(0) || ran.stderr.contains("error: "),
                "{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn control_characters_are_escaped_in_output() {
    // The harness checks all output for control characters.
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv = "Email,First Name,isArchived\n\"user1@x.org\",\"A\u{1b}[2J\",\nno\u{1b}body@x.org,\"B\u{7}\",\nuser1@x.org,,\"\u{1b}[31mx\"\n";
    let ran = bench.update(&api, csv, &["--dry-run", "-v"]).exits(1);
    assert!(ran.stdout.contains("\\u{1b}"), "{}", ran.stdout);
}

#[test]
fn log_escapes_control_characters_from_the_server() {
    // The harness checks all output for control characters. One of the answers is logged as a
    // warning, the other one only at the debug level.
    const EVIL: &str = r#"{"message":"\u001b[2J\u009b31m\u007f\u202eforged\nline"}"#;
    let forbidden = || async { (axum::http::StatusCode::FORBIDDEN, EVIL) };
    let router = axum::Router::new()
        .route("/v2/auth/token", axum::routing::post(|| async { TOKEN }))
        .route("/v2.1/members", axum::routing::get(|| async { LIST }))
        .fallback(forbidden);
    let server = Scripted::serve(router);
    for format in ["text", "json"] {
        let bench = Bench::new();
        bench.write("input.csv", "Email,Member Type\nuser1@x.org,Creator\n");
        let more = ["--log-level", "debug", "--log-format", format];
        let ran = bench.run(&bench.update_words(&server.url, &more)).exits(1);
        assert_eq!(bench.outcomes(), ["failed"]);
        assert!(ran.stderr.contains("forged"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("\nline"), "{}", ran.stderr);
    }
}

/// A server that answers with fixed bodies for the token, whoami, the listing, one member and its update.
struct Scripted {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

const TOKEN: &str = r#"{"access_token":"t","expires_in":3600}"#;
const WHOAMI: &str = r#"{"userId":"u","organizationId":"o"}"#;
const MEMBER: &str =
    r#"{"memberId":"id1","email":"user1@x.org","firstName":"A","memberType":"Viewer"}"#;
const LIST: &str =
    r#"{"entries":[{"memberId":"id1","email":"user1@x.org","firstName":"First"}],"nextPage":null}"#;

impl Scripted {
    fn start(bodies: [&str; 5]) -> Self {
        let [token, whoami, list, member, update] = bodies.map(str::to_owned);
        let answer = |body: String| move || async move { body };
        let router = axum::Router::new()
            .route("/v2/auth/token", axum::routing::post(answer(token)))
            .route("/v2/whoami", axum::routing::get(answer(whoami)))
            .route("/v2.1/members", axum::routing::get(answer(list)))
            .route(
                "/v2/members/{id}",
                axum::routing::get(answer(member)).patch(answer(update)),
            );
        Self::serve(router)
    }

    fn serve(router: axum::Router) -> Self {
        let (runtime, listener) = listening();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            _runtime: runtime,
        }
    }

    /// Updates one member. Returns the exit code, and the outcome if the run wrote results.
    fn update(&self, mode: &str) -> (Option<i32>, Option<String>) {
        let bench = Bench::new();
        bench.write("input.csv", CSV);
        let ran = bench.run(&bench.update_words(&self.url, &["--retries", "0", "--lookup", mode]));
        let outcome = bench
            .path("run/results.csv")
            .exists()
            .then(|| bench.outcomes().remove(0));
        assert!(
            ran.code == Some(0) || !ran.stderr.is_empty(),
            "a failed run prints a message"
        );
        (ran.code, outcome)
    }
}

/// A server may repeat the client secret or the token in its error. Output, log and files must not show them.
#[test]
fn secrets_echoed_by_the_server_are_hidden() {
    use axum::http::StatusCode;
    const TOKEN_OF_IT: &str = "a-token-that-nobody-may-see";
    let secret = "s/e+c r=t";
    let token = format!(r#"{{"access_token":"{TOKEN_OF_IT}","expires_in":3600}}"#);
    // Puts the secret where a long message is truncated, so that a part of it could remain.
    let message = |what: &str| format!(r#"{{"message":"{}{what}{what}"}}"#, "z".repeat(290));
    let says = |body: String| {
        axum::Router::new()
            .route(
                "/v2/auth/token",
                axum::routing::post({
                    let token = token.clone();
                    || async { token }
                }),
            )
            .route("/v2.1/members", axum::routing::get(|| async { LIST }))
            .fallback(move || async { (StatusCode::BAD_REQUEST, body) })
    };
    let form = |body: String| async move {
        let body = format!(r#"{{"message":"I got {body}"}}"#);
        (StatusCode::BAD_REQUEST, body)
    };
    let echo = axum::Router::new().route("/v2/auth/token", axum::routing::post(form));
    let router = [
        (says(message(secret)), "[hid"),
        (says(message(TOKEN_OF_IT)), "[hid"),
        (echo, "client_secret=[hidden]"),
    ];
    for (router, shown) in router {
        let server = Scripted::serve(router);
        let bench = Bench::new();
        bench.write("input.csv", CSV);
        let mut command = bench.command();
        command.env("SIGMA_CLIENT_SECRET", secret);
        command.args(bench.update_words(&server.url, &["--log-level", "debug"]));
        let ran = Ran::of(command.output().unwrap(), &bench);
        let files = ["results.csv", "failed.csv", "journal.jsonl", "summary.json"];
        let read = |name: &str| std::fs::read_to_string(bench.path(&format!("run/{name}")));
        let mut all = ran.stdout + &ran.stderr;
        all.extend(files.into_iter().filter_map(|name| read(name).ok()));
        for hidden in ["s/e+", "s%2Fe", "a-tok"] {
            assert!(!all.contains(hidden), "{hidden} is shown: {all}");
        }
        assert!(all.contains(shown), "{all}");
    }
}

/// Every endpoint answers with wrong types, missing fields or unrelated documents.
#[test]
fn malformed_json_is_never_a_success() {
    let broken = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "42",
        "\"text\"",
        "[{}]",
        "<html></html>",
        r#"{"memberId":{"a":1},"entries":7,"access_token":[],"userId":5,"organizationId":{}}"#,
        r#"{"memberId":"id1","email":[],"firstName":"A","entries":[{"memberId":null}],"nextPage":{},"access_token":null}"#,
        r#"{"memberId":"id1","isArchived":"no","entries":[{"memberId":"id1","isArchived":3}]}"#,
    ];
    for body in broken {
        // Without a token or a listing, no update is sent.
        let (code, outcome) =
            Scripted::start([body, WHOAMI, LIST, MEMBER, MEMBER]).update("directory");
        assert_eq!((code, outcome), (Some(3), None), "token {body}");
        let (code, outcome) =
            Scripted::start([TOKEN, WHOAMI, body, MEMBER, MEMBER]).update("directory");
        assert!(
            code == Some(3) || outcome.as_deref() == Some("not_found"),
            "listing {body}: {code:?} {outcome:?}"
        );
        // The run does not need the owner of the credentials, but a page in place of an answer is not the API.
        let (code, _) = Scripted::start([TOKEN, body, LIST, MEMBER, MEMBER]).update("directory");
        let expected = if body.starts_with('<') { 3 } else { 0 };
        assert_eq!(code, Some(expected), "whoami {body}");
        // An unreadable lookup fails the row. An unreadable update is verified by reading the member.
        let (code, outcome) = Scripted::start([TOKEN, WHOAMI, body, MEMBER, MEMBER]).update("each");
        let outcome = outcome.unwrap_or_default();
        assert!(
            code == Some(1) && ["failed", "not_found"].contains(&&*outcome),
            "look-up {body}: {outcome}"
        );
        let (code, outcome) =
            Scripted::start([TOKEN, WHOAMI, LIST, MEMBER, body]).update("directory");
        assert_eq!(
            (code, outcome.as_deref()),
            (Some(0), Some("updated")),
            "update {body}"
        );
        let (code, outcome) =
            Scripted::start([TOKEN, WHOAMI, LIST, body, body]).update("directory");
        assert_eq!(
            (code, outcome.as_deref()),
            (Some(1), Some("unknown")),
            "update and member {body}"
        );
    }
}

#[test]
fn member_with_other_values_is_failed() {
    let other = r#"{"memberId":"id1","email":"user1@x.org","firstName":"Other"}"#;
    let answer = Scripted::start([TOKEN, WHOAMI, LIST, other, other]).update("directory");
    assert_eq!(answer, (Some(1), Some("failed".to_owned())));
}

/// Without this check the listing would loop forever.
#[test]
fn repeated_page_cursor_is_an_error() {
    let round = r#"{"entries":[],"nextPage":"same"}"#;
    let answer = Scripted::start([TOKEN, WHOAMI, round, MEMBER, MEMBER]).update("directory");
    assert_eq!(answer, (Some(3), None));
}

#[test]
fn flag_missing_from_the_answer_is_read_back() {
    const ARCHIVED: &str = r#"{"memberId":"id1","email":"user1@x.org","isArchived":true}"#;
    for (read, outcome) in [(ARCHIVED, "updated"), (MEMBER, "failed")] {
        let server = Scripted::start([TOKEN, WHOAMI, LIST, read, MEMBER]);
        let bench = Bench::new();
        bench.write("input.csv", "Email,isArchived\nuser1@x.org,true\n");
        bench.run(&bench.update_words(&server.url, &[]));
        assert_eq!(bench.outcomes(), [outcome]);
    }
}

/// When a member is read back, that answer decides the outcome, and it must have the same member id.
#[test]
fn read_back_overrides_the_update_answer() {
    const BEFORE: &str =
        r#"{"memberId":"id1","email":"user1@x.org","firstName":"First","memberType":"Viewer"}"#;
    const OTHER: &str =
        r#"{"memberId":"id2","email":"user1@x.org","firstName":"A","memberType":"Viewer"}"#;
    // The member as read back, the answer to the update, more arguments, and the expected outcome.
    for (read, update, more, outcome) in [
        (BEFORE, MEMBER, &["--canary", "1"][..], "failed"),
        (OTHER, MEMBER, &["--canary", "1"], "unknown"),
        (MEMBER, MEMBER, &["--canary", "1"], "updated"),
        (OTHER, "{}", &[], "unknown"),
    ] {
        let server = Scripted::start([TOKEN, WHOAMI, LIST, read, update]);
        let bench = Bench::new();
        bench.write("input.csv", CSV);
        bench.run(&bench.update_words(&server.url, more));
        assert_eq!(bench.outcomes(), [outcome], "{read} {update}");
    }
}

/// Without the owner of the credentials, the tool cannot keep a run from archiving that user.
#[test]
fn unreadable_whoami_warns_that_self_is_unprotected() {
    for whoami in ["{}", "null", r#"{"organizationId":"o"}"#] {
        let server = Scripted::start([TOKEN, whoami, LIST, MEMBER, MEMBER]);
        let bench = Bench::new();
        bench.write("input.csv", CSV);
        bench
            .run(&bench.update_words(&server.url, &[]))
            .exits(0)
            .says("this user is not protected");
    }
}

/// A page of a login, a challenge or nothing at all in place of a token is said as it is. The credentials are not to blame.
#[test]
fn what_stands_in_place_of_a_token_is_named() {
    let challenge = Faults {
        challenge: 1.0,
        token_faults: true,
        ..Faults::default()
    };
    let api = Api::with_users(1).faults(challenge);
    let bench = Bench::new();
    let ran = bench.update(&api, CSV, &[]).exits(3).says("allow-list");
    assert!(!ran.stderr.contains("SIGMA_CLIENT_ID"), "{}", ran.stderr);

    let empty = r#"{"access_token":"","expires_in":3600}"#;
    let server = Scripted::start([empty, WHOAMI, LIST, MEMBER, MEMBER]);
    let bench = Bench::new();
    bench.write("input.csv", CSV);
    bench
        .run(&bench.update_words(&server.url, &[]))
        .exits(3)
        .says("access_token is empty");
}

/// A member's id that could lead a request to another address is never used.
#[test]
fn member_ids_that_are_no_path_segment_are_refused() {
    for id in ["..", ".", "", "a/b", "a?b", "a#b", "a%2fb", "a b"] {
        let member = MEMBER.replace("\"id1\"", &format!("{id:?}"));
        assert_ne!(member, MEMBER);
        let list = format!(r#"{{"entries":[{member}]}}"#);
        let (code, outcome) =
            Scripted::start([TOKEN, WHOAMI, &list, &member, &member]).update("each");
        assert_eq!(
            (code, outcome.as_deref()),
            (Some(1), Some("failed")),
            "{id}"
        );
    }
}
