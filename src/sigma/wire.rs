//! The API's JSON, private to `sigma`: liberal in what it accepts, for none of it is promised.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::change::{Change, Field, Member, Value, Values};

/// The body of a 2xx answer is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableBody(String);

impl UnreadableBody {
    fn json(error: &serde_json::Error) -> Self {
        // serde_json's message holds pieces of the body when a type is wrong: only where it is, is said.
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it is cut off",
            serde_json::error::Category::Syntax => "it is not JSON",
            _ => "a field is missing or has another type",
        };
        Self(format!(
            "{what} (line {}, column {})",
            error.line(),
            error.column()
        ))
    }
}

/// A string, taken from the body without a copy where it has no escapes. Ids and cursors that are numbers are
/// taken as their digits.
#[derive(Debug, Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMember<'a> {
    #[serde(borrow)]
    member_id: Text<'a>,
    #[serde(borrow)]
    email: Option<Text<'a>>,
    #[serde(borrow)]
    first_name: Option<Text<'a>>,
    #[serde(borrow)]
    last_name: Option<Text<'a>>,
    #[serde(borrow)]
    member_type: Option<Text<'a>>,
    #[serde(borrow)]
    user_kind: Option<Text<'a>>,
    #[serde(default, deserialize_with = "flag")]
    is_archived: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    is_inactive: Option<bool>,
}

/// A boolean, which some servers write as text or as 0 and 1.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    struct FlagVisitor;
    impl Visitor<'_> for FlagVisitor {
        type Value = Option<bool>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }
        fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
            Ok(Some(flag))
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            match number {
                0 | 1 => Ok(Some(number == 1)),
                _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
            }
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let folded = text.to_ascii_lowercase();
            (folded.parse().map(Some))
                .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(FlagVisitor)
}

impl From<WireMember<'_>> for Member {
    fn from(wire: WireMember<'_>) -> Self {
        let mut values = Values::default();
        let mut text = |field, text: Option<Text<'_>>| {
            values.set(field, text.map(|text| Value::Text(text.0.into())));
        };
        text(Field::Email, wire.email);
        text(Field::FirstName, wire.first_name);
        text(Field::LastName, wire.last_name);
        text(Field::MemberType, wire.member_type);
        text(Field::UserKind, wire.user_kind);
        // A flag that is absent is false.
        values.set(
            Field::IsArchived,
            Some(Value::Flag(wire.is_archived.unwrap_or(false))),
        );
        values.set(
            Field::IsInactive,
            Some(Value::Flag(wire.is_inactive.unwrap_or(false))),
        );
        Self {
            id: wire.member_id.0.into(),
            values,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "E: Deserialize<'de>"))]
struct WirePage<'a, E> {
    entries: Vec<E>,
    #[serde(borrow)]
    next_page: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    total: Option<u64>,
}

/// One page of members.
#[derive(Debug)]
pub struct Page {
    /// The members.
    pub members: Vec<Member>,
    /// The cursor of the next page; none at the end.
    pub next: Option<String>,
    /// How many members there are in all, if the API tells.
    pub total: Option<u64>,
    /// How many entries can't be read as members.
    pub unreadable: usize,
}

impl Page {
    /// Reads a page, or the bare array that older organizations answer. One entry that is no member does not make the
    /// others unreadable.
    ///
    /// # Errors
    /// If it is neither, or none of its entries is a member.
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        WirePage::parse(body)
            .map(|page| Self::of(page, |member: WireMember<'_>| Some(member.into())))
            .or_else(|error| Self::salvage(body).ok_or(error))
    }

    fn salvage(body: &[u8]) -> Option<Self> {
        let readable = |entry: &RawValue| parse_member(entry.get().as_bytes()).ok();
        let page = Self::of(WirePage::parse(body).ok()?, readable);
        (!page.members.is_empty()).then_some(page)
    }

    fn of<E>(page: WirePage<'_, E>, read: impl Fn(E) -> Option<Member>) -> Self {
        let entries = page.entries.len();
        let mut members = Vec::with_capacity(entries);
        members.extend(page.entries.into_iter().filter_map(read));
        Self {
            unreadable: entries - members.len(),
            members,
            next: cursor(page.next_page),
            total: page.total,
        }
    }
}

impl<'b, E: Deserialize<'b>> WirePage<'b, E> {
    fn parse(body: &'b [u8]) -> Result<Self, UnreadableBody> {
        if without_mark(body).trim_ascii_start().starts_with(b"[") {
            return Ok(Self {
                entries: from_json(body)?,
                next_page: None,
                total: None,
            });
        }
        from_json(body)
    }
}

/// The cursor of the next page; at the end it is absent, null or empty.
fn cursor(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.0.into_owned())
        .filter(|next| !next.is_empty())
}

/// Reads the member that the API returned.
///
/// # Errors
/// If the body is no member.
pub(super) fn parse_member(body: &[u8]) -> Result<Member, UnreadableBody> {
    from_json::<WireMember<'_>>(body).map(Member::from)
}

/// The answer of `POST /v2/auth/token`.
#[derive(Deserialize)]
pub struct Token {
    /// The bearer token.
    pub access_token: secrecy::SecretString,
    /// Its life in seconds, if the API tells.
    #[serde(default, deserialize_with = "seconds")]
    pub expires_in: Option<f64>,
}

impl Token {
    pub(super) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
    }
}

/// A count that is told for convenience: anything else is as good as nothing.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_u64())
}

/// A number, which some servers write as a string. Anything else is as good as nothing: it is no reason not to sign in.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

/// The answer of `GET /v2/whoami`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// The member to whom the credentials belong.
    pub user_id: Option<String>,
    /// The organization.
    pub organization_id: Option<String>,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
    }
}

/// One page of `GET /v2/accountTypes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypesPage {
    entries: Vec<AccountType>,
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountType {
    account_type_name: String,
}

impl TypesPage {
    /// Reads it.
    ///
    /// # Errors
    /// If it is no such page.
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
    }

    /// The names, and the token of the next page.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Option<String>) {
        let names = self
            .entries
            .into_iter()
            .map(|entry| entry.account_type_name)
            .collect();
        (
            names,
            self.next_page_token.filter(|token| !token.is_empty()),
        )
    }
}

/// JSON has no byte order mark, and some servers write one.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

fn from_json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, UnreadableBody> {
    let body = without_mark(body);
    // Checked as a whole once, its strings need not be checked one by one. Broken text in a string that nobody reads is
    // no reason not to read the others.
    let parsed = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    parsed.map_err(|error| UnreadableBody::json(&error))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireError {
    code: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
    request_id: Option<serde_json::Value>,
}

/// Reads the body of an answer that is not 2xx; anything may stand there, in any length.
pub(super) fn parse_error(
    status: u16,
    body: &[u8],
    retry_after: Option<std::time::Duration>,
) -> ApiError {
    let wire: WireError = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: Option<serde_json::Value>| match value? {
        serde_json::Value::String(text) => Some(text.trim().into()),
        serde_json::Value::Null => None,
        other => Some(other.to_string().into_boxed_str()),
    };
    if (300..400).contains(&status) {
        return ApiError {
            status,
            code: None,
            message: "a redirect, which is never followed: check --base-url".into(),
            request_id: None,
            retry_after,
        };
    }
    let code = text(wire.code);
    let message = text(wire.message)
        .filter(|message| !message.is_empty())
        .or_else(|| code.clone())
        .unwrap_or_else(|| describe(status, body).into());
    ApiError {
        status,
        code,
        message,
        request_id: text(wire.request_id),
        retry_after,
    }
}

/// What stands in for a message: a proxy's page by its title, or the status' meaning.
fn describe(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    if let Some((start, end)) = lower
        .find("<title>")
        .and_then(|start| Some((start + 7, start + lower.get(start..)?.find("</title>")?)))
        && let Some(title) = text.get(start..end)
    {
        return format!("(an HTML page: {})", title.trim());
    }
    if lower.contains("<html") {
        return "(an HTML page)".to_owned();
    }
    let reason = reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason());
    reason.unwrap_or("(no message)").to_owned()
}

/// The body of an update.
pub(super) struct UpdateBody<'a>(pub(super) &'a [Change]);

impl Serialize for UpdateBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|change| (change.field.api_name(), &change.after)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_no_member_does_not_hide_the_others() {
        let member = |id: &str, archived: &str| {
            format!(r#"{{"memberId":"{id}","email":"e","isArchived":{archived}}}"#)
        };
        let archived = |flag: &str| {
            let body = format!("\u{feff}[{}]", member("a", flag));
            let page = Page::parse(body.as_bytes()).expect("a page");
            page.members[0].values.is_true(Field::IsArchived)
        };
        assert_eq!(
            ["true", "\"TRUE\"", "1", "false", "\"false\"", "0", "null"].map(archived),
            [true, true, true, false, false, false, false]
        );
        let odd = [
            "null",
            "7",
            "{}",
            &member("c", "\"maybe\""),
            &member("d", "2"),
        ]
        .join(",");
        let body = format!(
            r#"{{"entries":[{},{odd}],"nextPage":"n","total":"many"}}"#,
            member("a", "true")
        );
        let page = Page::parse(body.as_bytes()).expect("a page");
        assert_eq!((page.members.len(), page.unreadable), (1, 5));
        assert_eq!((page.next.as_deref(), page.total), (Some("n"), None));
        Page::parse(format!("[{odd}]").as_bytes()).expect_err("none of them is one");
        assert_eq!(Page::parse(b"[]").expect("a page").unreadable, 0);
    }

    #[test]
    fn a_tokens_life_is_read_however_it_is_written() {
        let life = |expires_in: &str| {
            let body = format!("{{\"access_token\":\"t\"{expires_in}}}");
            Token::parse(body.as_bytes()).expect("a token").expires_in
        };
        assert_eq!(life(r#","expires_in":3599"#), Some(3599.0));
        assert_eq!(life(r#","expires_in":"3599""#), Some(3599.0));
        assert_eq!(life(r#","expires_in":null"#), None);
        assert_eq!(life(r#","expires_in":{}"#), None);
        assert_eq!(life(""), None);
    }
}
