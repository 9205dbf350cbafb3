//! A stand-in of the Sigma REST API for members, to rehearse against. It owns an organization,
//! the API's rules about it, and everything that can go wrong between a client and a server.
//!
//! It shares nothing with the client in this crate: the wire shapes, the rules and the rate
//! limiter are its own, so that it's an independent witness of what the client does.
//!
//! The way of a request: `serve` accepts the connection, `routes` recognizes the endpoint and
//! reports the arrival to `stats`, `faults` decides what is to go wrong, `access` looks at
//! the token, `organization` does what was asked for, and `routes` answers or spoils the answer.
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
//! // … a client at work at `sandbox.url()` …
//! assert_eq!(sandbox.stats().peak_in_flight_one_member, 1);
//! # Ok(())
//! # }
//! ```

mod access;
mod args;
mod faults;
mod organization;
mod routes;
mod serve;
mod stats;

use std::{fmt, io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use jiff::Timestamp;
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::{
    args::{RetryAfterArg, SandboxArgs},
    faults::{Endpoint, Faults, RateLimit, RateLimitKind, RetryAfter},
    organization::Member,
    stats::{PatchRecord, Stats},
};
use self::{organization::Organization, routes::App};

/// The id of the member to whom the credentials belong, in the built-in organization and wherever
/// no member has [`Config::own_email`].
pub const OWN_MEMBER_ID: &str = "7vQmXc2LrT9bKdWf0HsZ1a";

/// The address of the member to whom the credentials belong in the built-in organization.
pub const OWN_EMAIL: &str = "admin@example.com";

/// The account types that an organization has unless told otherwise.
pub const ACCOUNT_TYPES: [&str; 6] = [
    "Admin",
    "Creator",
    "Explorer",
    "Viewer",
    "Lite",
    "Viewer Lite",
];

/// How the sandbox behaves.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a trait of its own, and tests set them by name"
)]
pub struct Config {
    /// Who's in the organization.
    pub population: Population,
    /// What goes wrong.
    pub faults: Faults,
    /// The client id to sign in with; `None` accepts any.
    pub client_id: Option<String>,
    /// The client secret to sign in with; `None` accepts any.
    pub client_secret: Option<String>,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// How long a token is said to be good, if not the truth.
    pub token_expires_in: Option<Duration>,
    /// The largest `limit` of a listing; a larger one answers 400.
    pub page_limit: usize,
    /// The names of the account types.
    pub account_types: Vec<String>,
    /// Whether the list of account types answers 403.
    pub account_types_forbidden: bool,
    /// Whether there is `/v2.1/members`; 404 otherwise.
    pub v2_1: bool,
    /// Whether `/v2.1/members` tells the `total`.
    pub total: bool,
    /// Whether `/v2/members` without a `limit` answers everybody in a bare array, as older
    /// organizations do.
    pub bare_array: bool,
    /// Whether a listing takes the deprecated `search`; 400 otherwise.
    pub search: bool,
    /// Whether there is `GET /v2/members/{id}`; 404 otherwise.
    pub get_member: bool,
    /// Whether `isArchived` and `isInactive` are left out when false.
    pub omit_false: bool,
    /// The address of the member to whom the credentials belong. Archiving that member ends the
    /// tokens and the credentials, as the API does.
    pub own_email: String,
    /// The organization's id.
    pub organization_id: String,
    /// Whether to keep [`Stats::patches`] and [`Stats::arrivals`], which grow with the requests.
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
            omit_false: false,
            own_email: OWN_EMAIL.to_owned(),
            organization_id: "5d0c6c8e-6a1f-4c39-9a53-2f3a8f0e4b17".to_owned(),
            record_patches: false,
        }
    }
}

/// Who's in the organization.
#[derive(Clone, Debug, Default)]
pub enum Population {
    /// A small company at example.com: 24 members, two of them archived and one inactive.
    #[default]
    Builtin,
    /// So many members, `user000001@example.com` and on. Every 50th is archived and every 75th
    /// inactive; names and types are spread evenly and the same each time.
    Generated(usize),
    /// The members in a CSV with the columns Email, First Name, Last Name, Member Type,
    /// isArchived, isInactive, userKind and Member ID, of which only Email is needed.
    Csv(PathBuf),
    /// These.
    Members(Vec<Member>),
}

/// Why the sandbox can't start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address can't be listened at.
    #[error("can't listen at {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The members' file can't be opened.
    #[error("can't open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The members' file can't be read.
    #[error("can't read the members' CSV")]
    Csv(#[from] csv::Error),
    /// Two members have the same id.
    #[error("two members have the id {0:?}")]
    DuplicateId(String),
    /// Two members have the same address.
    #[error("two members have the address {0:?}")]
    DuplicateEmail(String),
    /// The flags don't make sense.
    #[error("{0}")]
    Usage(String),
}

/// A sandbox at work. It stops, with all of its connections, when it's dropped.
pub struct Sandbox {
    addr: SocketAddr,
    app: Arc<App>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Makes the organization and starts to listen. Port 0 takes any free port.
    ///
    /// # Errors
    /// If the address can't be had or the members can't.
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

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL for clients, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All members as they are now.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let organization = self.app.organization();
        (0..organization.len())
            .filter_map(|position| organization.view(position))
            .map(|view| Member::from(&view))
            .collect()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.app.organization().len()
    }

    /// The member with that id as it is now.
    #[must_use]
    pub fn member(&self, member_id: &str) -> Option<Member> {
        let organization = self.app.organization();
        let view = organization.view(organization.by_id(member_id)?)?;
        Some(Member::from(&view))
    }

    /// The member with that address as it is now; if there's none, one whose address differs in
    /// case only.
    #[must_use]
    pub fn member_by_email(&self, email: &str) -> Option<Member> {
        let organization = self.app.organization();
        let view = organization.view(organization.by_email(email)?)?;
        Some(Member::from(&view))
    }

    /// The id of the member to whom the credentials belong.
    #[must_use]
    pub fn own_member_id(&self) -> String {
        self.app.own_member_id().to_owned()
    }

    /// Changes a member as somebody else in the organization would, past the API and its rules.
    /// The id stays. Answers the member as it is now, or `None` if there's no such member.
    pub fn edit(&self, member_id: &str, change: impl FnOnce(&mut Member)) -> Option<Member> {
        let mut organization = self.app.organization();
        let position = organization.by_id(member_id)?;
        let mut member = Member::from(&organization.view(position)?);
        change(&mut member);
        organization.put(position, &member, Timestamp::now());
        organization.view(position).map(|view| Member::from(&view))
    }

    /// Puts a member in the place of the one with its id, or adds it as a new one.
    ///
    /// # Errors
    /// If it's new and somebody else has its address.
    pub fn set_member(&self, member: &Member) -> Result<(), SandboxError> {
        let mut organization = self.app.organization();
        match organization.by_id(&member.member_id) {
            Some(position) => organization.put(position, member, Timestamp::now()),
            None => {
                organization.add(member)?;
            }
        }
        Ok(())
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.app.stats()
    }

    /// Lets other things go wrong from now on. Draws, limits and counts of faults start anew.
    pub fn set_faults(&self, faults: Faults) {
        self.app.set_faults(faults);
    }

    /// Ends all tokens at once, as if their time were over.
    pub fn revoke_tokens(&self) {
        self.app.revoke_tokens();
    }

    /// Serves until the future is done, then closes every connection.
    pub async fn serve_until(mut self, shutdown: impl Future) {
        match select(pin!(shutdown), &mut self.server).await {
            Either::Left(_) => {
                self.server.abort();
                // Only an aborted task that has ended has let go of the port.
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
    /// The address alone: the rest holds a million members, and a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f.debug_struct("Sandbox").field("addr", &self.addr)).finish_non_exhaustive()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The accept loop owns the connections, so they go with it.
        self.server.abort();
    }
}
