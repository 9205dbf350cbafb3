//! The values of fields.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Field, fold};

/// The value of a field. In the journal and in plans it is a JSON boolean or a JSON string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A boolean.
    Flag(bool),
    /// Text.
    Text(Box<str>),
}

impl Value {
    /// Returns a text value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Returns the text, or `None` for a flag.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) => None,
        }
    }

    /// Returns the value as a CSV cell holds it.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Flag(true) => "true",
            Self::Flag(false) => "false",
        }
    }

    /// Returns whether two values are equal without regard to case (Unicode's lower case).
    #[must_use]
    pub fn eq_ignore_case(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b || fold(a) == fold(b),
            (a, b) => a == b,
        }
    }
}

// serde's `untagged` would copy the input to try one variant after the other.
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

/// At most one value for each field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    cells: [Option<Value>; Field::COUNT],
}

impl Values {
    /// Returns the value of `field`.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "a field's number is below Field::COUNT"
    )]
    pub fn get(&self, field: Field) -> Option<&Value> {
        self.cells[field as usize].as_ref()
    }

    /// Returns the text of `field`, or `None` if it has no value or is a flag.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<&str> {
        self.get(field).and_then(Value::as_text)
    }

    /// Returns whether `field` is `true`.
    #[must_use]
    pub fn is_true(&self, field: Field) -> bool {
        self.get(field) == Some(&Value::Flag(true))
    }

    /// Sets or removes the value of `field`.
    #[expect(
        clippy::indexing_slicing,
        reason = "a field's number is below Field::COUNT"
    )]
    pub fn set(&mut self, field: Field, value: Option<Value>) {
        self.cells[field as usize] = value;
    }

    /// Returns the fields that have a value, in the order of [`Field::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Field, &Value)> {
        Field::ALL
            .into_iter()
            .zip(&self.cells)
            .filter_map(|(field, value)| Some((field, value.as_ref()?)))
    }

    /// Returns whether no field has a value.
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
