//! Who the rows mean: the organization is listed once, or each email is asked for, whichever needs fewer requests.
//!
//! Rows name members as they stand when the run starts. A listing is done before the first change; single look-ups
//! happen in the workers, and so the emails that the run itself gives or takes away are looked up beforehand.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use crate::change::{Field, Member, fold};
use crate::directory::{Directory, Found, Key};
use crate::gateway::{Cause, Failure, Gateway, Reply};
use crate::input::{NameId, Preflight, Row};
use crate::sigma::{AttemptError, Filter, Page, Request, Version};

/// How members are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LookupMode {
    /// Whichever needs fewer requests.
    Auto,
    /// The organization is listed once.
    Directory,
    /// One email at a time.
    Each,
}

/// Members a page, the largest first; what the API refuses is followed by the next, and at last by its own choice.
const PAGE_SIZES: [Option<u32>; 5] = [Some(1000), Some(500), Some(100), Some(50), None];
/// Without a total, nothing is concluded before so many pages.
const PAGES_TO_JUDGE: u64 = 3;
/// Without a total, single look-ups are not begun if they are so many times what the listing has cost so far: the
/// file may name thousands whom nobody knows, and the listing may be about to end.
const STAKE: u64 = 50;

/// Members can't be looked up, so that the run can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The listing failed.
    #[error("the organization's members can't be listed: {0}")]
    List(Cause),
    /// The listing goes round.
    #[error(
        "the organization's members can't be listed: the API gave the same page cursor twice; try --lookup each"
    )]
    RepeatedCursor,
    /// A page can't be read.
    #[error("the organization's members can't be listed: page {page} can't be read: {what}")]
    Page {
        /// Which one, from 1.
        page: u64,
        /// What is wrong.
        what: String,
    },
    /// A look-up before the run failed.
    #[error("a member can't be looked up: {0}")]
    Each(Cause),
}

/// Who the rows mean.
#[derive(Debug)]
pub struct Lookup {
    gateway: Arc<Gateway>,
    preflight: Arc<Preflight>,
    directory: Mutex<Directory>,
    /// Whether the organization was listed.
    listed: AtomicBool,
    /// Whether the listing had entries that can't be read.
    incomplete: AtomicBool,
    /// Held by whoever lists the organization when the run is under way already.
    late_listing: tokio::sync::Mutex<()>,
    /// Names that were looked up one by one and are to be remembered, those of nobody included.
    settled: Mutex<HashSet<NameId>>,
    /// Members renamed by earlier pieces of this run: the email that each had when the run started.
    started_as: HashMap<Box<str>, Box<str>>,
    old_listing: AtomicBool,
    /// Which of [`PAGE_SIZES`] the API takes.
    page_size: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookup {
    /// Nobody is looked up yet. `fields` are those that the rows may change; `started_as` the emails of members
    /// that earlier pieces of the run renamed.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        preflight: Arc<Preflight>,
        key: Key,
        fields: &[Field],
        started_as: HashMap<Box<str>, Box<str>>,
    ) -> Self {
        Self {
            gateway,
            preflight,
            directory: Mutex::new(Directory::new(key, fields)),
            listed: AtomicBool::new(false),
            incomplete: AtomicBool::new(false),
            late_listing: tokio::sync::Mutex::default(),
            settled: Mutex::default(),
            started_as,
            old_listing: AtomicBool::new(false),
            page_size: AtomicUsize::new(0),
        }
    }

    /// Does what must be done before the first change: lists the organization, or looks up the names that the
    /// run itself would change; all of them if `everybody`, because something is to be counted first.
    ///
    /// # Errors
    /// If the API does not let it.
    pub async fn prepare(
        &self,
        mode: LookupMode,
        everybody: bool,
        concurrency: usize,
    ) -> Result<(), LookupError> {
        let lookups = self.preflight.lookups;
        // One look-up is never dearer than one page.
        let list = match mode {
            LookupMode::Directory => lookups > 0,
            LookupMode::Each => false,
            LookupMode::Auto => lookups > 1,
        };
        if list && self.list(mode == LookupMode::Auto).await? {
            self.listed.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let names: Vec<NameId> = if everybody {
            self.preflight.members().collect()
        } else {
            self.preflight.contested.clone()
        };
        let spellings = self.preflight.spellings();
        stream::iter(names.into_iter().filter(|name| !self.is_known(*name)))
            .map(|name| self.look_up_beforehand(name, spellings.get(&name).map(Vec::as_slice)))
            .buffer_unordered(concurrency)
            .try_collect::<()>()
            .await
            .map_err(|failure| LookupError::Each(failure.cause))
    }

    /// Looks a name up that rows may spell in several ways, each of which may be another member's.
    async fn look_up_beforehand(
        &self,
        name: NameId,
        spellings: Option<&[&str]>,
    ) -> Result<(), Failure> {
        let folded = [self.preflight.names.text(name)];
        // How a row spells it is not kept: so all are asked for whom it may mean.
        let everybody = spellings.is_none() && self.preflight.is_spelled_otherwise(name);
        let mut members = Vec::new();
        for spelling in spellings.unwrap_or(&folded) {
            match self.ask(spelling, everybody).await? {
                Some(found) => members.extend(found),
                None => return self.list_late().await,
            }
        }
        self.remember(name, &members);
        Ok(())
    }

    /// Whether the organization was listed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Whether nobody is missing for not being in the directory.
    fn has_everybody(&self) -> bool {
        self.is_listed() && !self.incomplete.load(Ordering::Relaxed)
    }

    /// Whom a row means.
    ///
    /// # Errors
    /// If the API does not tell.
    pub async fn member(&self, key: NameId, row: &Row) -> Result<Found, Failure> {
        if self.has_everybody() {
            return Ok(lock(&self.directory).find(key, &row.email));
        }
        // A request of its own: on the heap, so that a row of a listed member does not carry it along.
        Box::pin(self.named(key, &row.email)).await
    }

    /// Whom an email means.
    ///
    /// # Errors
    /// If the API does not tell.
    pub async fn email(&self, email: &str) -> Result<Found, Failure> {
        match self.preflight.names.find(&fold(email)) {
            Some(name) => Box::pin(self.named(name, email)).await,
            None => Ok(Found::Nobody),
        }
    }

    /// Whom a row means, if that is known without asking.
    #[must_use]
    pub fn known(&self, row: &Row) -> Option<Found> {
        self.known_name(self.preflight.names.find(&row.key())?, &row.email)
    }

    /// Whom an email means, if that is known without asking.
    #[must_use]
    pub fn known_email(&self, email: &str) -> Option<Found> {
        self.known_name(self.preflight.names.find(&fold(email))?, email)
    }

    fn known_name(&self, name: NameId, spelled: &str) -> Option<Found> {
        (self.has_everybody() || self.is_known(name))
            .then(|| lock(&self.directory).find(name, spelled))
    }

    /// Keeps what a member holds now, if further rows name it.
    pub fn learn(&self, key: NameId, member: Member) {
        if self.preflight.relations.repeated.contains(&key) {
            lock(&self.directory).learn(member);
        }
    }

    async fn named(&self, name: NameId, spelled: &str) -> Result<Found, Failure> {
        let key = self.preflight.names.text(name);
        if self.has_everybody() || self.is_known(name) {
            return Ok(lock(&self.directory).find(name, spelled));
        }
        let asked = if lock(&self.directory).key() == Key::Id {
            key
        } else {
            spelled
        };
        let Some(members) = self.ask(asked, false).await? else {
            self.list_late().await?;
            return Ok(lock(&self.directory).find(name, spelled));
        };
        if self.preflight.relations.repeated.contains(&name) {
            self.remember(name, &members);
            return Ok(lock(&self.directory).find(name, spelled));
        }
        // A directory for this one row applies the same rules and is forgotten.
        let mut own = Directory::new(lock(&self.directory).key(), &Field::ALL);
        for member in &members {
            own.insert(&self.preflight.names, self.first_email(member), member);
        }
        Ok(own.find(name, spelled))
    }

    fn is_known(&self, name: NameId) -> bool {
        lock(&self.directory).knows(name) || lock(&self.settled).contains(&name)
    }

    fn remember(&self, name: NameId, members: &[Member]) {
        let mut directory = lock(&self.directory);
        for member in members {
            directory.insert(&self.preflight.names, self.first_email(member), member);
        }
        lock(&self.settled).insert(name);
    }

    fn first_email<'m>(&'m self, member: &'m Member) -> &'m str {
        match self.started_as.get(&member.id) {
            Some(email) => email,
            None => member.email(),
        }
    }

    /// Asks the API for the members who could be meant by an email, or for one by id; nothing if only a listing tells.
    /// Those who differ from it in case alone are asked for if there is nobody else, or if `everybody` is meant.
    async fn ask(&self, key: &str, everybody: bool) -> Result<Option<Vec<Member>>, Failure> {
        if lock(&self.directory).key() == Key::Id {
            return match self.by_id(key).await {
                Ok(member) => Ok(Some(vec![member])),
                Err(failure) if failure.cause.status() == Some(404) => Ok(Some(Vec::new())),
                Err(failure) => Err(failure),
            };
        }
        let folded = fold(key);
        let fits = |members: Vec<Member>| -> Vec<Member> {
            members
                .into_iter()
                .filter(|member| fold(self.first_email(member)) == folded)
                .collect()
        };
        // A member that an earlier piece of this run renamed is not found by its first email any more.
        let renamed = self
            .started_as
            .iter()
            .filter(|(_, email)| fold(email) == folded);
        let mut found = Vec::new();
        for (id, _) in renamed {
            found.push(self.by_id(id).await?);
        }
        if !found.is_empty() {
            return Ok(Some(found));
        }
        // The API's filter is exact, as far as is known. Whoever is not found by it may be spelled otherwise, and
        // more than one may fit: a search tells.
        found = fits(self.all_of(Filter::Email(key)).await?);
        let mut has_search = true;
        if found.is_empty() || everybody {
            match self.all_of(Filter::Search(&folded)).await {
                Ok(members) => found.extend(fits(members)),
                // The search is deprecated: where there is none, a listing is left.
                Err(failure)
                    if matches!(
                        failure.cause.status(),
                        Some(400 | 404 | 405 | 410 | 422 | 501)
                    ) =>
                {
                    has_search = false;
                }
                Err(failure) => return Err(failure),
            }
        }
        if found.is_empty() && folded != key {
            found = fits(self.all_of(Filter::Email(&folded)).await?);
        }
        let is_known = has_search || !(found.is_empty() || everybody);
        Ok(Some(found).filter(|_| is_known))
    }

    /// Lists the organization after all, once: somebody may be spelled otherwise, and nothing else tells.
    async fn list_late(&self) -> Result<(), Failure> {
        let _listing = self.late_listing.lock().await;
        if self.is_listed() {
            return Ok(());
        }
        tracing::info!(
            "the API has no search: the organization is listed to find who is spelled otherwise"
        );
        self.list(false).await.map_err(|error| Failure {
            cause: match error {
                LookupError::List(cause) | LookupError::Each(cause) => cause,
                error => Cause::Attempt(AttemptError::Unreadable {
                    status: 200,
                    what: error.to_string(),
                }),
            },
            attempts: 1,
            may_be_applied: false,
        })?;
        self.listed.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn by_id(&self, id: &str) -> Result<Member, Failure> {
        let reply = self.gateway.call(Request::Member { id }).await?;
        match reply.answer.member() {
            Ok(member) if *member.id == *id => Ok(member),
            Ok(_) => Err(unreadable(&reply, "it is another member".to_owned())),
            Err(error) => Err(unreadable(&reply, error.to_string())),
        }
    }

    /// Everybody whom a filter shows: mostly one page of one, but a search for a short email may find thousands.
    async fn all_of(&self, filter: Filter<'_>) -> Result<Vec<Member>, Failure> {
        let mut members = Vec::new();
        let mut cursors = Cursors::default();
        loop {
            let reply = self.page(filter, cursors.at()).await?;
            let page = Page::parse(&reply.answer.body)
                .map_err(|error| unreadable(&reply, error.to_string()))?;
            members.extend(page.members);
            let Some(next) = page.next else {
                return Ok(members);
            };
            if !cursors.go_on(next) {
                let what = "the API gave the same page cursor twice".to_owned();
                return Err(unreadable(&reply, what));
            }
        }
    }

    /// One page of a listing. A version or a size that the API does not have is followed by the next, from then on.
    async fn page(&self, filter: Filter<'_>, cursor: Option<&str>) -> Result<Reply, Failure> {
        loop {
            let (version, size) = (self.version(), self.page_size.load(Ordering::Relaxed));
            let limit = match filter {
                Filter::Email(_) => None,
                Filter::All | Filter::Search(_) => PAGE_SIZES.get(size).copied().flatten(),
            };
            let request = Request::List {
                version,
                filter,
                page: cursor,
                limit,
            };
            let failure = match self.gateway.call(request).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            match failure.cause.status() {
                // The others who ask at the same time find it changed already.
                _ if cursor.is_some() => return Err(failure),
                Some(404 | 405 | 410 | 501) if version == Version::V2_1 => {
                    self.old_listing.store(true, Ordering::Relaxed);
                }
                Some(400 | 413 | 422) if limit.is_some() => {
                    self.page_size.fetch_max(size + 1, Ordering::Relaxed);
                }
                _ => return Err(failure),
            }
        }
    }

    fn version(&self) -> Version {
        if self.old_listing.load(Ordering::Relaxed) {
            Version::V2
        } else {
            Version::V2_1
        }
    }

    /// Lists the organization. Answers `false` if `may_stop` and single look-ups need fewer requests than the
    /// rest of the listing; what the pages so far showed is kept.
    async fn list(&self, may_stop: bool) -> Result<bool, LookupError> {
        let mut cursors = Cursors::default();
        let mut progress = Progress {
            lookups: self.preflight.lookups as u64,
            ..Progress::default()
        };
        loop {
            let reply = self
                .page(Filter::All, cursors.at())
                .await
                .map_err(|failure| LookupError::List(failure.cause))?;
            progress.pages += 1;
            let page = Page::parse(&reply.answer.body).map_err(|error| LookupError::Page {
                page: progress.pages,
                what: error.to_string(),
            })?;
            progress.members += page.members.len() as u64;
            progress.total = page.total.or(progress.total);
            if page.unreadable > 0 {
                tracing::warn!(
                    page = progress.pages,
                    entries = page.unreadable,
                    "entries of the listing can't be read as members"
                );
                self.incomplete.store(true, Ordering::Relaxed);
            }
            {
                let mut directory = lock(&self.directory);
                let settled = lock(&self.settled);
                for member in &page.members {
                    // Who was looked up before the run changed anything is known better.
                    if !settled.is_empty()
                        && (self.preflight.names)
                            .find(&fold(self.first_email(member)))
                            .is_some_and(|name| settled.contains(&name))
                    {
                        continue;
                    }
                    if directory.insert(&self.preflight.names, self.first_email(member), member) {
                        progress.found += 1;
                    }
                }
            }
            tracing::debug!(
                pages = progress.pages,
                found = progress.found,
                "listing members"
            );
            let Some(next) = page.next else {
                return Ok(true);
            };
            if !cursors.go_on(next) {
                return Err(LookupError::RepeatedCursor);
            }
            if may_stop && progress.each_is_cheaper() {
                return Ok(false);
            }
        }
    }
}

/// Where a listing stands, and where it has been: one that goes round would never end.
#[derive(Debug, Default)]
struct Cursors {
    at: Option<String>,
    been: HashSet<String>,
}

impl Cursors {
    /// The cursor of the page that is next; none for the first.
    fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// Goes on to the page behind this cursor; answers `false` if it has been there.
    fn go_on(&mut self, next: String) -> bool {
        let is_new = self.been.insert(next.clone());
        self.at = Some(next);
        is_new
    }
}

fn unreadable(reply: &Reply, what: String) -> Failure {
    Failure {
        cause: Cause::Attempt(AttemptError::Unreadable {
            status: reply.answer.status,
            what,
        }),
        attempts: reply.attempts,
        may_be_applied: false,
    }
}

/// How far a listing has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Names to be found.
    lookups: u64,
    /// Names found, about: members that share a name count each.
    found: u64,
    pages: u64,
    members: u64,
    /// Members in all, if the API tells.
    total: Option<u64>,
}

impl Progress {
    /// Whether the names that are left need fewer single look-ups than the listing needs pages to its end.
    fn each_is_cheaper(&self) -> bool {
        let left = self.lookups.saturating_sub(self.found);
        match self.total {
            Some(total) => {
                let per_page = (self.members / self.pages.max(1)).max(1);
                left < total.saturating_sub(self.members).div_ceil(per_page)
            }
            // If the rest of the names stand as thinly as those found so far, there are `left * pages / found`
            // pages to come: more than `left` if less than one was found on each page.
            None => {
                self.pages >= PAGES_TO_JUDGE
                    && self.found < self.pages
                    && left <= self.pages.saturating_mul(STAKE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        let progress = |lookups, found, pages, total| Progress {
            lookups,
            found,
            pages,
            members: pages * 1000,
            total,
        };
        // 5 names, one page of a hundred read: 5 single look-ups against 99 pages.
        assert!(progress(5, 0, 1, Some(100_000)).each_is_cheaper());
        assert!(!progress(5_000, 50, 1, Some(100_000)).each_is_cheaper());
        // What is found already need not be asked for.
        assert!(progress(100, 99, 1, Some(3_000)).each_is_cheaper());
        assert!(!progress(100, 98, 1, Some(3_000)).each_is_cheaper());
        // Without a total: thin pages say that many are to come, unless the stake is too high.
        assert!(!progress(5, 0, 1, None).each_is_cheaper());
        assert!(progress(5, 0, 3, None).each_is_cheaper());
        assert!(!progress(5_000, 200, 3, None).each_is_cheaper());
        assert!(!progress(100_000, 0, 3, None).each_is_cheaper());
    }
}
