//! The course of a request: its arrival in the statistics, the faults and limits, the token, and its answer, which a
//! fault may spoil.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::response::Response;
use futures::{StreamExt, stream};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;

use super::Endpoint;
use super::app::{App, Traffic};
use super::faults::{FaultEffect, FaultPlan, LateAnswer, Stage};
use super::member::MemberJson;
use super::refusal::Refusal;
use super::stats::Ticket;

const JSON: &str = "application/json; charset=utf-8";

/// The body size of [`FaultEffect::HugeError`], in bytes.
const HUGE: usize = 10 * 1024 * 1024;

/// The number of chunks of a slow body.
const TRICKLES: usize = 20;

/// The error page of a proxy in front of the API.
const HTML: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// The page of a login in front of the API.
const LOGIN: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>";

/// The edge's page that wants to see a browser, and the header that says so.
const CHALLENGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>";
const MITIGATED: HeaderName = HeaderName::from_static("cf-mitigated");

/// The edge's page for a client that it has banned for its rate.
const BANNED: &str = "<html><head><title>Access denied | Error 1015</title></head>\
    <body>You are being rate limited</body></html>";

/// A response extension that tells the server to close the connection instead of sending the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseInstead;

/// The parts of a request that every endpoint needs.
pub(super) struct Call {
    target: Uri,
    authorization: Option<HeaderValue>,
}

impl FromRequestParts<Arc<App>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self {
            target: parts.uri.clone(),
            authorization: parts.headers.get(AUTHORIZATION).cloned(),
        })
    }
}

/// A response to which a fault can still be applied.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Serializing these types can't fail. If it did, the empty body would show it.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self {
            status,
            content_type: JSON,
            header: None,
            body: body.into(),
        }
    }

    fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let request_id = format!("{:016x}", fastrand::u64(..));
        let body = ErrorJson {
            code,
            message,
            request_id,
        };
        Self::json(status, &body)
    }

    fn is_success(&self) -> bool {
        self.status.is_success()
    }

    fn html(status: u16, body: &'static str) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            content_type: "text/html",
            header: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    /// Adds a header if the value is a valid header value.
    fn with(mut self, name: HeaderName, value: Option<String>) -> Self {
        self.header = value
            .and_then(|value| HeaderValue::try_from(value).ok())
            .map(|value| (name, value));
        self
    }

    pub(super) fn response(self) -> Response {
        let body = match self.status {
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
                Body::empty()
            }
            _ => Body::from(self.body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.extend(self.header);
        response
    }

    /// Converts the answer to a response with the full `Content-Length` and a streamed body.
    fn streamed<S>(mut self, stream: impl FnOnce(Bytes) -> S) -> Response
    where
        S: stream::Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let body = std::mem::take(&mut self.body);
        let length = HeaderValue::from(body.len());
        let mut response = self.response();
        response.headers_mut().insert(CONTENT_LENGTH, length);
        *response.body_mut() = Body::from_stream(stream(body));
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Refusal::Unauthorized | Refusal::WrongCredentials => {
                (StatusCode::UNAUTHORIZED, "unauthorized")
            }
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Refusal::UnknownMember | Refusal::UnknownType | Refusal::UnknownEndpoint => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            Refusal::Duplicate => (StatusCode::CONFLICT, "conflict"),
        };
        Self::error(status, code, &refusal.to_string())
    }
}

/// A guard for a request in flight. Dropping it ends the request in the statistics, even if the client
/// disconnects.
struct RequestGuard<'a> {
    app: &'a App,
    ticket: Ticket,
    status: Option<u16>,
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        self.app.traffic().tally.leave(&self.ticket, self.status);
    }
}

impl<'a> RequestGuard<'a> {
    fn begin(app: &'a App, endpoint: Endpoint, patch: Option<(&str, &[u8])>) -> (Self, FaultPlan) {
        let now = Instant::now();
        let mut traffic = app.traffic();
        let Traffic {
            injector, tally, ..
        } = &mut *traffic;
        let ticket = tally.arrive(endpoint, patch, now);
        let plan = injector.decide(endpoint, tally.in_flight(), patch, now);
        match plan {
            FaultPlan::Banned => tally.stats.refused_by_ban += 1,
            FaultPlan::TooFast { .. } => tally.stats.refused_by_rate_limit += 1,
            FaultPlan::TooMany => tally.stats.refused_by_concurrency += 1,
            FaultPlan::Go { fault, .. } => tally.stats.faults += u64::from(fault.is_some()),
        }
        let guard = Self {
            app,
            ticket,
            status: None,
        };
        (guard, plan)
    }

    fn end(mut self, response: Response) -> Response {
        self.status = Some(response.status().as_u16());
        response
    }
}

/// Handles a request: records its arrival, gets the plan, and runs `act` unless a fault or a limit
/// prevents it.
pub(super) async fn exchange(
    app: &App,
    endpoint: Endpoint,
    patch: Option<(&str, &[u8])>,
    call: Call,
    act: impl FnOnce() -> Result<Answer, Refusal>,
) -> Response {
    let (guard, plan) = RequestGuard::begin(app, endpoint, patch);
    let (delay, fault) = match plan {
        FaultPlan::TooFast { wait, hint } => {
            let when = hint.value(wait, Timestamp::now());
            return guard.end(too_many_requests(when).response());
        }
        FaultPlan::TooMany => {
            let when = app.traffic().injector.faults().retry_after_header.clone();
            return guard.end(too_many_requests(when).response());
        }
        FaultPlan::Banned => return guard.end(banned().response()),
        FaultPlan::Go { delay, fault } => (delay, fault),
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let perform = || {
        let open = matches!(endpoint, Endpoint::Token | Endpoint::Other);
        if !open && !app.admits(call.authorization.as_ref()) {
            return Answer::from(Refusal::Unauthorized);
        }
        match act() {
            Ok(answer) => {
                app.traffic().tally.apply(&guard.ticket);
                answer
            }
            Err(refusal) => Answer::from(refusal),
        }
    };
    let Some((stage, effect)) = fault else {
        let answer = perform();
        return guard.end(answer.response());
    };
    let before = (effect == FaultEffect::Late)
        .then(|| patch.and_then(|(member, _)| as_it_is(app, member)))
        .flatten();
    let honest = (stage == Stage::After).then(perform);
    if let Some((member, _)) = patch
        && effect == FaultEffect::Late
    {
        let by = app.traffic().injector.faults().late_by;
        app.organization().hide(member, by);
    }
    let honest = before
        .filter(|_| honest.as_ref().is_some_and(Answer::is_success))
        .or(honest);
    spoil(guard, effect, honest, &call).await
}

/// Returns the answer with a member as it is.
fn as_it_is(app: &App, member_id: &str) -> Option<Answer> {
    let organization = app.organization();
    let entry = organization.get(organization.by_id(member_id)?)?;
    let body = MemberJson::new(app, entry, Duration::ZERO);
    Some(Answer::json(StatusCode::OK, &body))
}

/// Applies a fault. `honest` is the regular answer if the request was applied.
async fn spoil(
    guard: RequestGuard<'_>,
    effect: FaultEffect,
    honest: Option<Answer>,
    call: &Call,
) -> Response {
    let faults = guard.app.traffic().injector.faults().clone();
    // The client sees this placeholder only if a fault before the request is applied has a 2xx status.
    let honest = honest.unwrap_or_else(|| Answer::error(StatusCode::OK, "", ""));
    let response = match effect {
        FaultEffect::Hang => {
            std::future::pending::<()>().await;
            honest.response()
        }
        FaultEffect::Close => {
            // `guard.end` is not called, because there is no response to count.
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(CloseInstead);
            return response;
        }
        FaultEffect::Status(status) if (200..300).contains(&status) => {
            let status = StatusCode::from_u16(status).unwrap_or(honest.status);
            Answer { status, ..honest }.response()
        }
        FaultEffect::Status(status) => {
            let status = (StatusCode::from_u16(status).ok())
                .filter(|status| !status.is_informational())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = status.canonical_reason().unwrap_or("Failed on purpose");
            Answer::error(status, "sandbox_fault", message)
                .with(RETRY_AFTER, faults.retry_after_header)
                .response()
        }
        FaultEffect::Html(200) => Answer::html(200, LOGIN).response(),
        FaultEffect::Html(status) => Answer::html(status, HTML).response(),
        FaultEffect::Challenge => Answer::html(403, CHALLENGE)
            .with(MITIGATED, Some("challenge".to_owned()))
            .response(),
        FaultEffect::Late if !honest.is_success() => honest.response(),
        FaultEffect::Late => match faults.late_answer {
            LateAnswer::OldMember(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(honest.status);
                Answer { status, ..honest }.response()
            }
            LateAnswer::Success => {
                Answer::json(StatusCode::OK, &serde_json::json!({"success": true})).response()
            }
            LateAnswer::Error(status) => Answer::html(status, HTML).response(),
        },
        FaultEffect::HugeError => {
            let message = "x".repeat(HUGE);
            Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &message).response()
        }
        FaultEffect::Redirect => {
            let path = call
                .target
                .path_and_query()
                .map_or("/", |path| path.as_str());
            let host = faults.redirect_to.unwrap_or_default();
            let message = "Moved for a while";
            Answer::error(StatusCode::TEMPORARY_REDIRECT, "moved", message)
                .with(LOCATION, Some(format!("{host}{path}")))
                .response()
        }
        FaultEffect::Garbage => Answer {
            status: StatusCode::OK,
            body: Bytes::from_static(b"{\"memberId\": \"\x1b[31m\xff\xfe, it's not"),
            ..honest
        }
        .response(),
        FaultEffect::Truncate => honest.streamed(truncated),
        FaultEffect::SlowBody => honest.streamed(|body| trickling(&body, faults.slow_body_over)),
    };
    guard.end(response)
}

fn banned() -> Answer {
    Answer::html(429, BANNED)
}

fn too_many_requests(retry_after: Option<String>) -> Answer {
    let message = "Too many requests";
    Answer::error(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
        .with(RETRY_AFTER, retry_after)
}

/// Returns the first half of a body and then an error, which makes hyper close the connection.
fn truncated(mut body: Bytes) -> impl stream::Stream<Item = io::Result<Bytes>> {
    body.truncate(body.len() / 2);
    let cut = async {
        // Without a pause, hyper would fail before it sends the first half.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    };
    stream::iter([Ok(body)]).chain(stream::once(cut))
}

/// Returns a body in small chunks with a pause before each.
fn trickling(
    body: &Bytes,
    over: Duration,
) -> impl stream::Stream<Item = io::Result<Bytes>> + use<> {
    let pause = over / u32::try_from(TRICKLES).unwrap_or(1);
    let piece = body.len().div_ceil(TRICKLES).max(1);
    let pieces: Vec<_> = body
        .chunks(piece)
        .map(|piece| body.slice_ref(piece))
        .collect();
    stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(piece)
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorJson<'a> {
    code: &'a str,
    message: &'a str,
    request_id: String,
}
