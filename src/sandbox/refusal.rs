//! Why the API rejects a request.

/// The reason why the API rejects a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("The access token is missing, unknown or expired")]
    Unauthorized,
    #[error("The client credentials are not valid")]
    WrongCredentials,
    #[error("Only an admin may do this")]
    Forbidden,
    #[error("Member not found")]
    UnknownMember,
    #[error("Member type name is not found")]
    UnknownType,
    #[error("No such endpoint")]
    UnknownEndpoint,
    #[error("Duplicate record")]
    Duplicate,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}
