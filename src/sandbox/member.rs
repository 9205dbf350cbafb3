//! A member of the sandbox's organization: as tests and the members' CSV see it, as the API returns it, and how a PATCH
//! request changes it. A field of a member is declared here and nowhere else in the sandbox.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::app::App;
use super::organization::Entry;
use super::refusal::Refusal;

/// The kinds of user in the API.
const USER_KINDS: [&str; 3] = ["internal", "guest", "embed"];

/// A member of the organization. In a CSV, only `Email` is needed, and unknown columns are ignored, so that most lists
/// of members work unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The email address, in its stored case.
    #[serde(rename = "Email")]
    pub email: String,
    /// The first name.
    #[serde(rename = "First Name", default)]
    pub first_name: String,
    /// The last name.
    #[serde(rename = "Last Name", default)]
    pub last_name: String,
    /// The account type's name. If it is empty, the sandbox uses `Viewer`, or else the last account type.
    #[serde(rename = "Member Type", default)]
    pub member_type: String,
    /// Whether the member is deactivated.
    #[serde(rename = "isArchived", default, deserialize_with = "cell_flag")]
    pub is_archived: bool,
    /// Whether SCIM archived the member.
    #[serde(rename = "isInactive", default, deserialize_with = "cell_flag")]
    pub is_inactive: bool,
    /// `internal`, `guest` or `embed`. If it is empty, the sandbox uses `internal`.
    #[serde(rename = "userKind", default)]
    pub user_kind: String,
    /// The id. If it is empty, the sandbox assigns one.
    #[serde(rename = "Member ID", default)]
    pub member_id: String,
    /// The id of the folder "My Documents". If it is empty, the sandbox assigns one.
    #[serde(skip)]
    pub home_folder_id: String,
    /// The URL of the profile picture.
    #[serde(skip)]
    pub profile_img_url: Option<String>,
}

impl Member {
    /// Creates an active internal member without a name.
    #[must_use]
    pub fn new(email: impl Into<String>) -> Self {
        Self {
            email: email.into(),
            ..Self::default()
        }
    }
}

/// Reads `true` or `false`, ignoring case. An empty cell is false.
fn cell_flag<'de, D: serde::Deserializer<'de>>(cell: D) -> Result<bool, D::Error> {
    let text = String::deserialize(cell)?;
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.is_empty() || text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(serde::de::Error::custom(format!(
            "{text:?} is neither true nor false"
        )))
    }
}

/// A member in the API's JSON format.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberJson<'a> {
    organization_id: Arc<str>,
    member_id: &'a str,
    member_type: &'a str,
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    email: &'a str,
    profile_img_url: Option<&'a str>,
    created_by: &'a str,
    updated_by: &'a str,
    #[serde(serialize_with = "moment")]
    created_at: Timestamp,
    #[serde(serialize_with = "moment")]
    updated_at: Timestamp,
    home_folder_id: &'a str,
    user_kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_archived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_inactive: Option<bool>,
}

impl<'a> MemberJson<'a> {
    /// Returns the member as somebody sees it who learns of changes after `lag`.
    pub(super) fn new(app: &'a App, entry: &'a Entry, lag: Duration) -> Self {
        let member = entry.seen_after(lag);
        let (created_at, updated_at) = (entry.created_at, entry.updated_at);
        let nulls = app.config.shows_blank_as_null;
        let name = |name: &'a str| Some(name).filter(|name| !nulls || !name.is_empty());
        let shown = |flag: bool| (flag || !app.config.omit_false).then_some(flag);
        Self {
            organization_id: app.identity().organization_id,
            member_id: &member.member_id,
            member_type: &member.member_type,
            first_name: name(&member.first_name),
            last_name: name(&member.last_name),
            email: &member.email,
            profile_img_url: member.profile_img_url.as_deref(),
            created_by: app.own_member_id(),
            updated_by: app.own_member_id(),
            created_at,
            updated_at,
            home_folder_id: &member.home_folder_id,
            user_kind: &member.user_kind,
            is_archived: shown(member.is_archived),
            is_inactive: shown(member.is_inactive),
        }
    }
}

/// Serializes a time with milliseconds, as the API does.
fn moment<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.3}"))
}

/// The content of a PATCH request, validated as far as possible without the organization.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Patch<'a> {
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) member_type: Option<&'a str>,
    user_kind: Option<&'a str>,
    pub(super) new_owner_id: Option<&'a str>,
    picture: Option<Picture<'a>>,
    is_archived: Option<bool>,
    is_inactive: Option<bool>,
}

/// The change to the profile picture.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Picture<'a> {
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

    /// Applies the request to a member. `member_type` is the account type in its original case.
    pub(super) fn apply(&self, member: &mut Member, member_type: Option<&str>) {
        let set = |field: &mut String, value: Option<&str>| {
            if let Some(value) = value {
                value.clone_into(field);
            }
        };
        set(&mut member.email, self.email);
        set(&mut member.first_name, self.first_name);
        set(&mut member.last_name, self.last_name);
        set(&mut member.member_type, member_type);
        set(&mut member.user_kind, self.user_kind);
        match self.picture {
            Some(Picture::At(url)) => member.profile_img_url = Some(url.to_owned()),
            Some(Picture::Gone) => member.profile_img_url = None,
            None => {}
        }
        member.is_archived = self.is_archived.unwrap_or(member.is_archived);
        member.is_inactive = self.is_inactive.unwrap_or(member.is_inactive);
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
