//! A member of the sandbox's organization, as tests and the members' CSV see it.

use serde::{Deserialize, Serialize};

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
