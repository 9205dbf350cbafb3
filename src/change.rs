//! The domain: who is changed, what the member holds now, and what it shall hold afterwards.
//!
//! Nothing here knows of files, HTTP or time. Everything that the tool does to a member is an instance of
//! [`Change`]: one field, the value before, the value after.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field of a member that a row may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// The first name.
    FirstName,
    /// The last name.
    LastName,
    /// The email, by which the member signs in; the column is called `New Email`.
    Email,
    /// The account type's name.
    MemberType,
    /// Whether the member is deactivated.
    IsArchived,
    /// The SCIM way of deactivating.
    IsInactive,
    /// `internal`, `guest` or `embed`.
    UserKind,
    /// The member who receives the documents of one who is archived; write-only.
    NewOwner,
    /// Archive the member's documents and exports with the member; write-only.
    ArchiveDocuments,
    /// Archive the member's scheduled exports with the member; write-only.
    ArchiveScheduledExports,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, as written.
    Text,
    /// A boolean.
    Flag,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = 10;

    /// All fields, in the order in which they are shown.
    pub const ALL: [Self; Self::COUNT] = [
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::MemberType,
        Self::IsArchived,
        Self::IsInactive,
        Self::UserKind,
        Self::NewOwner,
        Self::ArchiveDocuments,
        Self::ArchiveScheduledExports,
    ];

    /// The CSV column's name.
    #[must_use]
    pub const fn column(self) -> &'static str {
        match self {
            Self::FirstName => "First Name",
            Self::LastName => "Last Name",
            Self::Email => "New Email",
            Self::MemberType => "Member Type",
            Self::IsArchived => "isArchived",
            Self::IsInactive => "isInactive",
            Self::UserKind => "userKind",
            Self::NewOwner => "newOwner",
            Self::ArchiveDocuments => "archiveDocuments",
            Self::ArchiveScheduledExports => "archiveScheduledExports",
        }
    }

    /// The name in the API's JSON (`PATCH /v2/members/{memberId}`).
    #[must_use]
    pub const fn api_name(self) -> &'static str {
        match self {
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::Email => "email",
            Self::MemberType => "memberType",
            Self::IsArchived => "isArchived",
            Self::IsInactive => "isInactive",
            Self::UserKind => "userKind",
            Self::NewOwner => "newOwnerId",
            Self::ArchiveDocuments => "archiveDocuments",
            Self::ArchiveScheduledExports => "archiveScheduledExports",
        }
    }

    /// The field with this CSV column, if there is one.
    #[must_use]
    pub fn from_column(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.column() == name)
    }

    /// The field with this name in the API, if there is one.
    #[must_use]
    pub fn from_api_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.api_name() == name)
    }

    /// What the field holds.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::FirstName
            | Self::LastName
            | Self::Email
            | Self::MemberType
            | Self::UserKind
            | Self::NewOwner => Kind::Text,
            Self::IsArchived
            | Self::IsInactive
            | Self::ArchiveDocuments
            | Self::ArchiveScheduledExports => Kind::Flag,
        }
    }

    /// Whether the API takes the field and never shows it. Such a field says how to archive; it can't be
    /// compared, and it can't be undone.
    #[must_use]
    pub const fn is_write_only(self) -> bool {
        matches!(
            self,
            Self::NewOwner | Self::ArchiveDocuments | Self::ArchiveScheduledExports
        )
    }

    /// Whether a member that holds `have` must be sent `want`.
    ///
    /// Account types and kinds that differ in case alone are the same; an email's case is worth a change.
    #[must_use]
    pub fn differs(self, have: Option<&Value>, want: &Value) -> bool {
        match (self, have) {
            (Self::MemberType | Self::UserKind, Some(have)) => !have.eq_ignore_case(want),
            (_, have) => have != Some(want),
        }
    }

    /// Whether a member that returned `have` bears `want`: as [`Field::differs`], emails without regard to
    /// case as well, because the API may fold them.
    #[must_use]
    pub fn bears(self, have: Option<&Value>, want: &Value) -> bool {
        match (self, have) {
            (Self::Email, Some(have)) => have.eq_ignore_case(want),
            (_, have) => !self.differs(have, want),
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.api_name())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member's field")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
                Field::from_api_name(name)
                    .ok_or_else(|| E::custom(format_args!("\"{name}\" is no field of a member")))
            }
        }
        deserializer.deserialize_str(FieldVisitor)
    }
}

/// A value of a field. In the journal and in plans it is JSON's own boolean or string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A boolean.
    Flag(bool),
    /// Text.
    Text(Box<str>),
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// The text, unless it is a flag.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) => None,
        }
    }

    /// The value as it stands in a CSV.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Flag(true) => "true",
            Self::Flag(false) => "false",
        }
    }

    /// Equal without regard to case (Unicode's lower case).
    #[must_use]
    pub fn eq_ignore_case(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b || fold(a) == fold(b),
            (a, b) => a == b,
        }
    }
}

/// As serde's `untagged` would do it, without keeping a copy to try each variant on.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl Visitor<'_> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean or a string")
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Flag(flag))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::text(text))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The form in which emails and account types are compared without regard to case.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    // Most emails are lower case already; they are not copied.
    if text
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// The longest email address, in bytes: 64 before the @ and 255 behind it (RFC 5321, 4.5.3.1).
pub const MAX_EMAIL: usize = 320;

/// Whether the API could take it for an email: the address itself is its business.
#[must_use]
pub fn is_email(text: &str) -> bool {
    text.len() <= MAX_EMAIL
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// At most one value for each field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    cells: [Option<Value>; Field::COUNT],
}

impl Values {
    /// The value of `field`.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "a field's number is below Field::COUNT"
    )]
    pub fn get(&self, field: Field) -> Option<&Value> {
        self.cells[field as usize].as_ref()
    }

    /// The text of `field`, unless it has none or is a flag.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<&str> {
        self.get(field).and_then(Value::as_text)
    }

    /// Whether `field` is `true`.
    #[must_use]
    pub fn is_true(&self, field: Field) -> bool {
        self.get(field) == Some(&Value::Flag(true))
    }

    /// Gives `field` a value, or takes it away.
    #[expect(
        clippy::indexing_slicing,
        reason = "a field's number is below Field::COUNT"
    )]
    pub fn set(&mut self, field: Field, value: Option<Value>) {
        self.cells[field as usize] = value;
    }

    /// The fields that have a value, in [`Field::ALL`]'s order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &Value)> {
        Field::ALL
            .into_iter()
            .zip(&self.cells)
            .filter_map(|(field, value)| Some((field, value.as_ref()?)))
    }

    /// Whether no field has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(Option::is_none)
    }
}

impl FromIterator<(Field, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (Field, Value)>>(values: I) -> Self {
        let mut all = Self::default();
        for (field, value) in values {
            all.set(field, Some(value));
        }
        all
    }
}

/// A member as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The opaque id.
    pub id: Box<str>,
    /// What it holds. A flag that the API left out is `false`; a text that it left out has no value.
    pub values: Values,
}

impl Member {
    /// The email, or nothing if the API left it out.
    #[must_use]
    pub fn email(&self) -> &str {
        self.values.text(Field::Email).unwrap_or_default()
    }

    /// The member as `changes` would leave it.
    #[must_use]
    pub fn after(mut self, changes: &[Change]) -> Self {
        for change in changes {
            if !change.field.is_write_only() {
                self.values.set(change.field, Some(change.after.clone()));
            }
        }
        self
    }

    /// Whether the member bears everything that `changes` set and the API shows.
    #[must_use]
    pub fn bears(&self, changes: &[Change]) -> bool {
        self.first_unborne(changes).is_none()
    }

    /// The first of `changes` that the member does not bear.
    #[must_use]
    pub fn first_unborne<'c>(&self, changes: &'c [Change]) -> Option<&'c Change> {
        changes
            .iter()
            .filter(|change| !change.field.is_write_only())
            .find(|change| {
                !change
                    .field
                    .bears(self.values.get(change.field), &change.after)
            })
    }
}

/// One field's change. In the journal and in plans it is `[field, before, after]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "(Field, Option<Value>, Value)")]
pub struct Change {
    /// The field.
    pub field: Field,
    /// What the member held; `None` for a write-only field, or where the API showed nothing.
    pub before: Option<Value>,
    /// What it shall hold.
    pub after: Value,
}

impl From<(Field, Option<Value>, Value)> for Change {
    fn from((field, before, after): (Field, Option<Value>, Value)) -> Self {
        Self {
            field,
            before,
            after,
        }
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.field, &self.before, &self.after).serialize(serializer)
    }
}

impl Change {
    /// Whether the value that the member shows becomes another. What is sent along (a write-only field, or the
    /// archive flag that one needs beside it) is not visible.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        !self.field.is_write_only() && self.before.as_ref() != Some(&self.after)
    }
}

/// What to send so that `member` holds `wanted`; empty if nothing is to be sent.
///
/// Only what differs is sent, unless `send_unchanged`. The write-only fields can't be compared: one that asks
/// for something (a new owner, `true`) is always sent, together with the archive flag beside it, for the API
/// takes it only then; one that is `false` goes along if the archive flag goes.
#[must_use]
pub fn diff(member: &Member, wanted: &Values, send_unchanged: bool) -> Vec<Change> {
    let asks = wanted
        .iter()
        .any(|(field, value)| field.is_write_only() && *value != Value::Flag(false));
    let sends = |field: Field, value: &Value| match field {
        Field::IsArchived | Field::IsInactive if asks && *value == Value::Flag(true) => true,
        field => field.differs(member.values.get(field), value),
    };
    let archives = [Field::IsArchived, Field::IsInactive]
        .into_iter()
        .any(|field| wanted.get(field).is_some_and(|value| sends(field, value)));
    wanted
        .iter()
        .filter(|&(field, value)| {
            send_unchanged
                || if field.is_write_only() {
                    asks || archives
                } else {
                    sends(field, value)
                }
        })
        .map(|(field, value)| Change {
            field,
            before: member.values.get(field).cloned(),
            after: value.clone(),
        })
        .collect()
}

/// What became of a row: exactly one for each, and they add up to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// The API answered 2xx and the member bears the wanted values.
    Updated,
    /// A dry run's word for what would be sent.
    WouldUpdate,
    /// The member had every wanted value already; nothing was sent.
    Unchanged,
    /// The row holds no value to change; nothing was sent.
    Empty,
    /// The row can't be sent as it stands.
    Invalid,
    /// No member has that email.
    NotFound,
    /// The API refused it, or the tries ran out and the member is known not to bear all of it.
    Failed,
    /// The member's values are no longer those from which the plan or the undo was made; nothing was sent.
    Conflict,
    /// Sent, no answer, and a re-read could not tell.
    Unknown,
    /// The run stopped before this row.
    NotAttempted,
}

impl Outcome {
    /// All outcomes, in the order in which they are counted and shown.
    pub const ALL: [Self; 10] = [
        Self::Updated,
        Self::WouldUpdate,
        Self::Unchanged,
        Self::Empty,
        Self::Invalid,
        Self::NotFound,
        Self::Failed,
        Self::Conflict,
        Self::Unknown,
        Self::NotAttempted,
    ];

    /// The name in files and on screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::WouldUpdate => "would_update",
            Self::Unchanged => "unchanged",
            Self::Empty => "empty",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::NotAttempted => "not_attempted",
        }
    }

    /// Whether the row got what it asked for, or would.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(
            self,
            Self::Updated | Self::WouldUpdate | Self::Unchanged | Self::Empty
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(values: &[(Field, Value)]) -> Member {
        Member {
            id: "m1".into(),
            values: values.iter().cloned().collect(),
        }
    }

    #[test]
    fn names_of_fields_lead_back_to_them() {
        for field in Field::ALL {
            assert_eq!(Field::from_column(field.column()), Some(field));
            assert_eq!(Field::from_api_name(field.api_name()), Some(field));
        }
    }

    #[test]
    fn only_what_differs_is_sent_and_case_matters_for_emails_alone() {
        let have = member(&[
            (Field::FirstName, Value::text("Ann")),
            (Field::Email, Value::text("ann@x.org")),
            (Field::MemberType, Value::text("Viewer")),
        ]);
        let want: Values = [
            (Field::FirstName, Value::text("Ann")),
            (Field::Email, Value::text("Ann@x.org")),
            (Field::MemberType, Value::text("viewer")),
        ]
        .into_iter()
        .collect();
        let fields = |all| {
            diff(&have, &want, all)
                .iter()
                .map(|c| c.field)
                .collect::<Vec<_>>()
        };
        assert_eq!(fields(false), [Field::Email]);
        assert_eq!(
            fields(true),
            [Field::FirstName, Field::Email, Field::MemberType]
        );
        assert!(
            have.bears(&diff(&have, &want, true)),
            "the API may fold an email's case"
        );
    }

    #[test]
    fn a_new_owner_takes_the_archive_flag_along_even_if_the_member_is_archived() {
        let have = member(&[(Field::IsArchived, Value::Flag(true))]);
        let mut want: Values = [(Field::IsArchived, Value::Flag(true))]
            .into_iter()
            .collect();
        assert!(diff(&have, &want, false).is_empty());
        want.set(Field::ArchiveDocuments, Some(Value::Flag(false)));
        assert!(
            diff(&have, &want, false).is_empty(),
            "a false one asks for nothing"
        );
        want.set(Field::NewOwner, Some(Value::text("m2")));
        let changes = diff(&have, &want, false);
        assert_eq!(changes.len(), 3);
        assert!(!changes.iter().any(Change::is_visible));
    }
}
