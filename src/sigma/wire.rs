//! The API's JSON format, private to `sigma`. Parsing is lenient, because the API guarantees none of these
//! details.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::error::{ApiError, Origin};
use super::listing::{Cursor, plain_name};
use crate::model::{Change, Field, FieldKind, Member, Value, Values, is_plain_id};

/// The body of a 2xx answer has an unexpected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnreadableBody(String);

impl UnreadableBody {
    fn json(error: &serde_json::Error) -> Self {
        // If a type is wrong, serde_json's message quotes the body. Report only the position.
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

/// A string, borrowed from the body if it has no escapes. Numeric ids and cursors are accepted as their
/// digits.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

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

/// A member as the API writes it. Each field is read as its [`FieldKind`] says.
#[derive(Debug)]
struct WireMember(Member);

impl<'de> Deserialize<'de> for WireMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;
        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = WireMember;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireMember, A::Error> {
                const ID: &str = "memberId";
                let mut id: Option<Box<str>> = None;
                let mut values = Values::default();
                while let Some(Text(key)) = map.next_key()? {
                    let readable = |field: &Field| !field.is_write_only();
                    if key == ID {
                        if id.is_some() {
                            return Err(de::Error::duplicate_field(ID));
                        }
                        id = Some(map.next_value::<Text<'_>>()?.0.into());
                    } else if let Some(field) = Field::from_api_name(&key).filter(readable) {
                        if values.get(field).is_some() {
                            return Err(de::Error::duplicate_field(field.api_name()));
                        }
                        let value = if field.kind() == FieldKind::Flag {
                            map.next_value::<WireFlag>()?.0.map(Value::Flag)
                        } else {
                            let text: Option<Text<'_>> = map.next_value()?;
                            text.map(|text| Value::Text(text.0.into()))
                        };
                        values.set(field, value);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                for field in Field::ALL {
                    // A missing flag means false.
                    if field.kind() == FieldKind::Flag
                        && !field.is_write_only()
                        && values.get(field).is_none()
                    {
                        values.set(field, Some(Value::Flag(false)));
                    }
                }
                let id = id.ok_or_else(|| de::Error::missing_field(ID))?;
                // An id becomes a part of addresses. One that could leave its place there is never used.
                if !is_plain_id(&id) {
                    return Err(de::Error::custom("memberId is not a plain id"));
                }
                Ok(WireMember(Member { id, values }))
            }
        }
        deserializer.deserialize_map(MemberVisitor)
    }
}

/// A boolean, which some servers write as a string or as 0 or 1. `None` is `null`.
#[derive(Debug)]
struct WireFlag(Option<bool>);

impl<'de> Deserialize<'de> for WireFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor).map(Self)
    }
}

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
        (folded.parse().map(Some)).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// One page of a listing, or the bare array that older organizations return.
#[derive(Debug)]
struct WirePage<E> {
    entries: Vec<E>,
    next: Option<Cursor>,
    has_more: Option<bool>,
    total: Option<u64>,
}

impl<'de, E: Deserialize<'de>> Deserialize<'de> for WirePage<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PageVisitor<E>(std::marker::PhantomData<E>);
        impl<'de, E: Deserialize<'de>> Visitor<'de> for PageVisitor<E> {
            type Value = WirePage<E>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a page")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<WirePage<E>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(WirePage {
                    entries,
                    next: None,
                    has_more: None,
                    total: None,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WirePage<E>, A::Error> {
                const ENTRIES: &str = "entries";
                let (mut entries, mut next, mut has_more, mut total) = (None, None, None, None);
                while let Some(Text(key)) = map.next_key()? {
                    if key == ENTRIES {
                        if entries.is_some() {
                            return Err(de::Error::duplicate_field(ENTRIES));
                        }
                        entries = Some(map.next_value()?);
                        continue;
                    }
                    let value: &RawValue = map.next_value()?;
                    if let Some(parameter) = Cursor::parameter(&key) {
                        next = next.or_else(|| Cursor::read(parameter, value));
                        continue;
                    }
                    match plain_name(&key).as_str() {
                        "hasmore" | "hasnext" | "hasnextpage" => {
                            has_more = serde_json::from_str(value.get()).ok();
                        }
                        "total" | "totalcount" => total = serde_json::from_str(value.get()).ok(),
                        _ => {}
                    }
                }
                Ok(WirePage {
                    entries: entries.ok_or_else(|| de::Error::missing_field(ENTRIES))?,
                    next,
                    has_more,
                    total,
                })
            }
        }
        deserializer.deserialize_any(PageVisitor(std::marker::PhantomData))
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page<E> {
    /// What the page lists.
    pub entries: Vec<E>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<Cursor>,
    /// Whether the API says that more follow.
    pub has_more: Option<bool>,
    /// The total number, if the API reports it.
    pub total: Option<u64>,
    /// The number of entries that can't be read.
    pub unreadable: usize,
}

impl<E> Page<E> {
    fn of<W>(page: WirePage<W>, read: impl Fn(W) -> Option<E>) -> Self {
        let all = page.entries.len();
        let mut entries = Vec::with_capacity(all);
        entries.extend(page.entries.into_iter().filter_map(read));
        Self {
            unreadable: all - entries.len(),
            entries,
            next: page.next,
            has_more: page.has_more,
            total: page.total,
        }
    }

    /// Reads a page entry by entry, and skips and counts those that can't be read, unless that is all of them.
    fn salvage(body: &[u8], read: impl Fn(&[u8]) -> Option<E>) -> Result<Self, UnreadableBody> {
        let page = Self::of(from_json(body)?, |entry: &RawValue| {
            read(entry.get().as_bytes())
        });
        if page.entries.is_empty() && page.unreadable > 0 {
            return Err(UnreadableBody("none of its entries is a member".to_owned()));
        }
        Ok(page)
    }
}

/// One page of members.
pub(crate) type MemberPage = Page<Member>;

impl Page<Member> {
    /// Reads a page, or the bare array that older organizations return. Entries that are not members are
    /// skipped and counted.
    ///
    /// # Errors
    /// Returns an error if the body is neither, or none of its entries is a member.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
            .map(|page| Self::of(page, |member: WireMember| Some(member.0)))
            .or_else(|error| {
                Self::salvage(body, |entry| parse_member(entry).ok()).map_err(|_| error)
            })
    }
}

/// A member with what the API says about it and no update can change.
#[derive(Clone, Debug)]
pub(crate) struct ListedMember {
    /// The member.
    pub member: Member,
    /// When and by whom, as the API writes it.
    pub record: MemberRecord,
}

/// What the API says about a member and no update can change. Each part may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MemberRecord {
    /// When the member was created, RFC 3339.
    pub created_at: Option<String>,
    /// When it was last updated, RFC 3339.
    pub updated_at: Option<String>,
    /// The id of the member that created it.
    pub created_by: Option<String>,
    /// The id of the member that updated it last.
    pub updated_by: Option<String>,
}

impl Page<ListedMember> {
    /// As [`MemberPage::parse`], with the records.
    ///
    /// # Errors
    /// As [`MemberPage::parse`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        Self::salvage(body, |entry| {
            Some(ListedMember {
                member: parse_member(entry).ok()?,
                record: from_json(entry).unwrap_or_default(),
            })
        })
    }
}

/// Reads the member that the API returned.
///
/// # Errors
/// Returns an error if the body is not a member.
pub(crate) fn parse_member(body: &[u8]) -> Result<Member, UnreadableBody> {
    from_json::<WireMember>(body).map(|member| member.0)
}

/// The answer of `POST /v2/auth/token`.
#[derive(Deserialize)]
pub(crate) struct Token {
    /// The bearer token.
    pub access_token: secrecy::SecretString,
    /// The token's lifetime in seconds, if the API reports it.
    #[serde(default, deserialize_with = "seconds")]
    pub expires_in: Option<f64>,
}

impl Token {
    pub(super) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
    }
}

/// Reads a number, which some servers write as a string. Anything else is treated as missing, so that it does
/// not prevent signing in.
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
pub(crate) struct Identity {
    /// The member that the credentials belong to.
    pub user_id: Option<String>,
    /// The organization's id.
    pub organization_id: Option<String>,
}

impl Identity {
    /// Reads the body.
    ///
    /// # Errors
    /// Returns an error if the body is not a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        from_json(body)
    }
}

/// Returns the organization of the members on a page, if they all belong to one.
pub(crate) fn organization_of_members(body: &[u8]) -> Option<String> {
    #[derive(Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct OfMember {
        organization_id: Option<String>,
    }
    let page: WirePage<OfMember> = from_json(body).ok()?;
    let first = page.entries.first()?.organization_id.clone()?;
    let is_same = |member: &OfMember| member.organization_id.as_ref() == Some(&first);
    (!first.is_empty() && page.entries.iter().all(is_same)).then_some(first)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountType {
    account_type_name: String,
}

/// One page of `GET /v2/accountTypes`: the names.
pub(crate) type TypesPage = Page<String>;

impl Page<String> {
    /// Reads the body.
    ///
    /// # Errors
    /// Returns an error if the body is not such a page.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, UnreadableBody> {
        let page = from_json(body)?;
        Ok(Self::of(page, |entry: AccountType| {
            Some(entry.account_type_name)
        }))
    }
}

/// Strips a byte order mark. JSON allows none, but some servers write one.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

fn from_json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, UnreadableBody> {
    let body = without_mark(body);
    // The body is validated as UTF-8 once, so that its strings need no separate check. If it is invalid, only
    // the strings that are read must be valid.
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

/// What the headers of an answer say about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerHeaders {
    /// How long to wait.
    pub(super) retry_after: Option<Duration>,
    /// Whether the body is announced as HTML.
    pub(super) is_html: bool,
    /// Whether the edge asks for a proof that a person sits at a browser.
    pub(super) is_challenge: bool,
}

/// Reads the body of an answer that is not 2xx. The body may contain anything and have any length.
pub(super) fn parse_error(status: u16, body: &[u8], headers: AnswerHeaders) -> ApiError {
    let retry_after = headers.retry_after;
    let origin = if headers.is_challenge {
        Origin::Challenge
    } else if (300..400).contains(&status) {
        Origin::Redirect
    } else if headers.is_html || is_page(body) {
        Origin::Page
    } else {
        Origin::Api
    };
    if origin == Origin::Redirect {
        return ApiError {
            status,
            message: "a redirect, which is never followed: check --base-url, and whether a login stands in front of the API".into(),
            retry_after,
            origin,
            ..ApiError::default()
        };
    }
    let wire: WireError = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: Option<serde_json::Value>| match value? {
        serde_json::Value::String(text) => Some(text.trim().into()),
        serde_json::Value::Null => None,
        other => Some(other.to_string().into_boxed_str()),
    };
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
        origin,
        is_ban: status == 429 && retry_after.is_none() && has_word(body, RATE_BAN),
    }
}

/// Cloudflare's error "You are being rate limited", a ban for some time.
const RATE_BAN: &[u8] = b"1015";

/// Returns whether `body` contains `word` with no letter or digit beside it.
fn has_word(body: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find_iter(body, word).any(|at| {
        let before = at.checked_sub(1).and_then(|before| body.get(before));
        let beside = [before, body.get(at + word.len())];
        !beside.into_iter().flatten().any(u8::is_ascii_alphanumeric)
    })
}

/// Returns whether a body is markup, where the API answers with JSON.
pub(super) fn is_page(body: &[u8]) -> bool {
    without_mark(body).trim_ascii_start().starts_with(b"<")
}

/// Returns what a page is, by its title.
pub(super) fn describe_page(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = start + lower.get(start..)?.find("</title>")?;
        text.get(start..end)
    });
    title.map_or_else(
        || "an HTML page".to_owned(),
        |title| format!("an HTML page: {}", title.trim()),
    )
}

/// Returns a substitute for a missing message: what the page is, or the meaning of the status.
fn describe(status: u16, body: &[u8]) -> String {
    if is_page(body) {
        return format!("({})", describe_page(body));
    }
    let reason = reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason());
    reason.unwrap_or("(no message)").to_owned()
}

/// The JSON body of an update.
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
    fn unreadable_entries_do_not_hide_the_other_members() {
        let member = |id: &str, archived: &str| {
            format!(r#"{{"memberId":"{id}","email":"e","isArchived":{archived}}}"#)
        };
        let archived = |flag: &str| {
            let body = format!("\u{feff}[{}]", member("a", flag));
            let page = MemberPage::parse(body.as_bytes()).expect("a page");
            page.entries[0].values.is_true(Field::IsArchived)
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
        let page = MemberPage::parse(body.as_bytes()).expect("a page");
        assert_eq!((page.entries.len(), page.unreadable), (1, 5));
        let next = page.next.map(|next| next.value);
        assert_eq!((next.as_deref(), page.total), (Some("n"), None));
        MemberPage::parse(format!("[{odd}]").as_bytes()).expect_err("none of them is one");
        assert_eq!(MemberPage::parse(b"[]").expect("a page").unreadable, 0);
    }

    #[test]
    fn a_cursor_is_read_under_every_name_and_in_every_form() {
        let cursor = |rest: &str| {
            let page = MemberPage::parse(format!("{{\"entries\":[]{rest}}}").as_bytes());
            let page = page.expect("a page");
            page.next
                .map(|next| format!("{}={}", next.parameter, next.value))
        };
        for (rest, expected) in [
            (r#","nextPage":"n""#, Some("page=n")),
            (r#","nextPage":7"#, Some("page=7")),
            (r#","nextPageToken":"n""#, Some("pageToken=n")),
            (r#","next_page_token":"n""#, Some("pageToken=n")),
            (r#","nextCursor":"n""#, Some("cursor=n")),
            (
                r#","nextPage":null,"nextPageToken":"n""#,
                Some("pageToken=n"),
            ),
            (r#","nextPage":"","cursor":"n""#, Some("cursor=n")),
            (
                r#","next":"https://h.example/v2/members?limit=5&page=n""#,
                Some("page=n"),
            ),
            (r#","nextPage":"""#, None),
            (r#","nextPage":null"#, None),
            (r#","nextPage":{}"#, None),
            (r#","previousPage":"n""#, None),
            ("", None),
        ] {
            assert_eq!(cursor(rest).as_deref(), expected, "{rest}");
        }
    }

    #[test]
    fn token_lifetime_is_read_as_number_or_string() {
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
