//! The ways in which one attempt can fail, grouped by how the tool reacts to them.

use std::fmt;
use std::time::Duration;

/// The API answered with a status other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

/// Returns whether a retry may get an answer other than this status.
pub(crate) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttemptError {
    /// There was no connection, so the API has seen nothing.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server's certificate is not trusted. A retry would not help.
    #[error(
        "the server's certificate is not trusted: {0}; if your company uses its own, give --ca-cert FILE"
    )]
    Certificate(String),
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
            | Self::Certificate(text)
            | Self::Lost(text)
            | Self::Unreadable { what: text, .. }
            | Self::Request(text) => *text = fit(text),
            Self::Timeout(_) => {}
        }
        self
    }

    /// Returns the HTTP status, if there was one.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status(error) => Some(error.status),
            Self::Unreadable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the API may have applied the request. A server error may follow a change that was
    /// made, or come from a proxy whose server is still working on it.
    pub(crate) const fn may_be_applied(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Lost(_) | Self::Unreadable { .. } => true,
            Self::Status(error) => error.status == 408 || error.status >= 500,
            Self::Connect(_) | Self::Certificate(_) | Self::Request(_) => false,
        }
    }
}
