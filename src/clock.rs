//! Times of day: UTC in files, local time with its zone for people.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Returns the time, RFC 3339 in UTC, to the millisecond. Times in this form sort as text.
pub(crate) fn now() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

/// Returns a time of [`now`] for people: `2026-11-25 09:14 CET`. Other text is returned as it is.
pub(crate) fn local(time: &str) -> String {
    formatted(time, "%Y-%m-%d %H:%M %Z")
}

/// Returns the present time of day for people, to the second: `09:14:03`.
pub(crate) fn time_of_day() -> String {
    in_zone(Timestamp::now()).strftime("%H:%M:%S").to_string()
}

/// Reads a moment in the past: a date or a time in RFC 3339, or how long ago it was (`90d`, `12h`).
///
/// # Errors
/// If the text is neither; the message says how to write it.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("\"{text}\" is neither a date (2026-03-31) nor a time (90d, 12h)");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return zone.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| wrong());
    }
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let before = in_zone(Timestamp::now()).checked_sub(span.abs());
    before.map(|time| time.timestamp()).map_err(|_| wrong())
}

fn formatted(time: &str, format: &str) -> String {
    time.parse::<Timestamp>().map_or_else(
        |_| time.to_owned(),
        |time| in_zone(time).strftime(format).to_string(),
    )
}

/// Returns a moment in the zone of this machine, or in UTC if it has none.
fn in_zone(time: Timestamp) -> ZonedDateTime {
    time.to_zoned_datetime(TimeZone::try_system().unwrap_or(TimeZone::UTC))
}
