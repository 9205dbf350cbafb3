//! The first request of a session: who the credentials belong to, and what to do if the API does not say.

use std::sync::Arc;

use super::RunError;
use crate::gateway::{FailureCause, Gateway, GatewayOptions};
use crate::pace::Pacer;
use crate::pace::search::SearchOptions;
use crate::settings::{Rate, Settings};
use crate::sigma::{AttemptError, Client, ClientOptions, Identity, Request};
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

/// Returns who the credentials belong to. That is nobody if the run was stopped meanwhile.
pub(super) async fn sign_in(gateway: &Gateway, host: &str) -> Result<Identity, RunError> {
    let failure = match gateway.call(Request::Whoami).await {
        Ok(reply) => {
            let identity = Identity::parse(&reply.response.body).unwrap_or_default();
            if identity.user_id.is_none() {
                warn_unprotected("the answer names no user");
            }
            return Ok(identity);
        }
        Err(failure) => failure,
    };
    let why = failure.cause.to_string();
    match failure.cause {
        FailureCause::Stopped => Ok(Identity::default()),
        // The token was accepted, but some organizations do not offer this endpoint.
        FailureCause::Attempt(AttemptError::Status(error))
            if matches!(error.status, 403 | 404 | 405 | 410 | 501) =>
        {
            warn_unprotected(&why);
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

fn warn_unprotected(why: &str) {
    tracing::warn!(
        why,
        "the API does not say who the credentials belong to, so that this user is not protected from being archived"
    );
}

/// Returns what to do when signing in fails.
const fn remedy(cause: &FailureCause) -> &'static str {
    match cause {
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
