//! The pages of a listing, in the version and the size that the API accepts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::gateway::{Failure, Gateway};
use crate::sigma::{Cursor, ListingVersion, MemberFilter, Page, Request, UnreadableBody};

/// Members per page, the largest first. If the API refuses a size, the next one is tried, and at last the API's own.
const PAGE_SIZES: [Option<u32>; 5] = [Some(1000), Some(500), Some(100), Some(50), None];

/// What is known of the listings of an API.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// Whether the API has only the older listing.
    has_old_listing: AtomicBool,
    /// The index into [`PAGE_SIZES`] that the API accepts.
    page_size: AtomicUsize,
}

impl Pages {
    /// Requests one page of a listing. If the API does not have the version or the page size, the next one is used
    /// from then on.
    ///
    /// # Errors
    /// If the API refuses or can't be reached.
    pub(crate) async fn get<E>(
        &self,
        gateway: &Gateway,
        filter: MemberFilter<'_>,
        cursor: Option<&Cursor>,
        parse: impl Fn(&[u8]) -> Result<Page<E>, UnreadableBody>,
    ) -> Result<Page<E>, Failure> {
        loop {
            let (version, size) = (self.version(), self.page_size.load(Ordering::Relaxed));
            let limit = match filter {
                MemberFilter::Email(_) => None,
                MemberFilter::All | MemberFilter::Search(_) => {
                    PAGE_SIZES.get(size).copied().flatten()
                }
            };
            let request = Request::List {
                version,
                filter,
                page: cursor,
                limit,
            };
            let failure = match gateway.read(request, &parse).await {
                Ok(page) => return Ok(page),
                Err(failure) => failure,
            };
            match failure.cause.status() {
                _ if cursor.is_some() => return Err(failure),
                // Several workers may find this out at the same time.
                Some(404 | 405 | 410 | 501) if version == ListingVersion::V2_1 => {
                    self.has_old_listing.store(true, Ordering::Relaxed);
                }
                Some(400 | 413 | 422) if limit.is_some() => {
                    self.page_size.fetch_max(size + 1, Ordering::Relaxed);
                }
                _ => return Err(failure),
            }
        }
    }

    fn version(&self) -> ListingVersion {
        if self.has_old_listing.load(Ordering::Relaxed) {
            ListingVersion::V2
        } else {
            ListingVersion::V2_1
        }
    }
}
