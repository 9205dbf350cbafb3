//! Whether the organization is listed once, or each email is looked up by itself.
//!
//! ```text
//!  mode directory ─► List all pages
//!  mode each ──────► Each
//!  mode auto ──────► one email: Each
//!                    more: List ──► after each page: are the names that are left fewer than the pages that are
//!                                   left? ── no ─► List the next page
//!                                         └─ yes ► Each, for those that were not found yet
//! ```

/// How members are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LookupMode {
    /// Whichever way needs fewer requests.
    Auto,
    /// The organization is listed once.
    Directory,
    /// Each email is looked up by itself.
    Each,
}

/// Without a total, nothing is concluded before this many pages.
const PAGES_TO_JUDGE: u64 = 3;
/// Without a total, single look-ups must not number more than this many times the pages listed so far: the file may
/// name thousands of unknown emails while the listing is about to end.
const LOOKUP_BUDGET: u64 = 50;

impl LookupMode {
    /// Returns whether a listing is begun for this many names.
    pub(super) const fn lists(self, names: usize) -> bool {
        match self {
            Self::Directory => names > 0,
            // One look-up never costs more than one page.
            Self::Auto => names > 1,
            Self::Each => false,
        }
    }
}

/// How far a listing has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListingProgress {
    /// Names to find.
    pub(crate) names: u64,
    /// Names found. It is an estimate, because members that share a name count one by one.
    pub(crate) found: u64,
    /// Pages read.
    pub(crate) pages: u64,
    /// Members on these pages.
    pub(crate) members: u64,
    /// Members in the organization, if the API says so.
    pub(crate) total: Option<u64>,
}

impl ListingProgress {
    /// Returns whether the names that are left need fewer look-ups than the listing needs pages.
    pub(super) fn each_is_cheaper(&self) -> bool {
        let left = self.names.saturating_sub(self.found);
        match self.total {
            Some(total) => {
                let per_page = (self.members / self.pages.max(1)).max(1);
                left < total.saturating_sub(self.members).div_ceil(per_page)
            }
            // If the other names are spread as thinly as those found so far, `left * pages / found` pages are to
            // come. That is more than `left` if a page shows less than one name on average.
            None => {
                self.pages >= PAGES_TO_JUDGE
                    && self.found < self.pages
                    && left <= self.pages.saturating_mul(LOOKUP_BUDGET)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        let progress = |names, found, pages, total| ListingProgress {
            names,
            found,
            pages,
            members: pages * 1000,
            total,
        };
        // 5 names, and one page of a hundred read: 5 look-ups against 99 pages.
        assert!(progress(5, 0, 1, Some(100_000)).each_is_cheaper());
        assert!(!progress(5_000, 50, 1, Some(100_000)).each_is_cheaper());
        // Names that were found need no look-up.
        assert!(progress(100, 99, 1, Some(3_000)).each_is_cheaper());
        assert!(!progress(100, 98, 1, Some(3_000)).each_is_cheaper());
        // Without a total, sparse pages suggest a long listing, within the budget for look-ups.
        assert!(!progress(5, 0, 1, None).each_is_cheaper());
        assert!(progress(5, 0, 3, None).each_is_cheaper());
        assert!(!progress(5_000, 200, 3, None).each_is_cheaper());
        assert!(!progress(100_000, 0, 3, None).each_is_cheaper());
    }

    #[test]
    fn a_single_name_is_never_listed_by_auto() {
        let lists = |mode: LookupMode| [0, 1, 2].map(|names| mode.lists(names));
        assert_eq!(lists(LookupMode::Auto), [false, false, true]);
        assert_eq!(lists(LookupMode::Directory), [false, true, true]);
        assert_eq!(lists(LookupMode::Each), [false; 3]);
    }
}
