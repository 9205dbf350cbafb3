//! What all listings have in common: the cursors that lead from page to page, and how a listing that was cut looks.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::wire::Text;

/// The API's default page size, of which every other one that is used is a multiple.
const DEFAULT_PAGE: usize = 50;

/// Returns whether a listing whose last page has this many entries may have been cut there. A page that is full may have
/// been, unless the API says how many entries there are or that no more follow (`is_counted`).
pub(crate) const fn may_be_cut(last_entries: usize, is_counted: bool) -> bool {
    !is_counted && last_entries.is_multiple_of(DEFAULT_PAGE)
}

/// The position of the next page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// The query parameter that goes with the name under which the API returned it. `page` takes it in any case.
    pub parameter: &'static str,
    /// The opaque value.
    pub value: String,
}

impl Cursor {
    /// Returns the query parameter for the cursor that stands under `name` in a page, if that is a name of cursors. The
    /// API's is `nextPage`; the others were seen on some of its endpoints and on gateways.
    pub(super) fn parameter(name: &str) -> Option<&'static str> {
        Some(match plain_name(name).as_str() {
            "nextpage" | "next" => "page",
            "nextpagetoken" | "nexttoken" => "pageToken",
            "nextcursor" | "cursor" => "cursor",
            _ => return None,
        })
    }

    /// Reads a cursor, which may be a string, a number, or the address of the next page. On the last page it is absent, null
    /// or empty.
    pub(super) fn read(parameter: &'static str, value: &RawValue) -> Option<Self> {
        let Text(value) = serde_json::from_str::<Option<Text<'_>>>(value.get()).ok()??;
        let is_cursor = |(name, _): &(Cow<'_, str>, Cow<'_, str>)| {
            matches!(&*plain_name(name), "page" | "pagetoken" | "cursor")
        };
        let value = match reqwest::Url::parse(&value) {
            Ok(url) if url.has_host() => url.query_pairs().find(is_cursor)?.1.into_owned(),
            _ => value.into_owned(),
        };
        Some(Self { parameter, value }).filter(|cursor| !cursor.value.is_empty())
    }
}

/// Returns a name in lower case without underscores, so that it does not depend on how it is written.
pub(super) fn plain_name(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

/// The position of a listing, and its cursors so far: a listing whose cursors repeat would never end.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    current: Option<Cursor>,
    seen: HashSet<String>,
}

impl Cursors {
    /// Returns the cursor of the next page; `None` for the first.
    pub(crate) const fn current(&self) -> Option<&Cursor> {
        self.current.as_ref()
    }

    /// Advances to the page with this cursor. Returns `false` if the cursor was seen before.
    pub(crate) fn advance(&mut self, next: Cursor) -> bool {
        let is_new = self.seen.insert(next.value.clone());
        self.current = Some(next);
        is_new
    }
}
