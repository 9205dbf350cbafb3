//! Finds the members that rows name: lists the organization, or looks up emails one by one (see
//! [`super::strategy`]).
//!
//! Rows name members as they are when the run starts. A listing is done before the first change. Single look-ups
//! happen in the workers, so that the emails that the run itself gives or takes away are looked up beforehand.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use super::evidence::ListingEvidence;
use super::pages::Pages;
use super::strategy::{ListingProgress, LookupMode};
use super::{Directory, KeyKind};
use crate::decide::Owner;
use crate::gateway::{Failure, FailureCause, Gateway};
use crate::input::preflight::owner_key;
use crate::input::{KeyId, Preflight, Row, RowRequest};
use crate::model::{Field, Found, Member, fold, is_plain_id};
use crate::sigma::{
    AttemptError, Cursor, Cursors, MemberFilter, MemberPage, Request, parse_member,
};

/// A listing that is not proven complete is believed once so many members whom it does not show were looked up, and none of
/// them was found.
const ABSENT_TO_BELIEVE: u64 = 1000;

/// Members can't be looked up, so that the run can't begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("listing the organization's members failed at page {page}: {cause}")]
    List {
        /// The page, from 1.
        page: u64,
        /// The reason.
        #[source]
        cause: FailureCause,
    },
    #[error(
        "listing the organization's members failed: the API returned the same page cursor twice; try --lookup each"
    )]
    RepeatedCursor,
    #[error("looking up a member failed: {0}")]
    Each(#[source] FailureCause),
}

/// How far the look-up before the first change is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LookupProgress {
    /// The organization is listed.
    Listing(ListingProgress),
    /// Names are looked up one by one.
    Each {
        /// Those that were looked up.
        done: usize,
        /// All of them.
        of: usize,
    },
}

/// Is told how far the look-up is.
struct Observer(Box<dyn Fn(LookupProgress) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// Finds the members that rows name.
#[derive(Debug)]
pub(crate) struct Lookup {
    observer: Option<Observer>,
    gateway: Arc<Gateway>,
    preflight: Arc<Preflight>,
    directory: Mutex<Directory>,
    /// Whether the organization was listed.
    is_listed: AtomicBool,
    /// Whether the listing is not proven complete, so that members may be missing from it.
    is_incomplete: AtomicBool,
    /// Emails that such a listing does not show and that a look-up did not find either.
    absent: AtomicU64,
    /// Whether a look-up found a member whom the listing misses.
    misses_members: AtomicBool,
    /// The id of the user to whom the credentials belong.
    own_id: Option<String>,
    /// Held while the organization is listed after the run has started.
    late_listing: tokio::sync::Mutex<()>,
    /// Keys that were looked up one by one and are remembered, including those that no member has.
    settled: Mutex<HashSet<KeyId>>,
    /// The emails that members had when the run started, for those that earlier sessions renamed; by id.
    first_emails: HashMap<Box<str>, Box<str>>,
    pages: Pages,
    /// Whether the API has refused a search.
    has_no_search: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookup {
    /// Returns a look-up that knows nobody yet. `fields` are those that the rows may change; `first_emails` are the
    /// emails that members had before earlier sessions of the run renamed them, by id; `own_id` is the id of the user to
    /// whom the credentials belong.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        preflight: Arc<Preflight>,
        kind: KeyKind,
        fields: &[Field],
        first_emails: HashMap<Box<str>, Box<str>>,
        own_id: Option<String>,
    ) -> Self {
        Self {
            observer: None,
            gateway,
            preflight,
            directory: Mutex::new(Directory::new(kind, fields)),
            is_listed: AtomicBool::new(false),
            is_incomplete: AtomicBool::new(false),
            absent: AtomicU64::new(0),
            misses_members: AtomicBool::new(false),
            own_id,
            late_listing: tokio::sync::Mutex::default(),
            settled: Mutex::default(),
            first_emails,
            pages: Pages::default(),
            has_no_search: AtomicBool::new(false),
        }
    }

    /// Returns the look-up with an observer that is told how far it is.
    pub(crate) fn observed(
        mut self,
        observer: impl Fn(LookupProgress) + Send + Sync + 'static,
    ) -> Self {
        self.observer = Some(Observer(Box::new(observer)));
        self
    }

    /// Does what must be done before the first change: lists the organization, or looks up the emails that the run
    /// itself will change. With `everybody`, it looks up every name in the file, so that all rows can be decided.
    ///
    /// # Errors
    /// If the API refuses or can't be reached.
    pub(crate) async fn prepare(
        &self,
        mode: LookupMode,
        everybody: bool,
        concurrency: usize,
    ) -> Result<(), LookupError> {
        // Each member of a plan is read by id right before its update.
        if lock(&self.directory).kind() == KeyKind::Id && !everybody {
            return Ok(());
        }
        if mode.lists(self.preflight.lookups) && self.list(mode == LookupMode::Auto).await? {
            self.is_listed.store(true, Ordering::Relaxed);
            if self.has_everybody() {
                return Ok(());
            }
        }
        let keys: Vec<KeyId> = if everybody {
            self.preflight.looked_up().collect()
        } else {
            self.preflight.contested.clone()
        };
        let spellings = self.preflight.spellings();
        let is_listed = self.is_listed.load(Ordering::Relaxed);
        // Whether a new email is free, a listing shows well enough: the API refuses it otherwise.
        let is_settled =
            |key: KeyId| self.is_known(key) || (is_listed && self.preflight.is_new_email_only(key));
        let keys: Vec<KeyId> = keys.into_iter().filter(|key| !is_settled(*key)).collect();
        let of = keys.len();
        stream::iter(keys)
            .map(|key| self.look_up_beforehand(key, spellings.get(&key).map(Vec::as_slice)))
            .buffer_unordered(concurrency)
            .try_fold(0, async |done, ()| {
                let done = done + 1;
                self.observe(LookupProgress::Each { done, of });
                Ok(done)
            })
            .await
            .map_err(|failure| LookupError::Each(failure.cause))?;
        Ok(())
    }

    fn observe(&self, progress: LookupProgress) {
        if let Some(observer) = &self.observer {
            observer.0(progress);
        }
    }

    /// Looks up an email that rows may spell in several ways, each of which may be another member's.
    async fn look_up_beforehand(
        &self,
        key: KeyId,
        spellings: Option<&[&str]>,
    ) -> Result<(), Failure> {
        if self.has_everybody() {
            return Ok(());
        }
        let folded = [self.preflight.keys.text(key)];
        if self.preflight.is_new_email_only(key) {
            let members = self.holders(folded[0]).await?;
            self.remember(key, &members);
            return Ok(());
        }
        // The spelling of a single row is not kept, so that every member in any case is fetched.
        let everybody = spellings.is_none() && self.preflight.is_spelled_otherwise(key);
        let mut members = Vec::new();
        for spelling in spellings.unwrap_or(&folded) {
            match self.fetch(spelling, everybody).await? {
                Some(found) => members.extend(found),
                None => return self.list_late().await,
            }
        }
        self.compare_with_listing(&members);
        self.remember(key, &members);
        Ok(())
    }

    /// Whether a member that is not in the directory does not exist.
    fn has_everybody(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
            && (!self.is_incomplete.load(Ordering::Relaxed)
                || (self.absent.load(Ordering::Relaxed) >= ABSENT_TO_BELIEVE
                    && !self.misses_members.load(Ordering::Relaxed)))
    }

    /// Counts what a look-up by email found of a member whom the listing does not show.
    fn compare_with_listing(&self, members: &[Member]) {
        if !self.is_listed.load(Ordering::Relaxed) {
            return;
        }
        if members.is_empty() {
            self.absent.fetch_add(1, Ordering::Relaxed);
        } else if !self.misses_members.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the listing misses members: all that it does not show are looked up by email"
            );
        }
    }

    /// Returns the member that a row names.
    ///
    /// # Errors
    /// If it must be looked up, and the API refuses or can't be reached.
    pub(crate) async fn member(&self, key: KeyId, row: &Row) -> Result<Found, Failure> {
        if self.has_everybody() {
            return Ok(self.in_directory(key, &row.email));
        }
        // Boxed, so that the future of a row whose member is listed stays small.
        Box::pin(self.find(key, &row.email)).await
    }

    /// Returns whether several rows name the member with this key.
    pub(crate) fn is_repeated(&self, key: KeyId) -> bool {
        self.preflight.relations.repeated.contains(&key)
    }

    /// Returns the member with this id as it is now, or as this run has left it.
    ///
    /// # Errors
    /// If the API refuses or can't be reached.
    pub(crate) async fn read_again(
        &self,
        key: KeyId,
        id: &str,
        row: &Row,
    ) -> Result<Found, Failure> {
        if self.is_repeated(key)
            && let Some(latest) = lock(&self.directory).latest(id)
        {
            return Ok(Found::One(latest));
        }
        match self.by_id(id).await {
            Ok(member) => return Ok(Found::One(member)),
            Err(failure) if failure.cause.is_unoffered() => {}
            Err(failure) => return Err(failure),
        }
        // An organization may not offer to read members by id.
        let members = self.all_of(MemberFilter::Email(&row.email)).await?;
        let found = members.into_iter().find(|member| *member.id == *id);
        Ok(found.map_or(Found::Nobody, Found::One))
    }

    /// Returns the member that has an email.
    ///
    /// # Errors
    /// If it must be looked up, and the API refuses or can't be reached.
    pub(crate) async fn email(&self, email: &str) -> Result<Found, Failure> {
        match self.preflight.keys.find(&fold(email)) {
            Some(key) => Box::pin(self.find(key, email)).await,
            None => Ok(Found::Nobody),
        }
    }

    /// Returns the new owner that a row names.
    ///
    /// # Errors
    /// If it must be looked up, and the API refuses or can't be reached.
    pub(crate) async fn owner(&self, row: &Row) -> Result<Option<Owner>, Failure> {
        let Some(name) = row.owner() else {
            return Ok(None);
        };
        let found = match self.preflight.keys.find(&owner_key(name)) {
            Some(key) => Box::pin(self.find(key, name)).await?,
            None => Found::Nobody,
        };
        Ok(Some(self.with_file(found)))
    }

    /// Returns the new owner that a row names, or `None` if it was not looked up yet.
    pub(crate) fn cached_owner(&self, name: &str) -> Option<Owner> {
        let key = self.preflight.keys.find(&owner_key(name))?;
        Some(self.with_file(self.cached_key(key, name)?))
    }

    fn with_file(&self, found: Found) -> Owner {
        let is_archived_by_file = match &found {
            Found::One(owner) => (self.preflight.keys)
                .find(&fold(self.first_email(owner)))
                .is_some_and(|key| self.preflight.archived.contains(&key)),
            _ => false,
        };
        Owner {
            found,
            is_archived_by_file,
        }
    }

    /// Returns the members that have the new email of a row, if they were looked up and keep it. If rows of the file
    /// rename them, it returns those that keep the last email of that chain of renames, so that none of them can be done.
    pub(crate) fn holder_of_new_email(&self, row: &Row) -> Option<Found> {
        let RowRequest::Desired(values) = &row.request else {
            return None;
        };
        let email = values.text(Field::Email)?;
        let key = self.preflight.keys.find(&fold(email))?;
        let last = self.preflight.relations.last_of_chain(key);
        if last == key {
            self.cached_key(key, email)
        } else {
            self.cached_key(last, self.preflight.keys.text(last))
        }
    }

    /// Returns the member that a row names, or `None` if it was not looked up yet.
    pub(crate) fn cached(&self, row: &Row) -> Option<Found> {
        self.cached_key(self.preflight.keys.find(&row.key())?, &row.email)
    }

    fn cached_key(&self, key: KeyId, spelled: &str) -> Option<Found> {
        (self.has_everybody() || self.is_known(key)).then(|| self.in_directory(key, spelled))
    }

    /// Keeps the present values of a member if further rows name it.
    pub(crate) fn remember_latest(&self, key: KeyId, member: Member) {
        if self.is_repeated(key) {
            lock(&self.directory).remember_latest(member);
        }
    }

    fn in_directory(&self, key: KeyId, spelled: &str) -> Found {
        lock(&self.directory).find(&self.preflight.keys, key, spelled)
    }

    async fn find(&self, key: KeyId, spelled: &str) -> Result<Found, Failure> {
        if let Some(found) = self.cached_key(key, spelled) {
            return Ok(found);
        }
        let kind = lock(&self.directory).kind();
        let asked = match kind {
            KeyKind::Id => self.preflight.keys.text(key),
            KeyKind::Email => spelled,
        };
        let Some(members) = self.fetch(asked, false).await? else {
            self.list_late().await?;
            return Ok(self.in_directory(key, spelled));
        };
        self.compare_with_listing(&members);
        if self.is_repeated(key) {
            self.remember(key, &members);
            return Ok(self.in_directory(key, spelled));
        }
        // A directory for this one row applies the same rules and is dropped.
        let mut own = Directory::new(kind, &Field::ALL);
        for member in &members {
            own.insert(&self.preflight.keys, self.first_email(member), member);
        }
        Ok(own.find(&self.preflight.keys, key, spelled))
    }

    fn is_known(&self, key: KeyId) -> bool {
        lock(&self.directory).has(key) || lock(&self.settled).contains(&key)
    }

    fn remember(&self, key: KeyId, members: &[Member]) {
        let mut directory = lock(&self.directory);
        for member in members {
            directory.insert(&self.preflight.keys, self.first_email(member), member);
        }
        lock(&self.settled).insert(key);
    }

    fn first_email<'m>(&'m self, member: &'m Member) -> &'m str {
        match self.first_emails.get(&member.id) {
            Some(email) => email,
            None => member.email(),
        }
    }

    /// Fetches the members that an email could name, or the one with an id. Returns `None` if only a listing can tell.
    /// Members whose email differs in case alone are fetched if nobody fits exactly, or if `everybody` is set.
    async fn fetch(&self, key: &str, everybody: bool) -> Result<Option<Vec<Member>>, Failure> {
        if lock(&self.directory).kind() == KeyKind::Id || !key.contains('@') {
            if !is_plain_id(key) {
                return Ok(Some(Vec::new()));
            }
            return match self.by_id(key).await {
                Ok(member) => Ok(Some(vec![member])),
                Err(failure) if failure.cause.is_not_found() => Ok(Some(Vec::new())),
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
        // The API no longer finds a renamed member by its first email.
        let renamed = self
            .first_emails
            .iter()
            .filter(|(_, email)| fold(email) == folded);
        let mut found = Vec::new();
        for (id, _) in renamed {
            found.push(self.by_id(id).await?);
        }
        if !found.is_empty() {
            return Ok(Some(found));
        }
        // The API's email filter is exact, as far as is known. A search also finds other cases.
        found = fits(self.all_of(MemberFilter::Email(key)).await?);
        let mut has_search = true;
        if found.is_empty() || everybody {
            match self.search(&folded).await? {
                Some(members) => found.extend(fits(members)),
                None => has_search = false,
            }
        }
        if found.is_empty() && folded != key {
            found = fits(self.all_of(MemberFilter::Email(&folded)).await?);
        }
        let is_known = has_search || !(found.is_empty() || everybody);
        Ok(Some(found).filter(|_| is_known))
    }

    /// Returns the members that have a new email, in any case, with one request as a rule. Most new emails are free. If the
    /// API has no search, other cases are not found, and the API refuses the update.
    async fn holders(&self, new_email: &str) -> Result<Vec<Member>, Failure> {
        let members = match self.search(new_email).await? {
            Some(members) => members,
            None => self.all_of(MemberFilter::Email(new_email)).await?,
        };
        let is_holder = |member: &Member| fold(self.first_email(member)) == new_email;
        Ok(members.into_iter().filter(is_holder).collect())
    }

    /// Returns the members that a search finds, or `None` if the API has no search, which is deprecated.
    async fn search(&self, text: &str) -> Result<Option<Vec<Member>>, Failure> {
        if self.has_no_search.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.all_of(MemberFilter::Search(text)).await {
            Ok(members) => Ok(Some(members)),
            Err(failure)
                if matches!(
                    failure.cause.status(),
                    Some(400 | 404 | 405 | 410 | 422 | 501)
                ) =>
            {
                self.has_no_search.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Lists the organization once, after the run has started: a member may be spelled in another case, and nothing
    /// else tells.
    async fn list_late(&self) -> Result<(), Failure> {
        let _listing = self.late_listing.lock().await;
        if self.is_listed.load(Ordering::Relaxed) {
            return Ok(());
        }
        tracing::info!(
            "the API has no search: listing the organization to find emails in another case"
        );
        self.list(false).await.map_err(|error| Failure {
            cause: match error {
                LookupError::List { cause, .. } | LookupError::Each(cause) => cause,
                error @ LookupError::RepeatedCursor => {
                    FailureCause::Attempt(AttemptError::Unreadable {
                        status: 200,
                        what: error.to_string(),
                    })
                }
            },
            attempts: 1,
            may_be_applied: false,
        })?;
        self.is_listed.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn by_id(&self, id: &str) -> Result<Member, Failure> {
        let member = self
            .gateway
            .read(Request::Member { id }, parse_member)
            .await?;
        if *member.id == *id {
            Ok(member)
        } else {
            Err(unreadable("it is another member".to_owned()))
        }
    }

    /// Returns everybody whom a filter shows. Mostly it is one page, but a search for a short email may find
    /// thousands.
    async fn all_of(&self, filter: MemberFilter<'_>) -> Result<Vec<Member>, Failure> {
        let mut members = Vec::new();
        let mut cursors = Cursors::default();
        loop {
            let page = self.page(filter, cursors.current()).await?;
            members.extend(page.entries);
            let Some(next) = page.next else {
                return Ok(members);
            };
            if !cursors.advance(next) {
                return Err(unreadable(
                    "the API returned the same page cursor twice".to_owned(),
                ));
            }
        }
    }

    async fn page(
        &self,
        filter: MemberFilter<'_>,
        cursor: Option<&Cursor>,
    ) -> Result<MemberPage, Failure> {
        let page = self
            .pages
            .get(&self.gateway, filter, cursor, MemberPage::parse);
        page.await
    }

    /// Lists the organization. Returns `false` if `may_stop` and single look-ups need fewer requests than the rest of
    /// the listing; the members on the pages so far are kept.
    async fn list(&self, may_stop: bool) -> Result<bool, LookupError> {
        let mut cursors = Cursors::default();
        let mut evidence = ListingEvidence::new(self.own_id.as_deref());
        let mut progress = ListingProgress {
            names: self.preflight.lookups as u64,
            ..ListingProgress::default()
        };
        loop {
            let page = self
                .page(MemberFilter::All, cursors.current())
                .await
                .map_err(|failure| LookupError::List {
                    page: progress.pages + 1,
                    cause: failure.cause,
                })?;
            progress.pages += 1;
            progress.members += page.entries.len() as u64;
            progress.total = page.total.or(progress.total);
            evidence.add(&page, |member| &member.id);
            progress.found += self.keep(&page.entries);
            self.observe(LookupProgress::Listing(progress));
            tracing::debug!(
                pages = progress.pages,
                found = progress.found,
                "listing members"
            );
            let Some(next) = page.next else {
                tracing::info!(
                    members = progress.members,
                    pages = progress.pages,
                    "members listed"
                );
                let doubt = evidence.doubt();
                if let Some(why) = &doubt {
                    tracing::info!(
                        why,
                        "the listing is not proven complete: members whom it does not show are looked up by email"
                    );
                }
                self.is_incomplete.store(doubt.is_some(), Ordering::Relaxed);
                return Ok(true);
            };
            if !cursors.advance(next) {
                return Err(LookupError::RepeatedCursor);
            }
            if may_stop && progress.each_is_cheaper() {
                return Ok(false);
            }
        }
    }

    /// Keeps the members of a page that rows name, and returns how many these are.
    fn keep(&self, members: &[Member]) -> u64 {
        let keys = &self.preflight.keys;
        let mut directory = lock(&self.directory);
        let settled = lock(&self.settled);
        let mut kept = 0;
        for member in members {
            let email = self.first_email(member);
            // What was looked up before the first change is more reliable than a listing in the middle of the run.
            let is_settled = !settled.is_empty()
                && keys
                    .find(&fold(email))
                    .is_some_and(|key| settled.contains(&key));
            if !is_settled && directory.insert(keys, email, member) {
                kept += 1;
            }
        }
        kept
    }
}

fn unreadable(what: String) -> Failure {
    Failure {
        cause: FailureCause::Attempt(AttemptError::Unreadable { status: 200, what }),
        attempts: 1,
        may_be_applied: false,
    }
}
