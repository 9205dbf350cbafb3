//! TLS and HTTP/2: certificates, connections that die without a word, and servers that close them politely.
//!
//! The sandbox speaks plain HTTP/1.1. A relay in front of it speaks HTTP/2 over TLS and misbehaves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::harness::{Api, Bench, Ran, listening, many};

/// How a connection of the relay ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It stays open, and nothing comes over it any more, not even the answers to pings.
    Silence,
    /// GOAWAY without an error: what was accepted is answered, and then it closes.
    GoAway,
    /// It stays, and refuses every third request before it processes it.
    Refusals,
}

/// A relay whose first connections end after some requests.
struct Relay {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    certificate: String,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Plan {
    target: String,
    /// The requests that a connection answers before it ends.
    requests: usize,
    end: End,
    /// The connections that end.
    ending: usize,
}

impl Relay {
    /// Starts a relay whose first `ending` connections end after this many requests.
    fn in_front_of(api: &Api, requests: usize, end: End, ending: usize) -> Self {
        let target = api.sandbox.url();
        let plan = Plan {
            target,
            requests,
            end,
            ending,
        };
        Self::start(plan, &localhost())
    }

    fn start(plan: Plan, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Another test may have installed it.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (runtime, listener) = listening();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(acceptor.clone(), stream, plan.clone(), number));
            }
        });
        Self {
            addr,
            connections,
            certificate: certificate.pem(),
            _runtime: runtime,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Runs an update over the relay, which it trusts.
    fn update(&self, bench: &Bench, rows: usize, host: &str, more: &[&str]) -> Ran {
        bench.write("input.csv", many(rows));
        bench.write("ca.pem", &self.certificate);
        let url = format!("https://{host}:{}", self.addr.port());
        let flags = ["--ca-cert", "ca.pem", "--concurrency", "8"];
        let words = ["update", "input.csv", "--base-url", &url, "--rate", "0"];
        bench.run(&[&words[..], &["--run-dir", "run"], &flags, more].concat())
    }
}

async fn relay(acceptor: TlsAcceptor, stream: TcpStream, plan: Plan, number: usize) {
    let Ok(tls) = acceptor.accept(stream).await else {
        return;
    };
    let Ok(mut connection) = h2::server::handshake(tls).await else {
        return;
    };
    let client = reqwest::Client::new();
    let mut accepted = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        accepted += 1;
        if number < plan.ending && accepted > plan.requests {
            match plan.end {
                // The connection is not polled any more, and stays open.
                End::Silence => std::future::pending::<()>().await,
                End::GoAway => connection.graceful_shutdown(),
                End::Refusals if accepted % 3 == 0 => {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                End::Refusals => {}
            }
        }
        tokio::spawn(forward(
            client.clone(),
            plan.target.clone(),
            request,
            respond,
        ));
    }
}

async fn forward(
    client: reqwest::Client,
    target: String,
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    let path = head.uri.path_and_query().unwrap().as_str();
    let answer = client
        .request(head.method, format!("{target}{path}"))
        .headers(head.headers)
        .body(bytes)
        .send()
        .await
        .unwrap();
    let mut response = http::Response::new(());
    *response.status_mut() = answer.status();
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    let bytes = answer.bytes().await.unwrap();
    if let Ok(mut stream) = respond.send_response(response, false) {
        let _ = stream.send_data(bytes, true);
    }
}

fn localhost() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned()]).unwrap()
}

const ROWS: usize = 60;

/// A firewall forgets a connection. It is replaced, and no row is lost, whether tries are left or not.
#[test]
fn dead_connection_is_replaced() {
    let api = Api::with_users(ROWS);
    let relay = Relay::in_front_of(&api, 20, End::Silence, 1);
    let bench = Bench::new();
    relay
        .update(
            &bench,
            ROWS,
            "localhost",
            &["--timeout", "1s", "--retries", "2"],
        )
        .exits(0);
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
    // The dead one, and fresh ones for those that timed out together.
    assert!(
        (2..=4).contains(&relay.connections()),
        "{}",
        relay.connections()
    );
}

/// Without a time limit that is short, pings find out that the connection is dead.
#[test]
fn dead_connection_is_found_by_pings() {
    let api = Api::with_users(ROWS);
    let relay = Relay::in_front_of(&api, 20, End::Silence, 1);
    let bench = Bench::new();
    let began = std::time::Instant::now();
    relay
        .update(&bench, ROWS, "localhost", &["--timeout", "10m"])
        .exits(0);
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "the time limit was waited for"
    );
    assert_eq!(bench.check_files(), [("updated".to_owned(), 60)].into());
}

/// A server closes its connections politely, or says of requests that it has not processed them. That costs no try.
#[test]
fn goaway_and_refused_streams_cost_no_try() {
    for (end, connections) in [(End::GoAway, 4), (End::Refusals, 1)] {
        let api = Api::with_users(ROWS);
        let relay = Relay::in_front_of(&api, 10, end, 4);
        let bench = Bench::new();
        relay
            .update(&bench, ROWS, "localhost", &["--retries", "0"])
            .exits(0);
        let counts = bench.check_files();
        assert_eq!(counts, [("updated".to_owned(), 60)].into(), "{end:?}");
        let opened = relay.connections();
        assert!(opened >= connections, "{end:?}: {opened}");
    }
}

/// What is wrong with a certificate is said as it is, each with its remedy.
#[test]
fn certificates_are_refused_with_the_remedy_that_helps() {
    let api = Api::with_users(1);
    let mut expired = localhost();
    expired.not_before = rcgen::date_time_ymd(2001, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2002, 1, 1);
    for (params, host, trusts, says, not) in [
        (
            expired,
            "localhost",
            true,
            "check the clock",
            "--ca-cert FILE",
        ),
        (
            localhost(),
            "127.0.0.1",
            true,
            "another server answers",
            "--ca-cert FILE",
        ),
        (
            localhost(),
            "localhost",
            false,
            "--ca-cert FILE",
            "check the clock",
        ),
    ] {
        let plan = Plan {
            target: api.sandbox.url(),
            requests: 0,
            end: End::GoAway,
            ending: 0,
        };
        let mut relay = Relay::start(plan, &params);
        if !trusts {
            let key = KeyPair::generate().unwrap();
            relay.certificate = localhost().self_signed(&key).unwrap().pem();
        }
        let ran = relay.update(&Bench::new(), 1, host, &[]).exits(3);
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
        assert!(!ran.stderr.contains(not), "{not}: {}", ran.stderr);
    }
}
