//! Keeping secrets out of messages: a server may repeat what it was sent, in any usual encoding.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;

use super::Credentials;

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";
/// The shortest run of base64 that is decoded. A secret that is shorter than the nine bytes in it is none.
const SHORTEST_BASE64: usize = 12;

/// Returns the text without the client secret and the token. A value in the text that holds one of them in an encoding
/// (percent, JSON, HTML, base64, one inside the other) is replaced, or else the whole text.
pub(super) fn without(text: &str, credentials: &Credentials, token: Option<&str>) -> String {
    let secrets: Vec<&str> = [Some(credentials.secret.expose_secret()), token]
        .into_iter()
        .flatten()
        .filter(|secret| !secret.is_empty())
        .collect();
    let mut text = text.to_owned();
    for secret in &secrets {
        if text.contains(secret) {
            text = text.replace(secret, HIDDEN);
        }
    }
    if !holds_encoded(&text, &secrets, 2) {
        return text;
    }
    let is_between = |c: char| c.is_whitespace() || "&=,;:\"'".contains(c);
    let parts = text.split_inclusive(is_between).map(|part| {
        let value = part.trim_end_matches(is_between);
        if holds_encoded(value, &secrets, 2) {
            part.replace(value, HIDDEN)
        } else {
            part.to_owned()
        }
    });
    text = parts.collect();
    if holds_encoded(&text, &secrets, 2) {
        return "[hidden: the server repeats a secret]".to_owned();
    }
    text
}

/// Returns whether the text holds a secret in an encoding, or in `depth` of them.
fn holds_encoded(text: &str, secrets: &[&str], depth: u32) -> bool {
    let holds = |decoded: &str| {
        decoded != text
            && (secrets.iter().any(|secret| decoded.contains(secret))
                || (depth > 1 && holds_encoded(decoded, secrets, depth - 1)))
    };
    holds(&percent_decode_str(text).decode_utf8_lossy())
        || holds(&percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy())
        || holds(&without_escapes(text))
        || holds(&without_entities(text))
        || base64_runs(text).any(|run| {
            [STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().any(|engine| {
                let decoded = engine.decode(run);
                decoded.is_ok_and(|bytes| holds(&String::from_utf8_lossy(&bytes)))
            })
        })
}

/// Returns the text with the escapes of JSON strings resolved.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after
            .strip_prefix('u')
            .and_then(|digits| digits.get(..4))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        rest = if let Some(code) = code {
            plain.extend(char::from_u32(code));
            after.get(5..).unwrap_or_default()
        } else {
            let mut chars = after.chars();
            plain.extend(chars.next());
            chars.as_str()
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Returns the text with the named entities of HTML's own characters resolved, and numeric ones.
fn without_entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let entity = after.split_once(';').and_then(|(name, after)| {
            let one = match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => {
                    let code = name.strip_prefix('#')?;
                    let code = match code.strip_prefix(['x', 'X']) {
                        Some(digits) => u32::from_str_radix(digits, 16),
                        None => code.parse(),
                    };
                    char::from_u32(code.ok()?)?
                }
            };
            Some((one, after))
        });
        rest = if let Some((one, after)) = entity {
            plain.push(one);
            after
        } else {
            plain.push('&');
            after
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Returns the parts of the text that may be base64.
fn base64_runs(text: &str) -> impl Iterator<Item = &str> {
    let is_outside = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_'));
    text.split(is_outside)
        .filter(|run| run.len() >= SHORTEST_BASE64)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    use super::*;

    const SECRET: &str = "pä\"ss w/ö+r&d\\?<>";

    fn credentials() -> Credentials {
        Credentials {
            id: "id".to_owned(),
            secret: SECRET.into(),
        }
    }

    #[test]
    fn a_secret_is_hidden_in_every_encoding() {
        let percent = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let json = serde_json::to_string(SECRET).expect("a string");
        let mut ascii = String::new();
        for unit in SECRET.encode_utf16() {
            let _ = write!(ascii, "\\u{unit:04x}");
        }
        let html = SECRET
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&#62;")
            .replace('"', "&#x22;");
        let pair = format!("id:{SECRET}");
        for form in [
            SECRET.to_owned(),
            percent.to_lowercase(),
            percent.replace("%20", "+"),
            percent.clone(),
            json.trim_matches('"').to_owned(),
            ascii,
            html,
            STANDARD.encode(SECRET),
            URL_SAFE.encode(SECRET),
            STANDARD.encode(pair),
            utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string(),
        ] {
            let text = without(&format!("wrong: {form}, really"), &credentials(), None);
            assert!(text.contains("[hidden"), "{form}: {text}");
            assert!(!text.contains(&form), "{form}: {text}");
        }
        let token = "abc.def.ghi-token";
        let text = without(&format!("Bearer {token}"), &credentials(), Some(token));
        assert_eq!(text, "Bearer [hidden]");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "100% of \\u0041 & &amp; &nosuch; \\",
            "an id 5d0c6c8e6a1f4c399a532f3a8f0e4b17",
            "",
        ] {
            assert_eq!(
                without(text, &credentials(), Some("t")),
                text.replace('t', HIDDEN)
            );
        }
    }
}
