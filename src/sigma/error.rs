//! The ways in which one attempt can fail, grouped by how the tool reacts to them.

use std::fmt;
use std::time::Duration;

/// Where an answer comes from, as far as the answer itself shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The API: JSON, or a body that nothing speaks against.
    #[default]
    Api,
    /// Something that redirects, such as a login in front of the API.
    Redirect,
    /// Something that answers with an HTML page: a proxy, a firewall, a login.
    Page,
    /// The edge, which asks for a proof that a person sits at a browser (`cf-mitigated: challenge`).
    Challenge,
}

/// The API, or something in front of it, answered with a status other than 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The API's `code`, if there is one.
    pub code: Option<Box<str>>,
    /// The API's `message`, or a substitute for it.
    pub message: Box<str>,
    /// The API's `requestId`, for Sigma's support.
    pub request_id: Option<Box<str>>,
    /// How long to wait, if the API specified it.
    pub retry_after: Option<Duration>,
    /// Where the answer comes from.
    pub origin: Origin,
    /// Whether the edge has banned this client for its rate (Cloudflare's error 1015) and does not say for how long.
    pub is_ban: bool,
}

impl ApiError {
    /// Returns whether the answer is one of the API.
    pub(crate) const fn is_from_api(&self) -> bool {
        matches!(self.origin, Origin::Api)
    }

    /// Returns whether the API itself says that what was asked for does not exist. A page of a proxy does not say that.
    pub(crate) const fn is_not_found(&self) -> bool {
        self.status == 404 && self.is_from_api()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)?;
        // The hints are those of Sigma's sample script.
        if self.status == 404 && self.message.contains("Member type name is not found") {
            f.write_str(" (this account type is not in use in this organization)")?;
        }
        if self.status == 409 && self.message.contains("Duplicate record") {
            f.write_str(" (the new email belongs to another member)")?;
        }
        match self.origin {
            Origin::Challenge => f.write_str(CHALLENGE_HINT)?,
            Origin::Page if matches!(self.status, 401 | 403) => f.write_str(FIREWALL_HINT)?,
            Origin::Api | Origin::Page | Origin::Redirect => {}
        }
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

/// What a challenge means, and what to do about it.
const CHALLENGE_HINT: &str = "; the edge in front of the API wants to see a browser: have the address of this machine put on the allow-list of your organization and of your network, or run from another network";
/// What an HTML page instead of the API's refusal means.
const FIREWALL_HINT: &str =
    "; this is not an answer of the API: a firewall or proxy in front of it blocks the request";

/// Returns whether a retry may get an answer other than this status. Of the server errors, only 501 (not implemented)
/// and 505 (HTTP version) say something lasting. 520 to 530 are those of the edge (Cloudflare).
pub(crate) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 506..=599)
}

/// What is wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateProblem {
    /// Nobody whom this machine trusts has issued it.
    Untrusted,
    /// It is not valid any more, or not yet.
    Expired,
    /// It is for another host.
    WrongName,
}

impl CertificateProblem {
    /// Finds the problem in the message of the TLS library, which has no type for it that is stable.
    pub(super) fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["expired", "not valid yet", "notvalidyet"]) {
            Self::Expired
        } else if says(&["name", "hostname"]) {
            Self::WrongName
        } else {
            Self::Untrusted
        }
    }

    /// Returns what to do.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Untrusted => "if your company uses its own, give --ca-cert FILE",
            Self::Expired => {
                "check the clock of this machine; if it is right, the server needs a new certificate"
            }
            Self::WrongName => {
                "another server answers: check --cloud or --base-url, the proxy and the DNS"
            }
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttemptError {
    /// There was no connection, so the API has seen nothing.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection was closed, and the server said that it has not processed the request (HTTP/2's GOAWAY or
    /// `REFUSED_STREAM`).
    #[error("the server closed the connection before it processed the request")]
    NotProcessed,
    /// The server's certificate is not accepted. A retry would not help.
    #[error("the server's certificate is not accepted: {what}; {}", .problem.remedy())]
    Certificate {
        /// What the TLS library says.
        what: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The answer did not arrive in time. The API may have applied the request.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection was lost. The API may have applied the request.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The API answered with 2xx, but the answer could not be read completely.
    #[error("the API answered {status}, and the answer can't be read: {what}")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        what: String,
    },
    /// An HTML page came with 2xx, where the API answers with JSON.
    #[error(
        "{status} with {what} instead of an answer of the API: a login or a proxy in front of it answers"
    )]
    Page {
        /// The HTTP status.
        status: u16,
        /// What the page is.
        what: String,
    },
    /// The API issued a token without characters.
    #[error("the API answered {0}, but the access_token is empty")]
    EmptyToken(u16),
    /// The API answered with another status.
    #[error("{0}")]
    Status(ApiError),
    /// The request can't be formed.
    #[error("the request can't be formed: {0}")]
    Request(String),
}

/// The maximum length of an API text in a message, in characters.
const MAX_TEXT: usize = 300;

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

impl AttemptError {
    /// Returns the error, fit for a message: `clean` is applied to all text that comes from outside, and long
    /// text is then cut. Cleaning comes first, because a cut could split a secret and leave half of it
    /// visible.
    pub(crate) fn presentable(mut self, clean: impl Fn(&str) -> String) -> Self {
        let fit = |text: &str| cut(&clean(text));
        match &mut self {
            Self::Status(error) => {
                error.message = fit(&error.message).into();
                for text in [&mut error.code, &mut error.request_id] {
                    *text = text.as_deref().map(|text| fit(text).into());
                }
            }
            Self::Connect(text)
            | Self::Certificate { what: text, .. }
            | Self::Lost(text)
            | Self::Unreadable { what: text, .. }
            | Self::Page { what: text, .. }
            | Self::Request(text) => *text = fit(text),
            Self::Timeout(_) | Self::NotProcessed | Self::EmptyToken(_) => {}
        }
        self
    }

    /// Returns the HTTP status, if there was one.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status(error) => Some(error.status),
            Self::Unreadable { status, .. }
            | Self::Page { status, .. }
            | Self::EmptyToken(status) => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the API may have applied the request. A server error may follow a change that was
    /// made, or come from a proxy whose server is still working on it.
    pub(crate) const fn may_be_applied(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Lost(_) | Self::Unreadable { .. } | Self::Page { .. } => true,
            Self::Status(error) => error.status == 408 || error.status >= 500,
            Self::Connect(_)
            | Self::NotProcessed
            | Self::Certificate { .. }
            | Self::EmptyToken(_)
            | Self::Request(_) => false,
        }
    }
}
