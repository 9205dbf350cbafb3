//! A local server that imitates Sigma's REST API for members, for rehearsals and tests. It owns an
//! organization, the API's rules for that organization, and the faults that can occur between a client
//! and a server.
//!
//! It shares no code with the client in this crate. It has its own JSON types, rules and rate limiter,
//! so that it checks the client's behaviour independently.
//!
//! A request passes through these modules: `serve` accepts the connection, `routes` matches the endpoint, and
//! `exchange` handles the request: it records the arrival in `stats`, `faults` chooses the fault to inject, `access`
//! checks the token, `organization` carries out the request, and `exchange` sends the response or the fault.
//!
//! ```no_run
//! # async fn example() -> Result<(), sigma_bulk::sandbox::SandboxError> {
//! use sigma_bulk::sandbox::{Config, Faults, Sandbox};
//!
//! let config = Config {
//!     faults: Faults { fail_before: 0.1, ..Faults::default() },
//!     ..Config::default()
//! };
//! let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), config).await?;
//! // … a client sends requests to `sandbox.url()` …
//! assert_eq!(sandbox.stats().peak_in_flight_one_member, 1);
//! # Ok(())
//! # }
//! ```

mod access;
mod app;
mod args;
mod exchange;
mod faults;
mod member;
mod organization;
mod population;
mod refusal;
mod routes;
mod serve;
mod stats;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::app::{App, Identity};
pub use self::args::{RetryAfterArg, SandboxArgs};
pub use self::faults::{Ban, Endpoint, Faults, LateAnswer, RateLimit, RateLimitKind, RetryAfter};
pub use self::member::Member;
use self::organization::Organization;
pub use self::stats::{PatchRecord, Stats};

/// The id of the member who owns the credentials in the built-in organization. It is also used in any
/// organization where no member has the address [`Config::own_email`].
pub const OWN_MEMBER_ID: &str = "7vQmXc2LrT9bKdWf0HsZ1a";

/// The email address of the member who owns the credentials in the built-in organization.
pub const OWN_EMAIL: &str = "admin@example.com";

/// The default account types of an organization.
pub const ACCOUNT_TYPES: [&str; 6] = [
    "Admin",
    "Creator",
    "Explorer",
    "Viewer",
    "Lite",
    "Viewer Lite",
];

/// The sandbox's configuration.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a trait of its own, and tests set them by name"
)]
pub struct Config {
    /// The members of the organization.
    pub population: Population,
    /// The faults to inject.
    pub faults: Faults,
    /// The client id that signing in requires. `None` accepts any.
    pub client_id: Option<String>,
    /// The client secret that signing in requires. `None` accepts any.
    pub client_secret: Option<String>,
    /// How long a token is valid.
    pub token_lifetime: Duration,
    /// The lifetime reported in `expires_in`. `None` reports `token_lifetime`.
    pub token_expires_in: Option<Duration>,
    /// The largest `limit` that a listing accepts. A larger one is answered with 400.
    pub page_limit: usize,
    /// The names of the account types.
    pub account_types: Vec<String>,
    /// Whether the list of account types is answered with 403.
    pub account_types_forbidden: bool,
    /// Whether `/v2.1/members` exists. Otherwise it is answered with 404.
    pub v2_1: bool,
    /// Whether `/v2.1/members` returns the `total`.
    pub total: bool,
    /// Whether `/v2/members` without a `limit` returns all members in a bare array, as it does in older
    /// organizations.
    pub bare_array: bool,
    /// Whether a listing accepts the deprecated `search`. Otherwise it is answered with 400.
    pub search: bool,
    /// Whether `GET /v2/members/{id}` exists. Otherwise it is answered with 404.
    pub get_member: bool,
    /// How listings are incomplete or odd.
    pub listing: ListingQuirks,
    /// Whether a text is stored trimmed and an email in lower case, whatever is sent.
    pub normalizes: bool,
    /// Whether a blank name is returned as `null`.
    pub shows_blank_as_null: bool,
    /// What `GET /v2/whoami` answers instead of the owner: a status, with the error that belongs to it.
    pub whoami_status: Option<u16>,
    /// Whether responses omit `isArchived` and `isInactive` when they are false.
    pub omit_false: bool,
    /// The email address of the member who owns the credentials. Archiving that member revokes the tokens
    /// and the credentials, as in the API.
    pub own_email: String,
    /// The organization's id.
    pub organization_id: String,
    /// Whether to record [`Stats::patches`] and [`Stats::arrivals`], which grow with every request.
    pub record_patches: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            population: Population::default(),
            faults: Faults::default(),
            client_id: None,
            client_secret: None,
            token_lifetime: Duration::from_secs(3600),
            token_expires_in: None,
            page_limit: 1000,
            account_types: ACCOUNT_TYPES.map(String::from).to_vec(),
            account_types_forbidden: false,
            v2_1: true,
            total: true,
            bare_array: false,
            search: true,
            get_member: true,
            listing: ListingQuirks::default(),
            normalizes: false,
            shows_blank_as_null: false,
            whoami_status: None,
            omit_false: false,
            own_email: OWN_EMAIL.to_owned(),
            organization_id: "5d0c6c8e-6a1f-4c39-9a53-2f3a8f0e4b17".to_owned(),
            record_patches: false,
        }
    }
}

/// How listings of all members are incomplete or odd. Listings with `email` or `search` show everybody.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a trait of its own, and tests set them by name"
)]
pub struct ListingQuirks {
    /// The name of the cursor, if it is not `nextPage`. The query takes it as `page` all the same.
    pub cursor_name: Option<String>,
    /// Whether the cursor is missing where there is a next page.
    pub hides_cursor: bool,
    /// Whether `hasMore` is missing.
    pub hides_has_more: bool,
    /// Whether the answer is a bare array of the first page.
    pub is_bare: bool,
    /// Whether the listing is empty.
    pub is_empty: bool,
    /// The ids of members that the pages miss, although the `total` counts them.
    pub misses: Vec<String>,
    /// Whether the list of account types hides its cursor.
    pub hides_type_cursor: bool,
}

/// The members of the organization.
#[derive(Clone, Debug, Default)]
pub enum Population {
    /// A small company at example.com with 24 members, of whom two are archived and one is inactive.
    #[default]
    Builtin,
    /// This number of members, from `user000001@example.com` on. Every 50th is archived and every 75th is
    /// inactive. Names and account types are evenly distributed and the same each time.
    Generated(usize),
    /// The members in a CSV file with the columns Email, First Name, Last Name, Member Type, isArchived,
    /// isInactive, userKind and Member ID. Only Email is required.
    Csv(PathBuf),
    /// The given members.
    Members(Vec<Member>),
}

/// The reason why the sandbox can't start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The sandbox can't listen on the address.
    #[error("can't listen at {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The error from the operating system.
        source: io::Error,
    },
    /// The members' CSV file can't be opened.
    #[error("can't open {}", path.display())]
    Open {
        /// The path of the file.
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    /// The members' CSV file can't be read.
    #[error("can't read the members' CSV")]
    Csv(#[from] csv::Error),
    /// Two members have the same id.
    #[error("two members have the id {0:?}")]
    DuplicateId(String),
    /// Two members have the same email address.
    #[error("two members have the address {0:?}")]
    DuplicateEmail(String),
    /// The flags are invalid.
    #[error("{0}")]
    Usage(String),
}

/// A running sandbox. Dropping it stops the server and closes all connections.
pub struct Sandbox {
    addr: SocketAddr,
    app: Arc<App>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Creates the organization and starts to listen. Port 0 selects any free port.
    ///
    /// # Errors
    /// Returns an error if the sandbox can't listen on the address or can't load the members.
    pub async fn start(addr: SocketAddr, config: Config) -> Result<Self, SandboxError> {
        let organization = Organization::new(&config)?;
        let refused = |source| SandboxError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let app = Arc::new(App::new(config, organization));
        let server = tokio::spawn(serve::serve(listener, Arc::clone(&app)));
        tracing::debug!(%addr, "the sandbox listens");
        Ok(Self { addr, app, server })
    }

    /// Returns the address on which the sandbox listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the base URL for clients, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns the current state of all members.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let organization = self.app.organization();
        organization.members().cloned().collect()
    }

    /// Returns the number of members.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.app.organization().len()
    }

    /// Returns the current state of the member with this id.
    #[must_use]
    pub fn member(&self, member_id: &str) -> Option<Member> {
        let organization = self.app.organization();
        let entry = organization.get(organization.by_id(member_id)?)?;
        Some(entry.member.clone())
    }

    /// Returns the current state of the member with this email address. If there is none, returns a member
    /// whose address differs only in case.
    #[must_use]
    pub fn member_by_email(&self, email: &str) -> Option<Member> {
        let organization = self.app.organization();
        let entry = organization.get(organization.by_email(email)?)?;
        Some(entry.member.clone())
    }

    /// Returns the id of the member who owns the credentials.
    #[must_use]
    pub fn own_member_id(&self) -> String {
        self.app.own_member_id().to_owned()
    }

    /// Changes a member directly, without the API and its rules, as if somebody else had changed it.
    /// The id is kept. Returns the changed member, or `None` if there is no such member.
    pub fn edit(&self, member_id: &str, change: impl FnOnce(&mut Member)) -> Option<Member> {
        let mut organization = self.app.organization();
        let position = organization.by_id(member_id)?;
        let mut member = organization.get(position)?.member.clone();
        change(&mut member);
        organization.put(position, member, Timestamp::now());
        organization.get(position).map(|entry| entry.member.clone())
    }

    /// Replaces the member with the same id, or adds a new member if there is none.
    ///
    /// # Errors
    /// Returns an error if the member is new and its email address is already taken.
    pub fn set_member(&self, member: &Member) -> Result<(), SandboxError> {
        let mut organization = self.app.organization();
        match organization.by_id(&member.member_id) {
            Some(position) => organization.put(position, member.clone(), Timestamp::now()),
            None => {
                organization.add(member.clone())?;
            }
        }
        Ok(())
    }

    /// Returns the statistics since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.app.stats()
    }

    /// Replaces the faults. This resets the random numbers, the rate limit and the fault count.
    pub fn set_faults(&self, faults: Faults) {
        self.app.set_faults(faults);
    }

    /// Makes the credentials belong to another organization. With a status, whoami no longer says to which.
    pub fn set_identity(&self, organization_id: &str, whoami_status: Option<u16>) {
        self.app.set_identity(Identity {
            organization_id: organization_id.into(),
            whoami_status,
        });
    }

    /// Changes how listings are incomplete or odd.
    pub fn set_listing(&self, quirks: ListingQuirks) {
        self.app.set_listing(quirks);
    }

    /// Revokes all tokens, as if they had expired.
    pub fn revoke_tokens(&self) {
        self.app.revoke_tokens();
    }

    /// Serves until the future completes, then closes all connections.
    pub async fn serve_until(mut self, shutdown: impl Future) {
        match select(pin!(shutdown), &mut self.server).await {
            Either::Left(_) => {
                self.server.abort();
                // The port is released only when the aborted task has ended.
                if let Err(error) = (&mut self.server).await
                    && error.is_panic()
                {
                    tracing::error!(%error, "the sandbox broke down");
                }
            }
            Either::Right((ended, _)) => {
                tracing::error!(?ended, "the sandbox ended by itself");
            }
        }
    }
}

impl fmt::Debug for Sandbox {
    /// Prints only the address, because the rest holds a secret and possibly a million members.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f.debug_struct("Sandbox").field("addr", &self.addr)).finish_non_exhaustive()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The accept loop owns the connections, so aborting it closes them.
        self.server.abort();
    }
}
