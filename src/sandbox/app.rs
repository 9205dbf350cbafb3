//! The state that all requests share. Each lock is held for one step only, and never over an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::header::HeaderValue;

use super::access::Access;
use super::faults::Injector;
use super::organization::Organization;
use super::stats::Tally;
use super::{Config, Faults, ListingQuirks, OWN_MEMBER_ID, Stats};

/// The state that the routes share. Each lock is held for one step only and never across an await.
pub(super) struct App {
    pub(super) config: Config,
    own_member_id: String,
    organization: Mutex<Organization>,
    traffic: Mutex<Traffic>,
    listing: Mutex<ListingQuirks>,
    identity: Mutex<Identity>,
}

/// What the API says about who the credentials belong to.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) organization_id: Arc<str>,
    /// The status with which whoami is answered, if it does not say it.
    pub(super) whoami_status: Option<u16>,
}

/// The state that every request uses.
pub(super) struct Traffic {
    pub(super) injector: Injector,
    pub(super) tally: Tally,
    pub(super) access: Access,
}

impl App {
    pub(super) fn new(config: Config, organization: Organization) -> Self {
        let own = (organization.by_email(&config.own_email))
            .and_then(|position| organization.get(position));
        Self {
            own_member_id: own
                .map_or(OWN_MEMBER_ID, |own| &own.member.member_id)
                .to_owned(),
            traffic: Mutex::new(Traffic {
                injector: Injector::new(config.faults.clone()),
                tally: Tally::new(Instant::now(), config.record_patches),
                access: Access::new(&config),
            }),
            organization: Mutex::new(organization),
            listing: Mutex::new(config.listing.clone()),
            identity: Mutex::new(Identity {
                organization_id: config.organization_id.as_str().into(),
                whoami_status: config.whoami_status,
            }),
            config,
        }
    }

    pub(super) fn organization(&self) -> MutexGuard<'_, Organization> {
        lock(&self.organization)
    }

    pub(super) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }

    pub(super) fn listing(&self) -> MutexGuard<'_, ListingQuirks> {
        lock(&self.listing)
    }

    pub(super) fn set_listing(&self, quirks: ListingQuirks) {
        *self.listing() = quirks;
    }

    pub(super) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *lock(&self.identity) = identity;
    }

    pub(super) fn own_member_id(&self) -> &str {
        &self.own_member_id
    }

    pub(super) fn stats(&self) -> Stats {
        self.traffic().tally.stats.clone()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.traffic().injector = Injector::new(faults);
    }

    pub(super) fn revoke_tokens(&self) {
        self.traffic().access.revoke();
    }

    pub(super) fn count_connection(&self) {
        self.traffic().tally.stats.connections += 1;
    }

    /// Returns whether the credentials' owner is active. Archiving the owner revokes the credentials.
    pub(super) fn owner_is_active(&self) -> bool {
        let organization = self.organization();
        (organization.by_id(&self.own_member_id))
            .and_then(|position| organization.get(position))
            .is_none_or(|own| !own.member.is_archived && !own.member.is_inactive)
    }

    /// Returns whether this Authorization header holds a token that is accepted.
    pub(super) fn admits(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(header) = authorization.and_then(|value| value.to_str().ok()) else {
            return false;
        };
        self.traffic().access.admits(header, Instant::now()) && self.owner_is_active()
    }
}

/// Locks the mutex even if it is poisoned. A test that panics while it holds the lock should fail by
/// itself and not make every other request panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
