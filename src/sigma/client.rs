//! The HTTP client: makes one attempt at one endpoint.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};

use super::error::AttemptError;
use super::hosts::is_loopback;
use super::wire::{self, Token, UnreadableBody, UpdateBody};
use crate::model::{Change, Member};

/// The maximum body size of a 2xx answer. A page of 1,000 members is half a megabyte.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The maximum body size that is read of any other answer.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// The maximum wait accepted from `Retry-After`; a longer one is reduced to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of headers of an update, so that the header map need not grow: two are set here, and reqwest
/// and hyper add five (Accept, User-Agent, Accept-Encoding, Host, Content-Length).
const HEADERS: usize = 7;

/// How to reach the API.
#[derive(Clone, Debug)]
pub(crate) struct ClientOptions {
    /// The validated base URL, without a trailing slash.
    pub base_url: String,
    /// The timeout of one request, including its answer.
    pub timeout: Duration,
    /// The number of idle connections kept open.
    pub connections: usize,
    /// The company's own CA certificates (PEM), in addition to the system's.
    pub ca_cert: Option<PathBuf>,
}

/// The client can't be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("--ca-cert {path} can't be read: {source}")]
    CaRead {
        path: String,
        source: std::io::Error,
    },
    #[error("--ca-cert {path} holds no certificate in PEM form")]
    CaPem { path: String },
    #[error("the HTTP client can't be made: {0}")]
    Build(String),
}

/// Which endpoint lists the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListingVersion {
    /// `GET /v2.1/members`, which reports the total.
    V2_1,
    /// `GET /v2/members`, for organizations without the newer endpoint.
    V2,
}

impl ListingVersion {
    const fn path(self) -> &'static str {
        match self {
            Self::V2_1 => "/v2.1/members",
            Self::V2 => "/v2/members",
        }
    }
}

/// Which members a listing returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberFilter<'a> {
    /// All members.
    All,
    /// The members with exactly this email.
    Email(&'a str),
    /// The members that a search for this email finds; deprecated.
    Search(&'a str),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// Returns the identity of the credentials.
    Whoami,
    /// Returns a page of members, including archived and inactive ones.
    List {
        /// Which endpoint.
        version: ListingVersion,
        /// Which members.
        filter: MemberFilter<'a>,
        /// The cursor; `None` for the first page.
        page: Option<&'a str>,
        /// The number of members per page; `None` leaves it to the API.
        limit: Option<u32>,
    },
    /// Returns one member.
    Member {
        /// The member's id.
        id: &'a str,
    },
    /// Changes one member.
    Update {
        /// The member's id.
        id: &'a str,
        /// The changes to send.
        changes: &'a [Change],
    },
    /// Returns a page of the organization's account types.
    AccountTypes {
        /// The page token; `None` for the first page.
        page: Option<&'a str>,
    },
}

impl Request<'_> {
    /// Returns whether the request changes something.
    pub(crate) const fn is_update(&self) -> bool {
        matches!(self, Self::Update { .. })
    }

    /// Returns the request's name for logs, without personal data.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Whoami => "GET whoami",
            Self::List { filter, .. } => match filter {
                MemberFilter::All => "GET members",
                MemberFilter::Email(_) => "GET members?email",
                MemberFilter::Search(_) => "GET members?search",
            },
            Self::Member { .. } => "GET member",
            Self::Update { .. } => "PATCH member",
            Self::AccountTypes { .. } => "GET accountTypes",
        }
    }
}

/// A 2xx answer.
#[derive(Clone, Debug)]
pub(crate) struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl ApiResponse {
    /// Parses the body as a member.
    ///
    /// # Errors
    /// Returns an error if the body is not a member.
    pub(crate) fn member(&self) -> Result<Member, UnreadableBody> {
        wire::parse_member(&self.body)
    }
}

/// The API's HTTP client, which reuses connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: Url,
    /// The URL of `/v2/members`, to which each update appends an id.
    members: Url,
    timeout: Duration,
}

impl Client {
    /// Creates a client. This sends nothing.
    ///
    /// # Errors
    /// Returns an error if the company's certificates can't be read, or the system's TLS can't be set up.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let build = |error: &dyn std::error::Error| ClientError::Build(chain(error));
        let base_url = Url::parse(&options.base_url).map_err(|error| build(&error))?;
        // A second client in the same process finds the provider already installed, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .user_agent(HeaderValue::from_static(concat!(
                "sigma-bulk/",
                env!("CARGO_PKG_VERSION")
            )))
            .default_headers(headers)
            // A redirect could send the token to another host, and would bypass the pacer.
            .redirect(reqwest::redirect::Policy::none())
            // Every try goes through the pacer, so reqwest must not retry by itself. `never` alone would
            // still copy each request for a possible retry.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .referer(false)
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.connections);
        if is_loopback(&base_url) {
            // A system proxy is meant for other hosts. It would receive the token and could not reach this
            // machine.
            builder = builder.no_proxy();
        }
        if let Some(path) = &options.ca_cert {
            let shown = path.display().to_string();
            let pem = std::fs::read(path).map_err(|source| ClientError::CaRead {
                path: shown.clone(),
                source,
            })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or(ClientError::CaPem { path: shown })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| build(&error))?;
        Ok(Self {
            http,
            members: below(&base_url, "/v2/members"),
            base_url,
            timeout: options.timeout,
        })
    }

    /// Requests a token. The credentials are sent in the form, because HTTP Basic and JSON fail for some
    /// organizations.
    ///
    /// # Errors
    /// Returns an error if the attempt fails.
    pub(crate) async fn token(
        &self,
        id: &str,
        secret: &SecretString,
    ) -> Result<Token, AttemptError> {
        let url = self.url("/v2/auth/token");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret.expose_secret()),
        ];
        let answer = self.send(self.http.post(url).form(&form).send()).await?;
        Token::parse(&answer.body).map_err(|error| AttemptError::Unreadable {
            status: answer.status,
            what: error.to_string(),
        })
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// Returns an error if the answer is not 2xx or can't be read completely.
    pub(crate) async fn attempt(
        &self,
        request: Request<'_>,
        bearer: &HeaderValue,
    ) -> Result<ApiResponse, AttemptError> {
        let method = if request.is_update() {
            Method::PATCH
        } else {
            Method::GET
        };
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(AUTHORIZATION, bearer.clone());
        let mut made = reqwest::Request::new(method, self.request_url(request));
        if let Request::Update { changes, .. } = request {
            let body = serde_json::to_vec(&UpdateBody(changes))
                .map_err(|error| AttemptError::Request(error.to_string()))?;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *made.body_mut() = Some(body.into());
        }
        *made.headers_mut() = headers;
        self.send(self.http.execute(made)).await
    }

    fn url(&self, path: &str) -> Url {
        below(&self.base_url, path)
    }

    fn request_url(&self, request: Request<'_>) -> Url {
        match request {
            Request::Whoami => self.url("/v2/whoami"),
            Request::List {
                version,
                filter,
                page,
                limit,
            } => {
                let mut url = self.url(version.path());
                let mut query = url.query_pairs_mut();
                // Without these parameters, the API leaves out archived and inactive members.
                query
                    .append_pair("includeArchived", "true")
                    .append_pair("includeInactive", "true");
                match filter {
                    MemberFilter::All => {}
                    MemberFilter::Email(email) => drop(query.append_pair("email", email)),
                    MemberFilter::Search(email) => drop(query.append_pair("search", email)),
                }
                if let Some(limit) = limit {
                    query.append_pair("limit", &limit.to_string());
                }
                if let Some(page) = page {
                    query.append_pair("page", page);
                }
                drop(query);
                url
            }
            Request::Member { id } | Request::Update { id, .. } => {
                let mut url = self.members.clone();
                // An id is opaque: it becomes exactly one path segment, whatever it contains.
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.push(id);
                }
                url
            }
            Request::AccountTypes { page } => {
                let mut url = self.url("/v2/accountTypes");
                if let Some(page) = page {
                    url.query_pairs_mut().append_pair("pageToken", page);
                }
                url
            }
        }
    }

    async fn send(
        &self,
        request: impl Future<Output = reqwest::Result<reqwest::Response>>,
    ) -> Result<ApiResponse, AttemptError> {
        let response = request.await.map_err(|error| self.classify(error))?;
        let status = response.status();
        if status.is_success() {
            let body = read(response, MAX_BODY)
                .await
                .map_err(|what| AttemptError::Unreadable {
                    status: status.as_u16(),
                    what,
                })?;
            return Ok(ApiResponse {
                status: status.as_u16(),
                body,
            });
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        // The status decides. If the body is cut off or endless, only the message is lost.
        let body = read_some(response, MAX_ERROR_BODY).await;
        Err(AttemptError::Status(wire::parse_error(
            status.as_u16(),
            &body,
            retry_after,
        )))
    }

    fn classify(&self, error: reqwest::Error) -> AttemptError {
        // The URL may contain somebody's email.
        let error = error.without_url();
        let text = chain(&error);
        if error.is_builder() {
            AttemptError::Request(text)
        } else if error.is_connect() {
            if text.contains("certificate") {
                AttemptError::Certificate(text)
            } else {
                AttemptError::Connect(text)
            }
        } else if error.is_timeout() {
            AttemptError::Timeout(self.timeout)
        } else {
            AttemptError::Lost(text)
        }
    }
}

/// Returns a value as it is encoded in the form of the token request.
pub(crate) fn form_encoded(value: &str) -> String {
    let form = Url::parse_with_params("form:", [("", value)]);
    let encoded = form.as_ref().ok().and_then(Url::query);
    encoded
        .and_then(|query| query.strip_prefix('='))
        .unwrap_or(value)
        .to_owned()
}

/// Returns `base` with `path` appended to its path.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// Returns an error's message followed by those of its causes, without repetitions.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

async fn read(mut response: reqwest::Response, most: usize) -> Result<Bytes, String> {
    let mut body: Vec<u8> = Vec::new();
    let mut first: Option<Bytes> = None;
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(first.unwrap_or_else(|| body.into())),
            Ok(Some(chunk)) if body.len() + chunk.len() > most => {
                return Err(format!("it is longer than {} MiB", most / 1024 / 1024));
            }
            // Most answers are a single chunk, which is passed on without a copy.
            Ok(Some(chunk)) if first.is_none() && body.is_empty() => first = Some(chunk),
            Ok(Some(chunk)) => {
                if let Some(first) = first.take() {
                    body.extend_from_slice(&first);
                }
                body.extend_from_slice(&chunk);
            }
            Err(error) if error.is_timeout() => return Err("it did not end in time".to_owned()),
            Err(_) => return Err("it was cut off".to_owned()),
        }
    }
}

async fn read_some(mut response: reqwest::Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(chunk.get(..most - body.len()).unwrap_or(&chunk));
    }
    body
}

/// Parses `Retry-After`: seconds, or an HTTP date in any of its three forms (RFC 9110, 10.2.3 and 5.6.7).
/// Returns `None` if the value is invalid, zero or in the past.
fn retry_after(header: &HeaderValue) -> Option<Duration> {
    let text = header.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => {
            Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64()))
        }
        Ok(_) => return None,
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).ok()?
        }
    };
    Some(wait.min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Client {
        Client::new(&ClientOptions {
            base_url: base_url.to_owned(),
            timeout: Duration::from_secs(1),
            connections: 1,
            ca_cert: None,
        })
        .expect("a client")
    }

    #[test]
    fn urls_keep_the_base_path_and_encode_ids_and_emails() {
        let client = client("https://h.example/prefix");
        let url = |request| client.request_url(request).to_string();
        assert_eq!(
            url(Request::Member { id: "a/../b?c" }),
            "https://h.example/prefix/v2/members/a%2F..%2Fb%3Fc"
        );
        assert_eq!(
            url(Request::List {
                version: ListingVersion::V2,
                filter: MemberFilter::Email("a+b@x.org"),
                page: None,
                limit: None,
            }),
            "https://h.example/prefix/v2/members?includeArchived=true&includeInactive=true&email=a%2Bb%40x.org"
        );
    }

    #[test]
    fn form_encoded_matches_the_token_request_form() {
        assert_eq!(form_encoded("a b/+=ü"), "a+b%2F%2B%3D%C3%BC");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parse = |text: &str| retry_after(&HeaderValue::from_str(text).expect("a header"));
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("-7"), None);
        assert_eq!(parse("0"), None);
        for much in ["999999999", "99999999999999999999999", "inf"] {
            assert_eq!(parse(much), Some(MAX_RETRY_AFTER));
        }
        assert_eq!(parse("NaN"), None);
        assert_eq!(parse("soon"), None);
        for past in [
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wednesday, 21-Oct-15 07:28:00 GMT",
            "Wed Oct 21 07:28:00 2015",
        ] {
            assert_eq!(parse(past), None, "{past}");
        }
        assert_eq!(
            parse("Wed, 21 Oct 2415 07:28:00 GMT"),
            Some(MAX_RETRY_AFTER)
        );
    }
}
