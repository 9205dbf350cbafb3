//! A member as the API returns it, and the members that fit what a row names.

use super::{Applied, Change, Field, Values};

/// A member as the API returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The opaque id.
    pub id: Box<str>,
    /// The values. A flag that the API left out is `false`; a text that it left out has no value.
    pub values: Values,
}

/// Returns whether an id is a plain path segment, so that it can stand in an address and name nothing but a member. Ids
/// are opaque, but one that is empty, is `.` or `..`, or has a character with a meaning in addresses, white space or a
/// control character is none.
pub(crate) fn is_plain_id(id: &str) -> bool {
    let has_meaning =
        |c: char| matches!(c, '/' | '\\' | '?' | '#' | '%') || c.is_whitespace() || c.is_control();
    !matches!(id, "" | "." | "..") && !id.contains(has_meaning)
}

impl Member {
    /// Returns the email, or an empty text if the API left it out.
    #[must_use]
    pub fn email(&self) -> &str {
        self.values.text(Field::Email).unwrap_or_default()
    }

    /// Returns the name and the email for people: `Ana García <ana@example.com>`.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = |field| self.values.text(field).unwrap_or_default();
        let name = format!("{} {}", name(Field::FirstName), name(Field::LastName));
        match (name.trim(), self.email()) {
            ("", "") => self.id.to_string(),
            ("", email) => email.to_owned(),
            (name, "") => name.to_owned(),
            (name, email) => format!("{name} <{email}>"),
        }
    }

    /// Returns the member as `changes` would leave it.
    #[must_use]
    pub fn after(mut self, changes: &[Change]) -> Self {
        for change in changes {
            if !change.field.is_write_only() {
                self.values.set(change.field, Some(change.after.clone()));
            }
        }
        self
    }

    /// Returns the first change whose target value the member does not hold. Write-only fields don't count, because
    /// the API never returns them.
    #[must_use]
    pub fn first_mismatch<'c>(&self, changes: &'c [Change]) -> Option<&'c Change> {
        changes.iter().find(|change| {
            !change.field.is_write_only()
                && !change
                    .field
                    .matches(self.values.get(change.field), &change.after)
        })
    }

    /// Returns whether the member holds the target value of every change that the API shows.
    #[must_use]
    pub fn matches(&self, changes: &[Change]) -> bool {
        self.first_mismatch(changes).is_none()
    }

    /// Returns how much of `changes` the member shows. A changed field that now holds its target value was applied.
    #[must_use]
    pub fn applied(&self, changes: &[Change]) -> Applied {
        let mut visible = changes.iter().filter(|change| change.is_visible());
        if self.matches(changes) {
            Applied::Full
        } else if visible.any(|change| self.matches(std::slice::from_ref(change))) {
            Applied::Partial
        } else {
            Applied::None
        }
    }
}

/// The members that fit the email or id that a row names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one"
)]
pub enum Found {
    /// Exactly one member.
    One(Member),
    /// No member.
    Nobody,
    /// This many members, which fit equally.
    Ambiguous(usize),
}
