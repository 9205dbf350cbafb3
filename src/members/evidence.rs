//! Whether a listing of the organization is complete. A listing proves that the members on it exist; that others do not
//! exist, it proves only if its own evidence agrees.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::sigma::{Page, may_be_cut};

/// What the pages of a listing show about its completeness.
#[derive(Debug)]
pub(crate) struct ListingEvidence {
    /// The id of the credentials' own user, who is a member of the organization.
    own_id: Option<Box<str>>,
    has_own: bool,
    hasher: RandomState,
    /// A hash of each id that was shown: 8 bytes a member.
    ids: Vec<u64>,
    unreadable: usize,
    totals: Totals,
    /// What the last page says.
    has_more: Option<bool>,
    last_entries: usize,
}

/// The totals that the pages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Totals {
    /// None yet.
    Missing,
    /// Each page names the number of its own entries, which says nothing about the whole.
    OfPages(u64),
    /// All pages name this number.
    Same(u64),
    /// They differ.
    Changing,
}

impl ListingEvidence {
    /// Returns the evidence before the first page.
    pub(crate) fn new(own_id: Option<&str>) -> Self {
        Self {
            own_id: own_id.map(Into::into),
            has_own: false,
            hasher: RandomState::new(),
            ids: Vec::new(),
            unreadable: 0,
            totals: Totals::Missing,
            has_more: None,
            last_entries: 0,
        }
    }

    /// Adds a page, of whose entries `id` returns the ids.
    pub(crate) fn add<E>(&mut self, page: &Page<E>, id: impl Fn(&E) -> &str) {
        let entries = page.entries.len() + page.unreadable;
        self.totals = self.totals_with(page.total, entries as u64);
        for id in page.entries.iter().map(id) {
            self.has_own |= self.own_id.as_deref() == Some(id);
            self.ids.push(self.hasher.hash_one(id));
        }
        self.unreadable += page.unreadable;
        self.has_more = page.has_more;
        self.last_entries = entries;
    }

    fn totals_with(&self, total: Option<u64>, entries: u64) -> Totals {
        let is_of_page = total == Some(entries);
        match (self.totals, total) {
            (before, None) => before,
            (Totals::Missing, Some(total)) if is_of_page => Totals::OfPages(total),
            (Totals::Missing, Some(total)) => Totals::Same(total),
            (Totals::OfPages(_), Some(total)) if is_of_page => Totals::OfPages(total),
            (Totals::OfPages(before) | Totals::Same(before), Some(total)) if before == total => {
                Totals::Same(total)
            }
            _ => Totals::Changing,
        }
    }

    /// Returns why the listing, now that its last page was added, is not proven complete; `None` if it is.
    pub(crate) fn doubt(mut self) -> Option<String> {
        let shown = self.ids.len();
        self.ids.sort_unstable();
        self.ids.dedup();
        let distinct = self.ids.len();
        if shown == 0 {
            return Some("it is empty".to_owned());
        }
        if self.unreadable > 0 {
            return Some(format!("{} of its entries can't be read", self.unreadable));
        }
        if self.has_more == Some(true) {
            return Some("it says that there are more members, but not how to get them".to_owned());
        }
        if distinct < shown {
            return Some("it shows a member twice, because its pages shifted".to_owned());
        }
        match self.totals {
            Totals::Changing => return Some("its total changed while it was read".to_owned()),
            Totals::Same(total) if total > distinct as u64 => {
                return Some(format!("it shows {distinct} of {total} members"));
            }
            _ => {}
        }
        if self.own_id.is_some() && !self.has_own {
            return Some("the user of the credentials is not on it".to_owned());
        }
        let is_counted = matches!(self.totals, Totals::Same(_) | Totals::OfPages(_));
        may_be_cut(self.last_entries, is_counted || self.has_more.is_some())
            .then(|| "its last page is full".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, Values};
    use crate::sigma::MemberPage;

    /// A page of members with these numbers.
    fn page(
        members: impl IntoIterator<Item = u32>,
        total: Option<u64>,
        has_more: Option<bool>,
    ) -> MemberPage {
        let member = |number: u32| Member {
            id: format!("m{number}").into(),
            values: Values::default(),
        };
        MemberPage {
            entries: members.into_iter().map(member).collect(),
            next: None,
            has_more,
            total,
            unreadable: 0,
        }
    }

    #[test]
    fn a_listing_is_complete_only_if_its_evidence_agrees() {
        let no = Some(false);
        let unreadable = MemberPage {
            unreadable: 1,
            ..page(1..=3, Some(4), no)
        };
        for (pages, expected) in [
            (vec![page(1..=3, Some(3), no)], None),
            (vec![page(1..=3, None, None)], None),
            (
                vec![
                    page(1..=100, Some(120), Some(true)),
                    page(101..=120, Some(120), no),
                ],
                None,
            ),
            (
                vec![page(1..=100, None, None), page(101..=120, None, None)],
                None,
            ),
            // A total that counts each page says nothing.
            (
                vec![
                    page(1..=100, Some(100), None),
                    page(101..=120, Some(20), None),
                ],
                None,
            ),
            (vec![page([], Some(0), no)], Some("it is empty")),
            (
                vec![page(1..=3, Some(7), no)],
                Some("it shows 3 of 7 members"),
            ),
            (
                vec![page(1..=3, None, Some(true))],
                Some("it says that there are more"),
            ),
            (
                vec![page(1..=50, None, None)],
                Some("its last page is full"),
            ),
            (
                vec![page(1..=1000, None, None)],
                Some("its last page is full"),
            ),
            (vec![page(1..=50, None, no)], None),
            (
                vec![page(2..=3, Some(2), no)],
                Some("the user of the credentials"),
            ),
            (
                vec![page(1..=50, Some(99), None), page(50..=98, Some(99), no)],
                Some("it shows a member twice"),
            ),
            (
                vec![page(1..=50, Some(100), None), page(52..=100, Some(99), no)],
                Some("its total changed"),
            ),
            (vec![unreadable], Some("1 of its entries")),
        ] {
            let mut evidence = ListingEvidence::new(Some("m1"));
            for page in &pages {
                evidence.add(page, |member| &member.id);
            }
            let doubt = evidence.doubt();
            let fits = match (&doubt, expected) {
                (Some(doubt), Some(expected)) => doubt.starts_with(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{doubt:?}, not {expected:?}");
        }
        // Nobody knows the own user.
        let mut evidence = ListingEvidence::new(None);
        evidence.add(&page(2..=3, Some(2), no), |member| &member.id);
        assert_eq!(evidence.doubt(), None);
    }
}
