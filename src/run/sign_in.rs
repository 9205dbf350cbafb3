//! The connection of a command to its organization, and its first requests: who the credentials belong to, and what to do
//! if the API does not say.

use std::sync::Arc;

use super::embedded::EmbeddedSandbox;
use super::outage_lines::announce;
use super::{Context, EMBEDDED, RunError};
use crate::gateway::{FailureCause, Gateway, GatewayOptions};
use crate::model::{Member, is_plain_id};
use crate::output::{Plain, count};
use crate::pace::Pacer;
use crate::pace::search::SearchOptions;
use crate::settings::{Rate, Settings};
use crate::sigma::{
    AttemptError, Client, ClientOptions, Cursors, Identity, ListingVersion, MemberFilter,
    MemberPage, Request, TypesPage, may_be_cut, organization_of_members, parse_member,
};
use crate::stop::Stop;
use crate::store::journal::CredentialUser;

/// A command that is signed in.
pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) identity: Identity,
    /// The member to whom the credentials belong, if the API shows it.
    pub(super) own: Option<Member>,
    /// How far the clock of this machine is ahead of the API's, in seconds, if the API says the time.
    pub(super) clock_offset: Option<i64>,
    /// The sandbox of `--env sandbox`, which ends with the command.
    _sandbox: Option<EmbeddedSandbox>,
}

impl Connection {
    /// Signs in at `host`.
    ///
    /// # Errors
    /// If the API refuses the credentials or can't be reached.
    pub(super) async fn open(
        context: &Context,
        settings: &Settings,
        host: &str,
        stop: &Arc<Stop>,
    ) -> Result<Self, RunError> {
        let sandbox = if host == EMBEDDED {
            Some(EmbeddedSandbox::start()?)
        } else {
            None
        };
        let base_url = sandbox
            .as_ref()
            .map_or_else(|| host.to_owned(), |sandbox| sandbox.url.clone());
        let gateway = Arc::new(gateway(settings, base_url, stop)?);
        announce(&gateway, settings, &context.output);
        let (identity, clock_offset) = sign_in(&gateway, host).await?;
        let own = own_member(&gateway, &identity).await;
        Ok(Self {
            clock_offset,
            gateway,
            identity,
            own,
            _sandbox: sandbox,
        })
    }

    /// Returns the user to whom the credentials belong, for the records of a run.
    pub(super) fn user(&self) -> Option<CredentialUser> {
        let id = self.identity.user_id.clone()?;
        let email = self.own.as_ref().map(|own| own.email().to_owned());
        Some(CredentialUser {
            id,
            email: email.filter(|email| !email.is_empty()),
        })
    }

    /// Returns the names of the organization's account types.
    ///
    /// # Errors
    /// If the credentials may not read them, or the list may be incomplete.
    pub(super) async fn account_types(&self) -> Result<Vec<String>, TypesError> {
        let mut names = Vec::new();
        let mut cursors = Cursors::default();
        loop {
            let request = Request::AccountTypes {
                page: cursors.current(),
            };
            let page = self.gateway.read(request, TypesPage::parse).await;
            let page = page.map_err(|failure| TypesError::Failed(failure.cause))?;
            let last = page.entries.len();
            names.extend(page.entries);
            let Some(next) = page.next else {
                let is_counted = page.total.is_some() || page.has_more.is_some();
                let is_short = page.total.is_some_and(|total| total > names.len() as u64);
                return if is_short || may_be_cut(last, is_counted) || page.has_more == Some(true) {
                    Err(TypesError::Incomplete)
                } else {
                    Ok(names)
                };
            };
            if last == 0 || !cursors.advance(next) {
                return Err(TypesError::Incomplete);
            }
        }
    }

    /// Returns where the members are and as whom they are changed:
    /// `organization o1 at https://… (1,234 members), as ana@example.com`.
    pub(super) async fn describe(&self, host: &str) -> String {
        let organization = self
            .identity
            .organization_id
            .as_deref()
            .unwrap_or("unknown");
        let mut text = format!("Organization {} at {}", Plain(organization), Plain(host));
        if let Some(members) = self.member_count().await {
            text = format!("{text} ({})", count(members, "member"));
        }
        match self.user().and_then(|user| user.email) {
            Some(email) => format!("{text}, as {}", Plain(email)),
            None => text,
        }
    }

    /// Returns the number of members, if the API reports it.
    pub(super) async fn member_count(&self) -> Option<u64> {
        let request = Request::List {
            version: ListingVersion::V2_1,
            filter: MemberFilter::All,
            page: None,
            limit: Some(1),
        };
        let page = self.gateway.read(request, MemberPage::parse).await.ok()?;
        // A total that equals the page may be the page's own.
        page.total
            .filter(|total| *total > page.entries.len() as u64)
    }
}

/// The account types can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TypesError {
    #[error(transparent)]
    Failed(FailureCause),
    #[error("the list of account types may be incomplete")]
    Incomplete,
}

/// Returns the member to whom the credentials belong, if the API shows it.
async fn own_member(gateway: &Gateway, identity: &Identity) -> Option<Member> {
    let id = identity.user_id.as_deref().filter(|id| is_plain_id(id))?;
    let member = gateway.read(Request::Member { id }, parse_member).await;
    member.ok().filter(|member| *member.id == *id)
}

/// Returns the gateway of a session.
fn gateway(settings: &Settings, base_url: String, stop: &Arc<Stop>) -> Result<Gateway, RunError> {
    let client = Client::new(&ClientOptions {
        base_url,
        timeout: settings.timeout.0,
        connections: settings.concurrency,
        ca_cert: settings.ca_cert.clone(),
    })?;
    let options = GatewayOptions {
        retries: settings.retries,
        outage_limit: settings.outage_limit.0,
        concurrency: settings.concurrency,
    };
    let pacer = Pacer::new(&SearchOptions {
        ceiling: match settings.rate {
            Rate::Ceiling(rate) if rate > 0.0 => Some(rate),
            _ => None,
        },
        // Whoever sets a rate knows the API.
        gentle_start: settings.rate == Rate::Auto,
        max_capacity: settings.max_capacity.0,
        max_inflight: settings.concurrency,
    });
    Ok(Gateway::new(
        client,
        settings.credentials()?,
        pacer,
        options,
        Arc::clone(stop),
    ))
}

/// Returns who the credentials belong to. That is nobody if the run was stopped meanwhile, and the API may not say
/// everything.
async fn sign_in(gateway: &Gateway, host: &str) -> Result<(Identity, Option<i64>), RunError> {
    let (mut identity, clock_offset) = whoami(gateway, host).await?;
    if identity.user_id.is_none() && !gateway.is_stopped() {
        tracing::warn!(
            "the API does not say who the credentials belong to, so that this user is not protected from being archived"
        );
    }
    if identity.organization_id.is_none() {
        identity.organization_id = organization_of_any_member(gateway).await;
    }
    Ok((identity, clock_offset))
}

async fn whoami(gateway: &Gateway, host: &str) -> Result<(Identity, Option<i64>), RunError> {
    let failure = match gateway.call(Request::Whoami).await {
        Ok(reply) => {
            let identity = Identity::parse(&reply.response.body).unwrap_or_default();
            return Ok((identity, reply.response.clock_offset()));
        }
        Err(failure) => failure,
    };
    let why = failure.cause.to_string();
    match failure.cause {
        FailureCause::Stopped => Ok(Default::default()),
        // The token was accepted, but some organizations do not offer this endpoint. A page of something in front of the
        // API does not say that.
        cause if cause.is_unoffered() => {
            tracing::info!(why, "the API does not answer whoami");
            Ok(Default::default())
        }
        cause => Err(RunError::SignIn {
            host: host.to_owned(),
            why: format!(
                "{}{}",
                why.strip_prefix("signing in failed: ").unwrap_or(&why),
                remedy(&cause)
            ),
            source: cause.into(),
        }),
    }
}

/// Returns the organization to which the API's members belong. Each member names it.
async fn organization_of_any_member(gateway: &Gateway) -> Option<String> {
    for version in [ListingVersion::V2_1, ListingVersion::V2] {
        let request = Request::List {
            version,
            filter: MemberFilter::All,
            page: None,
            limit: Some(1),
        };
        if let Ok(reply) = gateway.call(request).await {
            return organization_of_members(&reply.response.body);
        }
    }
    None
}

/// Returns what to do when signing in fails.
const fn remedy(cause: &FailureCause) -> &'static str {
    match cause {
        // The message says what to do about what stands in front of the API.
        FailureCause::SignIn(AttemptError::Status(error)) if !error.is_from_api() => "",
        FailureCause::SignIn(AttemptError::Status(error))
            if matches!(error.status, 400 | 401 | 403) =>
        {
            "; check SIGMA_CLIENT_ID and SIGMA_CLIENT_SECRET, and that --cloud is the cloud of their organization"
        }
        FailureCause::SignIn(AttemptError::Status(_) | AttemptError::Unreadable { .. }) => {
            "; check that --cloud, --env or --base-url is the API's address"
        }
        FailureCause::SignIn(
            AttemptError::Connect(_) | AttemptError::Timeout(_) | AttemptError::Lost(_),
        ) => "; check the address (--cloud, --base-url), the network, and the proxy (HTTPS_PROXY)",
        _ => "",
    }
}
