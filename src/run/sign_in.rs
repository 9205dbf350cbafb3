//! The first request of a session: who the credentials belong to, and what to do if the API does not say.

use std::sync::Arc;

use super::RunError;
use crate::gateway::{FailureCause, Gateway, GatewayOptions};
use crate::pace::Pacer;
use crate::pace::search::SearchOptions;
use crate::settings::{Rate, Settings};
use crate::sigma::{
    AttemptError, Client, ClientOptions, Identity, ListingVersion, MemberFilter, Request,
    organization_of_members,
};
use crate::stop::Stop;

/// Returns the gateway of a session.
pub(super) fn gateway(
    settings: &Settings,
    base_url: String,
    stop: &Arc<Stop>,
) -> Result<Gateway, RunError> {
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
pub(super) async fn sign_in(gateway: &Gateway, host: &str) -> Result<Identity, RunError> {
    let mut identity = whoami(gateway, host).await?;
    if identity.user_id.is_none() && !gateway.is_stopped() {
        tracing::warn!(
            "the API does not say who the credentials belong to, so that this user is not protected from being archived"
        );
    }
    if identity.organization_id.is_none() {
        identity.organization_id = organization_of_any_member(gateway).await;
    }
    Ok(identity)
}

async fn whoami(gateway: &Gateway, host: &str) -> Result<Identity, RunError> {
    let failure = match gateway.call(Request::Whoami).await {
        Ok(reply) => return Ok(Identity::parse(&reply.response.body).unwrap_or_default()),
        Err(failure) => failure,
    };
    let why = failure.cause.to_string();
    match failure.cause {
        FailureCause::Stopped => Ok(Identity::default()),
        // The token was accepted, but some organizations do not offer this endpoint. A page of something in front of the
        // API does not say that.
        cause if cause.is_unoffered() => {
            tracing::info!(why, "the API does not answer whoami");
            Ok(Identity::default())
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
