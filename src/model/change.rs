//! One field's change.

use serde::{Deserialize, Serialize, Serializer};

use super::{Field, Value};

/// One field's change. In the journal and in plans it is `[field, before, after]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "(Field, Option<Value>, Value)")]
pub struct Change {
    /// The field.
    pub field: Field,
    /// The value before; `None` for a write-only field, and where the API returned nothing.
    pub before: Option<Value>,
    /// The target value.
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
    /// Returns whether the change alters a value that the API returns. A write-only field does not, nor does an
    /// archive flag that is sent only because a write-only field needs it.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        !self.field.is_write_only() && self.before.as_ref() != Some(&self.after)
    }

    /// Returns whether people should see the change: it is visible, or it says how to archive.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.is_visible() || self.field.is_write_only()
    }

    /// Appends `First Name: Ann → Anna; Member Type: Viewer → Creator` to `text`. A new owner is shown as `owner`, if that is
    /// known, and else by id.
    pub fn describe_all(changes: &[Self], owner: Option<&str>, text: &mut String) {
        for change in changes.iter().filter(|change| change.is_shown()) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(change.field.column());
            text.push_str(": ");
            if let Some(before) = &change.before {
                text.push_str(before.as_str());
                text.push(' ');
            }
            text.push_str("→ ");
            text.push_str(match (change.field, owner) {
                (Field::NewOwner, Some(owner)) => owner,
                _ => change.after.as_str(),
            });
        }
    }
}
