//! The content of a PATCH request, and why the API rejects requests.

use serde_json::{Map, Value};

/// The kinds of user in the API.
const USER_KINDS: [&str; 3] = ["internal", "guest", "embed"];

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

/// The content of a PATCH request, validated as far as possible without the organization.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Patch<'a> {
    pub(super) first_name: Option<&'a str>,
    pub(super) last_name: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) member_type: Option<&'a str>,
    pub(super) user_kind: Option<&'a str>,
    pub(super) new_owner_id: Option<&'a str>,
    pub(super) picture: Option<Picture<'a>>,
    pub(super) is_archived: Option<bool>,
    pub(super) is_inactive: Option<bool>,
}

/// The change to the profile picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Picture<'a> {
    Gone,
    At(&'a str),
}

impl<'a> Patch<'a> {
    pub(super) fn parse(body: &'a Map<String, Value>) -> Result<Self, Refusal> {
        let mut patch = Self::default();
        let mut documents = None;
        for (field, value) in body {
            match field.as_str() {
                "firstName" => patch.first_name = Some(text(field, value)?),
                "lastName" => patch.last_name = Some(text(field, value)?),
                "email" => patch.email = Some(address(text(field, value)?)?),
                "memberType" => patch.member_type = Some(text(field, value)?),
                "userKind" => patch.user_kind = Some(kind(text(field, value)?)?),
                "newOwnerId" => patch.new_owner_id = Some(text(field, value)?),
                "profileImgUrl" if value.is_null() => patch.picture = Some(Picture::Gone),
                "profileImgUrl" => patch.picture = Some(Picture::At(text(field, value)?)),
                "isArchived" => patch.is_archived = Some(flag(field, value)?),
                "isInactive" => patch.is_inactive = Some(flag(field, value)?),
                "archiveDocuments" | "archiveScheduledExports" => {
                    flag(field, value)?;
                    documents = Some(field);
                }
                _ => return Err(Refusal::invalid(format!("Unknown field {field:?}"))),
            }
        }
        let leaves = patch.is_archived == Some(true) || patch.is_inactive == Some(true);
        match documents {
            Some(field) if !leaves => Err(Refusal::invalid(format!(
                "{field:?} needs isArchived or isInactive to be true"
            ))),
            _ => Ok(patch),
        }
    }
}

fn text<'a>(field: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    (value.as_str()).ok_or_else(|| Refusal::invalid(format!("{field:?} must be a string")))
}

fn flag(field: &str, value: &Value) -> Result<bool, Refusal> {
    (value.as_bool()).ok_or_else(|| Refusal::invalid(format!("{field:?} must be a boolean")))
}

fn address(email: &str) -> Result<&str, Refusal> {
    if email.contains('@') {
        Ok(email)
    } else {
        Err(Refusal::invalid("\"email\" must be an address"))
    }
}

fn kind(name: &str) -> Result<&str, Refusal> {
    if USER_KINDS.contains(&name) {
        Ok(name)
    } else {
        Err(Refusal::invalid(
            "\"userKind\" must be internal, guest or embed",
        ))
    }
}
