//! The API on the wire: routes, its shapes of requests and answers, and the course of a request
//! through arrival, faults, token and rules to its answer. The shapes are the sandbox's own, so
//! that a mistake in the client's is noticed.

use std::{
    borrow::Cow,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Form, Router,
    body::{Body, Bytes},
    extract::{
        FromRequestParts, Path, Query, State,
        rejection::{BytesRejection, FormRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use futures::{StreamExt, stream};
use hyper::{
    StatusCode, Uri,
    header::{
        AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    },
    http::request::Parts,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ACCOUNT_TYPES, Config, Endpoint, Faults, OWN_MEMBER_ID, Stats,
    access::Access,
    faults::{Effect, Injector, Stage, Verdict},
    organization::{Filter, MemberView, Organization, Patch, Refusal, scramble},
    serve::CloseInstead,
    stats::{Tally, Ticket},
};

const JSON: &str = "application/json; charset=utf-8";

/// How many members a page has when the request doesn't say.
const PAGE: usize = 50;

/// The size of the body of a huge error.
const HUGE: usize = 10 * 1024 * 1024;

/// How many pieces a trickling body comes in.
const TRICKLES: usize = 20;

/// What a careless proxy says.
const HTML: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// All that the routes share. Each lock is held for one step only, and never over an await.
pub(super) struct App {
    config: Config,
    own_member_id: String,
    organization: Mutex<Organization>,
    traffic: Mutex<Traffic>,
}

/// What every request passes by.
struct Traffic {
    injector: Injector,
    tally: Tally,
    access: Access,
}

impl App {
    pub(super) fn new(config: Config, organization: Organization) -> Self {
        let own = (organization.by_email(&config.own_email))
            .and_then(|position| organization.view(position));
        Self {
            own_member_id: own.map_or(OWN_MEMBER_ID, |own| own.member_id).to_owned(),
            traffic: Mutex::new(Traffic {
                injector: Injector::new(config.faults.clone()),
                tally: Tally::new(Instant::now(), config.record_patches),
                access: Access::new(&config),
            }),
            organization: Mutex::new(organization),
            config,
        }
    }

    pub(super) fn organization(&self) -> MutexGuard<'_, Organization> {
        lock(&self.organization)
    }

    pub(super) fn own_member_id(&self) -> &str {
        &self.own_member_id
    }

    pub(super) fn stats(&self) -> Stats {
        lock(&self.traffic).tally.stats.clone()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        lock(&self.traffic).injector = Injector::new(faults);
    }

    pub(super) fn revoke_tokens(&self) {
        lock(&self.traffic).access.revoke();
    }

    pub(super) fn count_connection(&self) {
        lock(&self.traffic).tally.stats.connections += 1;
    }

    /// Whether the credentials are still somebody's: they end with their member's archiving.
    fn owner_is_active(&self) -> bool {
        let organization = self.organization();
        (organization.by_id(&self.own_member_id))
            .and_then(|position| organization.view(position))
            .is_none_or(|own| !own.is_archived && !own.is_inactive)
    }

    fn admits(&self, call: &Call) -> bool {
        let Some(header) = call
            .authorization
            .as_ref()
            .and_then(|value| value.to_str().ok())
        else {
            return false;
        };
        lock(&self.traffic).access.admits(header, Instant::now()) && self.owner_is_active()
    }
}

/// Locks, also after a panic elsewhere: a test that failed in a closure under the lock should
/// say so itself, not through everyone else.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The routes: the API's, and `/sandbox` to look at what happened.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut member = patch(update_member);
    if app.config.get_member {
        member = member.get(get_member);
    }
    let mut router = Router::new()
        .route("/v2/auth/token", post(token))
        .route("/v2/whoami", get(whoami))
        .route("/v2/members", get(list_members))
        .route("/v2/members/{member_id}", member)
        .route("/v2/accountTypes", get(account_types))
        .route("/sandbox/stats", get(stats))
        .route("/sandbox/members.csv", get(members_csv));
    if app.config.v2_1 {
        router = router.route("/v2.1/members", get(list_members_v2_1));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(app)
}

/// What the course of any request needs to know of it.
struct Call {
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

/// An answer that can still be spoiled.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Shapes of our own with string keys can't fail to serialize; an empty body would show it.
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

    /// Adds a header, unless its value can't be one.
    fn with(mut self, name: HeaderName, value: Option<String>) -> Self {
        self.header = value
            .and_then(|value| HeaderValue::try_from(value).ok())
            .map(|value| (name, value));
        self
    }

    fn response(self) -> Response {
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

    /// The answer with the length of its whole body, but a body that comes from a stream.
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

/// A request under way. It's counted out when this is dropped, so also when the client leaves.
struct Visit<'a> {
    app: &'a App,
    ticket: Ticket,
    status: Option<u16>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        lock(&self.app.traffic)
            .tally
            .leave(&self.ticket, self.status);
    }
}

impl<'a> Visit<'a> {
    fn begin(app: &'a App, endpoint: Endpoint, patch: Option<(&str, &[u8])>) -> (Self, Verdict) {
        let now = Instant::now();
        let mut traffic = lock(&app.traffic);
        let Traffic {
            injector, tally, ..
        } = &mut *traffic;
        let ticket = tally.arrive(endpoint, patch, now);
        let verdict = injector.decide(endpoint, tally.in_flight(), now);
        match verdict {
            Verdict::TooFast { .. } => tally.stats.refused_by_rate_limit += 1,
            Verdict::TooMany => tally.stats.refused_by_concurrency += 1,
            Verdict::Go { fault, .. } => tally.stats.faults += u64::from(fault.is_some()),
        }
        let visit = Self {
            app,
            ticket,
            status: None,
        };
        (visit, verdict)
    }

    fn end(mut self, response: Response) -> Response {
        self.status = Some(response.status().as_u16());
        response
    }
}

/// The course of every request: it arrives, a verdict falls, and `act` does what was asked for,
/// if it comes to that.
async fn exchange(
    app: &App,
    endpoint: Endpoint,
    patch: Option<(&str, &[u8])>,
    call: Call,
    act: impl FnOnce() -> Result<Answer, Refusal>,
) -> Response {
    let (visit, verdict) = Visit::begin(app, endpoint, patch);
    let (delay, fault) = match verdict {
        Verdict::TooFast { wait, hint } => {
            let when = hint.value(wait, Timestamp::now());
            return visit.end(too_many_requests(when).response());
        }
        Verdict::TooMany => {
            let when = lock(&app.traffic)
                .injector
                .faults()
                .retry_after_header
                .clone();
            return visit.end(too_many_requests(when).response());
        }
        Verdict::Go { delay, fault } => (delay, fault),
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let perform = || {
        let open = matches!(endpoint, Endpoint::Token | Endpoint::Other);
        if !open && !app.admits(&call) {
            return Answer::from(Refusal::Unauthorized);
        }
        match act() {
            Ok(answer) => {
                lock(&app.traffic).tally.apply(&visit.ticket);
                answer
            }
            Err(refusal) => Answer::from(refusal),
        }
    };
    let Some((stage, effect)) = fault else {
        let answer = perform();
        return visit.end(answer.response());
    };
    let honest = (stage == Stage::After).then(perform);
    spoil(visit, effect, honest, &call).await
}

/// Lets a fault strike; `honest` is the answer of a request that was let through.
async fn spoil(visit: Visit<'_>, effect: Effect, honest: Option<Answer>, call: &Call) -> Response {
    let faults = lock(&visit.app.traffic).injector.faults().clone();
    // Nothing that strikes before the request takes effect shows this stopgap, unless it's told
    // to fail with a 2xx.
    let honest = honest.unwrap_or_else(|| Answer::error(StatusCode::OK, "", ""));
    let response = match effect {
        Effect::Hang => {
            std::future::pending::<()>().await;
            honest.response()
        }
        Effect::Close => {
            // Not ended: there's no answer to count.
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(CloseInstead);
            return response;
        }
        Effect::Status(status) if (200..300).contains(&status) => {
            let status = StatusCode::from_u16(status).unwrap_or(honest.status);
            Answer { status, ..honest }.response()
        }
        Effect::Status(status) => {
            let status = (StatusCode::from_u16(status).ok())
                .filter(|status| !status.is_informational())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = status.canonical_reason().unwrap_or("Failed on purpose");
            Answer::error(status, "sandbox_fault", message)
                .with(RETRY_AFTER, faults.retry_after_header)
                .response()
        }
        Effect::Html => Answer {
            status: StatusCode::BAD_GATEWAY,
            content_type: "text/html",
            header: None,
            body: Bytes::from_static(HTML.as_bytes()),
        }
        .response(),
        Effect::HugeError => {
            let message = "x".repeat(HUGE);
            Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &message).response()
        }
        Effect::Redirect => {
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
        Effect::Garbage => Answer {
            status: StatusCode::OK,
            body: Bytes::from_static(b"{\"memberId\": \"\x1b[31m\xff\xfe, it's not"),
            ..honest
        }
        .response(),
        Effect::Truncate => honest.streamed(truncated),
        Effect::SlowBody => honest.streamed(|body| trickling(&body, faults.slow_body_over)),
    };
    visit.end(response)
}

fn too_many_requests(retry_after: Option<String>) -> Answer {
    let message = "Too many requests";
    Answer::error(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
        .with(RETRY_AFTER, retry_after)
}

/// The first half of a body, then a failure, which makes hyper close the connection.
fn truncated(mut body: Bytes) -> impl stream::Stream<Item = io::Result<Bytes>> {
    body.truncate(body.len() / 2);
    let cut = async {
        // Without a pause hyper would fail before it has sent the first half.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    };
    stream::iter([Ok(body)]).chain(stream::once(cut))
}

/// A body in small pieces with pauses between them.
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

#[derive(Deserialize)]
struct TokenForm {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

#[derive(Serialize)]
struct TokenJson {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

async fn token(
    State(app): State<Arc<App>>,
    call: Call,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Response {
    let sign_in = || {
        let Form(form) = form.map_err(|error| Refusal::invalid(error.body_text()))?;
        let given = |name: &str, value: Option<String>| {
            (value.filter(|value| !value.is_empty()))
                .ok_or_else(|| Refusal::invalid(format!("{name} is missing")))
        };
        if given("grant_type", form.grant_type)? != "client_credentials" {
            return Err(Refusal::invalid("grant_type must be client_credentials"));
        }
        let client_id = given("client_id", form.client_id)?;
        let client_secret = given("client_secret", form.client_secret)?;
        let active = app.owner_is_active();
        let access = &mut lock(&app.traffic).access;
        if !active || !access.knows(&client_id, &client_secret) {
            return Err(Refusal::WrongCredentials);
        }
        let config = &app.config;
        let body = TokenJson {
            access_token: access.grant(Instant::now()),
            token_type: "bearer",
            expires_in: config
                .token_expires_in
                .unwrap_or(config.token_lifetime)
                .as_secs(),
        };
        Ok(Answer::json(StatusCode::OK, &body))
    };
    exchange(&app, Endpoint::Token, None, call, sign_in).await
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WhoamiJson<'a> {
    user_id: &'a str,
    organization_id: &'a str,
}

async fn whoami(State(app): State<Arc<App>>, call: Call) -> Response {
    let tell = || {
        let body = WhoamiJson {
            user_id: &app.own_member_id,
            organization_id: &app.config.organization_id,
        };
        Ok(Answer::json(StatusCode::OK, &body))
    };
    exchange(&app, Endpoint::Whoami, None, call, tell).await
}

/// A member as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson<'a> {
    organization_id: &'a str,
    member_id: &'a str,
    member_type: &'a str,
    first_name: &'a str,
    last_name: &'a str,
    email: &'a str,
    profile_img_url: Option<&'a str>,
    created_by: &'a str,
    updated_by: &'a str,
    #[serde(serialize_with = "moment")]
    created_at: Timestamp,
    #[serde(serialize_with = "moment")]
    updated_at: Timestamp,
    home_folder_id: Cow<'a, str>,
    user_kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_archived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_inactive: Option<bool>,
}

impl<'a> MemberJson<'a> {
    fn new(app: &'a App, view: MemberView<'a>) -> Self {
        let shown = |flag: bool| (flag || !app.config.omit_false).then_some(flag);
        Self {
            organization_id: &app.config.organization_id,
            member_id: view.member_id,
            member_type: view.member_type,
            first_name: view.first_name,
            last_name: view.last_name,
            email: view.email,
            profile_img_url: view.profile_img_url,
            created_by: &app.own_member_id,
            updated_by: &app.own_member_id,
            created_at: view.created_at,
            updated_at: view.updated_at,
            home_folder_id: view.home_folder_id,
            user_kind: view.user_kind,
            is_archived: shown(view.is_archived),
            is_inactive: shown(view.is_inactive),
        }
    }
}

/// A time in milliseconds, as the API writes it.
fn moment<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.3}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson<'a> {
    entries: Vec<MemberJson<'a>>,
    next_page: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    page: Option<String>,
    limit: Option<String>,
    email: Option<String>,
    search: Option<String>,
    include_archived: Option<String>,
    include_inactive: Option<String>,
}

type ListQueryOr = Result<Query<ListQuery>, QueryRejection>;

async fn list_members(State(app): State<Arc<App>>, call: Call, query: ListQueryOr) -> Response {
    let list = || list(&app, query, false);
    exchange(&app, Endpoint::ListMembers, None, call, list).await
}

async fn list_members_v2_1(
    State(app): State<Arc<App>>,
    call: Call,
    query: ListQueryOr,
) -> Response {
    let list = || list(&app, query, true);
    exchange(&app, Endpoint::ListMembers, None, call, list).await
}

fn list(app: &App, query: ListQueryOr, v2_1: bool) -> Result<Answer, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
    if query.email.is_some() && query.search.is_some() {
        return Err(Refusal::invalid("email and search can't go together"));
    }
    if query.search.is_some() && !app.config.search {
        return Err(Refusal::invalid("there is no search any more"));
    }
    let filter = Filter {
        email: query.email.as_deref(),
        search: query.search.as_deref(),
        archived: query_flag("includeArchived", query.include_archived.as_deref())?,
        inactive: query_flag("includeInactive", query.include_inactive.as_deref())?,
    };
    let from = query_cursor("page", query.page.as_deref())?;
    let limit = query_limit("limit", query.limit.as_deref(), app.config.page_limit)?;
    let everybody = app.config.bare_array && !v2_1 && query.limit.is_none();
    let limit = if everybody { usize::MAX } else { limit };

    let organization = app.organization();
    let page = organization.page(&filter, from, limit);
    let entries: Vec<_> = (page.entries.into_iter())
        .map(|view| MemberJson::new(app, view))
        .collect();
    if everybody {
        return Ok(Answer::json(StatusCode::OK, &entries));
    }
    let total = (v2_1 && app.config.total).then(|| organization.total(&filter));
    let body = PageJson {
        entries,
        next_page: page.next.map(cursor),
        has_more: v2_1.then_some(page.next.is_some()),
        total,
    };
    Ok(Answer::json(StatusCode::OK, &body))
}

fn query_flag(name: &str, value: Option<&str>) -> Result<bool, Refusal> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::invalid(format!("{name} must be true or false"))),
    }
}

fn query_limit(name: &str, value: Option<&str>, most: usize) -> Result<usize, Refusal> {
    match value {
        None => Ok(PAGE.min(most)),
        Some(text) => (text.parse().ok())
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| Refusal::invalid(format!("{name} must be from 1 to {most}"))),
    }
}

fn query_cursor(name: &str, value: Option<&str>) -> Result<usize, Refusal> {
    value.map_or(Ok(0), |text| {
        position(text).ok_or_else(|| Refusal::invalid(format!("{name} is not a known cursor")))
    })
}

/// A position as a cursor: opaque, with a check so that a made-up one is noticed.
fn cursor(position: usize) -> String {
    let check = scramble(position as u64) >> 32;
    format!("{check:08x}{position:x}")
}

fn position(text: &str) -> Option<usize> {
    let position = usize::from_str_radix(text.get(8..)?, 16).ok()?;
    (cursor(position) == text).then_some(position)
}

async fn get_member(
    State(app): State<Arc<App>>,
    Path(member_id): Path<String>,
    call: Call,
) -> Response {
    let find = || {
        let organization = app.organization();
        let position = organization.by_id(&member_id);
        show(&app, &organization, position)
    };
    exchange(&app, Endpoint::GetMember, None, call, find).await
}

async fn update_member(
    State(app): State<Arc<App>>,
    Path(member_id): Path<String>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // A body that's refused (it's too large, say) is logged as an empty one.
    let logged = body.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    let update = || {
        let body = body.map_err(|error| Refusal::invalid(error.body_text()))?;
        let body: Map<String, Value> = serde_json::from_slice(&body)
            .map_err(|_| Refusal::invalid("The body must be a JSON object"))?;
        let patch = Patch::parse(&body)?;
        let mut organization = app.organization();
        let position = organization.update(&member_id, &patch, Timestamp::now())?;
        show(&app, &organization, Some(position))
    };
    let patch = Some((member_id.as_str(), &*logged));
    exchange(&app, Endpoint::UpdateMember, patch, call, update).await
}

fn show(
    app: &App,
    organization: &Organization,
    position: Option<usize>,
) -> Result<Answer, Refusal> {
    let view = (position.and_then(|position| organization.view(position)))
        .ok_or(Refusal::UnknownMember)?;
    Ok(Answer::json(StatusCode::OK, &MemberJson::new(app, view)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypesQuery {
    page_size: Option<String>,
    page_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeJson<'a> {
    account_type_id: String,
    account_type_name: &'a str,
    description: String,
    is_custom: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypesJson<'a> {
    entries: Vec<TypeJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

async fn account_types(
    State(app): State<Arc<App>>,
    call: Call,
    query: Result<Query<TypesQuery>, QueryRejection>,
) -> Response {
    let list = || {
        if app.config.account_types_forbidden {
            return Err(Refusal::Forbidden);
        }
        let Query(query) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
        let from = query_cursor("pageToken", query.page_token.as_deref())?;
        let size = query_limit(
            "pageSize",
            query.page_size.as_deref(),
            app.config.page_limit,
        )?;
        let names = &app.config.account_types;
        let entries: Vec<_> = (names.iter().enumerate().skip(from).take(size))
            .map(|(at, name)| TypeJson {
                account_type_id: format!("{:016x}", scramble(at as u64)),
                account_type_name: name,
                description: format!("The account type {name}"),
                is_custom: !ACCOUNT_TYPES.contains(&name.as_str()),
            })
            .collect();
        let next = from.saturating_add(entries.len());
        let body = TypesJson {
            entries,
            next_page_token: (next < names.len()).then(|| cursor(next)),
        };
        Ok(Answer::json(StatusCode::OK, &body))
    };
    exchange(&app, Endpoint::AccountTypes, None, call, list).await
}

async fn unknown(State(app): State<Arc<App>>, call: Call) -> Response {
    let refuse = || Err(Refusal::UnknownEndpoint);
    exchange(&app, Endpoint::Other, None, call, refuse).await
}

/// The counts, for scripts. Looking doesn't count as a request.
async fn stats(State(app): State<Arc<App>>) -> Response {
    Answer::json(StatusCode::OK, &app.stats()).response()
}

/// The members as they are now, for scripts.
async fn members_csv(State(app): State<Arc<App>>) -> Response {
    let mut body = Vec::new();
    match app.organization().write_csv(&mut body) {
        Ok(()) => ([(CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
