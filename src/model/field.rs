//! The fields of a member that a row may change. Each field is declared once, in the table below: everything that
//! differs from field to field (its names, what it holds, how two of its values compare) follows from that line.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Value;
use super::text::is_same_text;

/// What a field holds. It decides how a cell is read and how two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Text; two values are equal if they are the same text.
    Text,
    /// An email address. A change of its case alone is sent, and an answer in another case is accepted, because the
    /// API may fold it.
    Email,
    /// The name of an account type, which is compared without regard to case.
    AccountType,
    /// One of these words, which are compared without regard to case.
    OneOf(&'static [&'static str]),
    /// A member, named by email or id.
    Member,
    /// A boolean.
    Flag,
}

/// What is declared of a field.
struct Spec {
    column: &'static str,
    api_name: &'static str,
    kind: FieldKind,
    write_only: bool,
    aliases: &'static [&'static str],
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident => $spec:expr,)*) => {
        /// A field of a member that a row may change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field {
            $($(#[$doc])* $name,)*
        }

        impl Field {
            /// All fields, in the order in which they are shown.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)*];

            /// The number of fields.
            pub const COUNT: usize = [$(stringify!($name),)*].len();

            const fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$name => const { &$spec },)*
                }
            }
        }
    };
}

/// A field that the API returns with the member.
const fn readable(
    column: &'static str,
    api_name: &'static str,
    kind: FieldKind,
    aliases: &'static [&'static str],
) -> Spec {
    Spec {
        column,
        api_name,
        kind,
        write_only: false,
        aliases,
    }
}

/// A field that the API accepts and never returns.
const fn write_only(
    column: &'static str,
    api_name: &'static str,
    kind: FieldKind,
    aliases: &'static [&'static str],
) -> Spec {
    Spec {
        write_only: true,
        ..readable(column, api_name, kind, aliases)
    }
}

// Aliases are what people write instead of a column's name, in lower case and without blanks and punctuation. They
// are only suggested, never accepted.
fields! {
    /// The first name.
    FirstName => readable(
        "First Name", "firstName", FieldKind::Text,
        &["givenname", "forename", "firstname", "fname", "vorname", "prénom", "prenom", "nombre", "nome", "имя"],
    ),
    /// The last name.
    LastName => readable(
        "Last Name", "lastName", FieldKind::Text,
        &["surname", "familyname", "lname", "sn", "nachname", "nom", "apellido", "apellidos", "cognome", "фамилия"],
    ),
    /// The email with which the member signs in. Its column is `New Email`, because `Email` names the member.
    Email => readable("New Email", "email", FieldKind::Email, &["updatedemail", "emailnew", "newmail", "neueemail"]),
    /// The name of the account type.
    MemberType => readable(
        "Member Type", "memberType", FieldKind::AccountType, &["role", "type", "accounttype", "newmembertype", "usertype", "license", "licence", "rolle", "rôle"],
    ),
    /// Whether the member is archived (deactivated).
    IsArchived => readable(
        "isArchived", "isArchived", FieldKind::Flag, &["archived", "archive", "deactivated", "suspended", "disabled"],
    ),
    /// Whether the member is inactive, which is how SCIM archives a member.
    IsInactive => readable("isInactive", "isInactive", FieldKind::Flag, &["inactive"]),
    /// The kind of user.
    UserKind => readable(
        "userKind", "userKind", FieldKind::OneOf(&["internal", "guest", "embed"]), &["kind"],
    ),
    /// The member who receives the documents of a member that is archived.
    NewOwner => write_only("newOwner", "newOwnerId", FieldKind::Member, &["owner", "newownerid"]),
    /// Whether the member's documents and exports are archived with the member.
    ArchiveDocuments => write_only("archiveDocuments", "archiveDocuments", FieldKind::Flag, &[]),
    /// Whether the member's scheduled exports are archived with the member.
    ArchiveScheduledExports => write_only(
        "archiveScheduledExports", "archiveScheduledExports", FieldKind::Flag, &[],
    ),
}

impl Field {
    /// Returns the name of the CSV column.
    #[must_use]
    pub const fn column(self) -> &'static str {
        self.spec().column
    }

    /// Returns the name in the API's JSON (`PATCH /v2/members/{memberId}`).
    #[must_use]
    pub const fn api_name(self) -> &'static str {
        self.spec().api_name
    }

    /// Returns what the field holds.
    #[must_use]
    pub const fn kind(self) -> FieldKind {
        self.spec().kind
    }

    /// Returns whether the API accepts the field and never returns it. Such a field says how to archive a member:
    /// it can't be compared, and it can't be undone.
    #[must_use]
    pub const fn is_write_only(self) -> bool {
        self.spec().write_only
    }

    /// Returns what people write instead of the column's name: lower case, letters and digits only.
    #[must_use]
    pub const fn aliases(self) -> &'static [&'static str] {
        self.spec().aliases
    }

    /// Returns whether the field archives its member when it is true.
    #[must_use]
    pub const fn archives(self) -> bool {
        matches!(self, Self::IsArchived | Self::IsInactive)
    }

    /// Returns the field with this CSV column.
    #[must_use]
    pub fn from_column(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.column() == name)
    }

    /// Returns the field with this name in the API.
    #[must_use]
    pub fn from_api_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.api_name() == name)
    }

    /// Returns whether a member that holds `have` must be sent `want`.
    #[must_use]
    pub fn differs(self, have: Option<&Value>, want: &Value) -> bool {
        match (self.kind(), have) {
            (FieldKind::AccountType | FieldKind::OneOf(_), Some(have)) => {
                !have.eq_ignore_case(want)
            }
            (_, have) => have != Some(want),
        }
    }

    /// Returns whether `have`, which the API returned, shows that `want` was applied. The API may fold the case of an
    /// email, and normalize text: its Unicode form, its white space, and `null` for a blank.
    #[must_use]
    pub fn matches(self, have: Option<&Value>, want: &Value) -> bool {
        match (self.kind(), have, want) {
            (_, None, Value::Text(want)) if want.is_empty() => true,
            (FieldKind::Email, Some(have), want) => have.eq_ignore_case(want),
            (FieldKind::Text, have, Value::Text(want)) => {
                let have = have.and_then(Value::as_text).unwrap_or_default();
                is_same_text(have, want)
            }
            (_, have, want) => !self.differs(have, want),
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
                    .ok_or_else(|| E::custom(format_args!("\"{name}\" is not a field of a member")))
            }
        }
        deserializer.deserialize_str(FieldVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_fields() {
        for field in Field::ALL {
            assert_eq!(Field::from_column(field.column()), Some(field));
            assert_eq!(Field::from_api_name(field.api_name()), Some(field));
        }
    }

    #[test]
    fn case_counts_by_kind() {
        let cases = [
            // field, have, want, differs, matches
            (Field::FirstName, "ann", "Ann", true, false),
            (Field::Email, "ann@x.org", "Ann@x.org", true, true),
            (Field::MemberType, "viewer", "Viewer", false, true),
            (Field::UserKind, "GUEST", "guest", false, true),
            (Field::Email, "ann@x.org", "bob@x.org", true, false),
            (Field::FirstName, "Jos\u{e9}", "Jose\u{301}", true, true),
            (Field::FirstName, "Zed Z", " Zed  Z", true, true),
        ];
        for (field, have, want, differs, matches) in cases {
            let (have, want) = (Value::text(have), Value::text(want));
            assert_eq!(field.differs(Some(&have), &want), differs, "{field:?}");
            assert_eq!(field.matches(Some(&have), &want), matches, "{field:?}");
        }
        assert!(Field::FirstName.differs(None, &Value::text("")));
        assert!(Field::FirstName.matches(None, &Value::text("")));
    }
}
