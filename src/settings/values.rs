//! The types of settings that are written in a form of their own: how they are read, and how they are written as a flag.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use encoding_rs::Encoding;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

pub(crate) use crate::output::ColorMode;

/// The longest time span that makes sense.
const LONGEST_SPAN: Duration = Duration::from_secs(366 * 24 * 3600);

/// How many requests are sent per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// The tool starts gently and adapts to the API's rate limit.
    Auto,
    /// At most this many requests a second; 0 is no ceiling. The tool still adapts to the API's rate limit.
    Ceiling(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        text.trim()
            .parse()
            .ok()
            .filter(|rate: &f64| rate.is_finite() && (0.0..=1_000_000.0).contains(rate))
            .map(Self::Ceiling)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is not a rate: write auto, requests a second (20), or 0 for no ceiling"
                )
            })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Ceiling(rate) => write!(f, "{rate}"),
        }
    }
}

/// A share of the API's rate limit, more than 0 and at most 1. It is written `60%` or `0.6`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let share = match text.trim().strip_suffix('%') {
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(text),
        };
        share
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a share: write 60%"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A time span. It is written `30s`, `5m`, `1h 30m`, or as a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub Duration);

impl Span {
    /// Returns the span, or `most` if it is longer.
    pub(crate) fn at_most(self, most: Duration) -> Self {
        Self(self.0.min(most))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let seconds = || {
            text.parse()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        let friendly = || {
            let span: jiff::SignedDuration = text.parse().ok()?;
            Duration::try_from(span).ok()
        };
        seconds()
            .or_else(friendly)
            .filter(|span| !span.is_zero() && *span <= LONGEST_SPAN)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a time span: write 30s, 5m or 1h 30m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// The delimiter of a CSV: one ASCII character, or the word `tab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delimiter(pub u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(Self(b'\t')),
            [byte]
                if byte.is_ascii()
                    && !byte.is_ascii_alphanumeric()
                    && !matches!(byte, b'"' | b'\r' | b'\n') =>
            {
                Ok(Self(*byte))
            }
            _ => Err(format!(
                "\"{text}\" is not a delimiter: write one character such as ; or the word tab"
            )),
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\t' => f.write_str("tab"),
            byte => write!(f, "{}", char::from(byte)),
        }
    }
}

/// An encoding, named by one of the labels of the WHATWG Encoding Standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncodingName(pub(crate) &'static Encoding);

impl FromStr for EncodingName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Encoding::for_label_no_replacement(text.trim().as_bytes())
            .map(Self)
            .ok_or_else(|| {
                format!("\"{text}\" is not an encoding: write windows-1252, macintosh, shift_jis or another label")
            })
    }
}

impl fmt::Display for EncodingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name().to_ascii_lowercase())
    }
}

impl<'de> Deserialize<'de> for EncodingName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON lines.
    Json,
}

/// When a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NotifyOn {
    /// At every end.
    Always,
    /// If the run ended otherwise than the last one.
    Change,
    /// If something is wrong.
    Failure,
}

/// Reads a boolean as people write it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "enable" | "enabled" | "yes" | "on" | "1" => Ok(true),
        "false" | "disable" | "disabled" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap calls it")]
pub(super) fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

/// Deserializes a value that the configuration file holds as a string or as a number.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct TextVisitor;
    impl Visitor<'_> for TextVisitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    let text = deserializer.deserialize_any(TextVisitor)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

/// A value that can be written as a flag of a suggested command.
pub(super) trait FlagValue {
    /// Appends the words that give `flag` this value.
    fn append(&self, flag: &str, words: &mut Vec<String>);
}

impl FlagValue for bool {
    fn append(&self, flag: &str, words: &mut Vec<String>) {
        words.push(if *self {
            flag.to_owned()
        } else {
            format!("{flag}=false")
        });
    }
}

impl<T: fmt::Display> FlagValue for Vec<T> {
    fn append(&self, flag: &str, words: &mut Vec<String>) {
        for value in self {
            words.extend([flag.to_owned(), value.to_string()]);
        }
    }
}

/// A secret is never written.
impl FlagValue for SecretString {
    fn append(&self, _: &str, _: &mut Vec<String>) {}
}

impl FlagValue for PathBuf {
    fn append(&self, flag: &str, words: &mut Vec<String>) {
        words.extend([flag.to_owned(), self.display().to_string()]);
    }
}

macro_rules! shown_as_flag {
    ($($type:ty),*) => {
        $(impl FlagValue for $type {
            fn append(&self, flag: &str, words: &mut Vec<String>) {
                words.extend([flag.to_owned(), self.to_string()]);
            }
        })*
    };
}
shown_as_flag!(
    String,
    u32,
    usize,
    Rate,
    Share,
    Span,
    Delimiter,
    EncodingName,
    crate::pipeline::limits::Threshold
);

macro_rules! named_as_flag {
    ($($type:ty),*) => {
        $(impl FlagValue for $type {
            fn append(&self, flag: &str, words: &mut Vec<String>) {
                let name = self.to_possible_value();
                let name = name.map_or_else(String::new, |value| value.get_name().to_owned());
                words.extend([flag.to_owned(), name]);
            }
        })*
    };
}
named_as_flag!(
    LogFormat,
    NotifyOn,
    ColorMode,
    crate::members::LookupMode,
    crate::sigma::hosts::Environment
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::limits::Threshold;

    #[test]
    fn spans_and_delimiters_are_read_as_people_write_them() {
        let span = |text: &str| text.parse::<Span>().ok().map(|span| span.0.as_secs_f64());
        for (text, seconds) in [
            ("30s", Some(30.0)),
            ("1h 30m", Some(5400.0)),
            ("90", Some(90.0)),
            ("0.5", Some(0.5)),
            ("250ms", Some(0.25)),
            ("0s", None),
            ("-3s", None),
            ("x", None),
        ] {
            assert_eq!(span(text), seconds, "{text}");
        }
        let delimiter = |text: &str| text.parse::<Delimiter>().ok().map(|d| d.0);
        for (text, byte) in [
            (";", Some(b';')),
            ("tab", Some(b'\t')),
            ("\\t", Some(b'\t')),
            ("|", Some(b'|')),
            ("ab", None),
            ("\"", None),
            ("", None),
        ] {
            assert_eq!(delimiter(text), byte, "{text}");
        }
    }

    /// A suggested command must mean what the flags meant.
    #[test]
    fn values_are_written_as_they_are_read() {
        fn survives<T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug>(text: &str) {
            let value: T = text.parse().expect("right");
            assert_eq!(value.to_string().parse(), Ok(value), "{text}");
        }
        for text in ["auto", "20", "0", "0.5"] {
            survives::<Rate>(text);
        }
        for text in ["60%", "0.6", "100%"] {
            survives::<Share>(text);
        }
        for text in ["30s", "1h 30m", "250ms"] {
            survives::<Span>(text);
        }
        for text in [";", "tab", "|"] {
            survives::<Delimiter>(text);
        }
        for text in ["20", "5%", "0.5%"] {
            survives::<Threshold>(text);
        }
    }
}
