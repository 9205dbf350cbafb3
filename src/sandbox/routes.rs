//! The API on the wire: its routes and the JSON of its requests and answers. The shapes are the sandbox's own, so that a
//! mistake in the client's is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Form, Router};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::app::App;
use super::exchange::{Answer, Call, exchange};
use super::member::{MemberJson, Patch};
use super::organization::{Entry, ListFilter, Organization};
use super::population::scramble;
use super::refusal::Refusal;
use super::{ACCOUNT_TYPES, Endpoint, ListingQuirks};

/// The number of members on a page if the request doesn't say.
const PAGE: usize = 50;

/// Returns the router, with the API's routes and the `/sandbox` routes for inspection.
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
        let access = &mut app.traffic().access;
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
        let identity = app.identity();
        match identity.whoami_status {
            None => {}
            Some(403) => return Err(Refusal::Forbidden),
            Some(_) => return Err(Refusal::UnknownEndpoint),
        }
        let body = WhoamiJson {
            user_id: app.own_member_id(),
            organization_id: &identity.organization_id,
        };
        Ok(Answer::json(StatusCode::OK, &body))
    };
    exchange(&app, Endpoint::Whoami, None, call, tell).await
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
    let filter = ListFilter {
        email: query.email.as_deref(),
        search: query.search.as_deref(),
        archived: query_flag("includeArchived", query.include_archived.as_deref())?,
        inactive: query_flag("includeInactive", query.include_inactive.as_deref())?,
    };
    let from = query_cursor("page", query.page.as_deref())?;
    let limit = query_limit("limit", query.limit.as_deref(), app.config.page_limit)?;
    let everybody = app.config.bare_array && !v2_1 && query.limit.is_none();
    let limit = if everybody { usize::MAX } else { limit };

    let quirks = if filter.email.is_none() && filter.search.is_none() {
        app.listing().clone()
    } else {
        ListingQuirks::default()
    };
    let lag = app.traffic().injector.faults().listing_lag;
    let organization = app.organization();
    let page = organization.page(&filter, from, limit);
    let is_shown =
        |entry: &&Entry| !quirks.is_empty && !quirks.misses.contains(&entry.member.member_id);
    let entries: Vec<_> = (page.entries.into_iter().filter(is_shown))
        .map(|entry| MemberJson::new(app, entry, lag))
        .collect();
    if everybody || quirks.is_bare {
        return Ok(Answer::json(StatusCode::OK, &entries));
    }
    let next = page.next.filter(|_| !quirks.is_empty);
    let cursor = next.filter(|_| !quirks.hides_cursor).map(cursor);
    let name = quirks.cursor_name.as_deref().unwrap_or("nextPage");
    let mut body = Map::new();
    let entries = serde_json::to_value(entries).unwrap_or_default();
    body.insert("entries".to_owned(), entries);
    body.insert(name.to_owned(), cursor.into());
    if v2_1 && !quirks.hides_has_more {
        body.insert("hasMore".to_owned(), next.is_some().into());
    }
    if v2_1 && app.config.total {
        body.insert("total".to_owned(), organization.total(&filter).into());
    }
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

/// Returns an opaque cursor for a position, with a checksum so that an invented cursor is rejected.
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
    let lag = app.traffic().injector.faults().read_lag;
    let find = || {
        let organization = app.organization();
        let position = organization.by_id(&member_id);
        show(&app, &organization, position, lag)
    };
    exchange(&app, Endpoint::GetMember, None, call, find).await
}

async fn update_member(
    State(app): State<Arc<App>>,
    Path(member_id): Path<String>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // A rejected body, such as one that is too large, is logged as an empty one.
    let logged = body.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    let update = || {
        let body = body.map_err(|error| Refusal::invalid(error.body_text()))?;
        let body: Map<String, Value> = serde_json::from_slice(&body)
            .map_err(|_| Refusal::invalid("The body must be a JSON object"))?;
        let lower = app.config.normalizes.then(|| normalized(&body));
        let patch = Patch::parse(lower.as_ref().unwrap_or(&body))?;
        let mut organization = app.organization();
        let position = organization.update(&member_id, &patch, Timestamp::now())?;
        show(&app, &organization, Some(position), Duration::ZERO)
    };
    let patch = Some((member_id.as_str(), &*logged));
    exchange(&app, Endpoint::UpdateMember, patch, call, update).await
}

/// Returns the body of an update with its texts trimmed and the email in lower case.
fn normalized(body: &Map<String, Value>) -> Map<String, Value> {
    let value = |(field, value): (&String, &Value)| {
        let value = match value.as_str() {
            Some(text) if field == "email" => text.trim().to_lowercase().into(),
            Some(text) => text.trim().into(),
            None => value.clone(),
        };
        (field.clone(), value)
    };
    body.iter().map(value).collect()
}

fn show(
    app: &App,
    organization: &Organization,
    position: Option<usize>,
    lag: Duration,
) -> Result<Answer, Refusal> {
    let entry =
        (position.and_then(|position| organization.get(position))).ok_or(Refusal::UnknownMember)?;
    let body = MemberJson::new(app, entry, lag);
    Ok(Answer::json(StatusCode::OK, &body))
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
            next_page_token: (next < names.len() && !app.listing().hides_type_cursor)
                .then(|| cursor(next)),
        };
        Ok(Answer::json(StatusCode::OK, &body))
    };
    exchange(&app, Endpoint::AccountTypes, None, call, list).await
}

async fn unknown(State(app): State<Arc<App>>, call: Call) -> Response {
    let refuse = || Err(Refusal::UnknownEndpoint);
    exchange(&app, Endpoint::Other, None, call, refuse).await
}

/// Returns the statistics, for scripts. This doesn't count as a request.
async fn stats(State(app): State<Arc<App>>) -> Response {
    Answer::json(StatusCode::OK, &app.stats()).response()
}

/// Returns the current members as CSV, for scripts.
async fn members_csv(State(app): State<Arc<App>>) -> Response {
    let mut body = Vec::new();
    match app.organization().write_csv(&mut body) {
        Ok(()) => ([(CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
