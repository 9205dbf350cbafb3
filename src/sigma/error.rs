//! What may go wrong with one attempt, by the class that decides what is done about it.

use std::fmt;
use std::time::Duration;

/// The API answered, and not with 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The API's `code`, if it gave one.
    pub code: Option<Box<str>>,
    /// The API's `message`, or what stands in for it.
    pub message: Box<str>,
    /// The API's `requestId`, for Sigma's support.
    pub request_id: Option<Box<str>>,
    /// How long to wait, if the API said so.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)?;
        // The sample script's two hints.
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

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// No connection: the API has seen nothing.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server's certificate is not trusted: another try changes nothing.
    #[error(
        "the server's certificate is not trusted: {0}; if your company uses its own, give --ca-cert FILE"
    )]
    Certificate(String),
    /// No answer in time: the API may have done what was asked.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection was lost: the API may have done what was asked.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The API said 2xx, and the answer could not be read to its end.
    #[error("the API answered {status}, and the answer can't be read: {what}")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        what: String,
    },
    /// The API answered otherwise.
    #[error("{0}")]
    Status(ApiError),
    /// The request can't be formed.
    #[error("the request can't be formed: {0}")]
    Request(String),
}

/// The longest text of the API that a message holds, in characters.
const MAX_TEXT: usize = 300;

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

impl AttemptError {
    /// The same, fit for a message: `clean` has seen all that was written by others, and what is long is cut. In this
    /// order, for half of what `clean` takes away would be left of it at the cut.
    #[must_use]
    pub fn presentable(mut self, clean: impl Fn(&str) -> String) -> Self {
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

    /// The HTTP status, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status(error) => Some(error.status),
            Self::Unreadable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the API may have done what was asked. A server error may come after the change was made, or from a
    /// proxy whose server is still at it.
    #[must_use]
    pub const fn may_be_applied(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Lost(_) | Self::Unreadable { .. } => true,
            Self::Status(error) => error.status == 408 || error.status >= 500,
            Self::Connect(_) | Self::Certificate(_) | Self::Request(_) => false,
        }
    }
}
