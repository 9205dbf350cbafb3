//! The lines that say that the API has trouble, and that it is over. The progress display shows how long it lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::output::{Output, Plain, span};
use crate::settings::Settings;

/// How often the gateway is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Says when all requests wait and when they go on, as long as the session lasts.
pub(super) fn announce(gateway: &Arc<Gateway>, settings: &Settings, output: &Output) {
    if settings.quiet {
        return;
    }
    let (gateway, output) = (Arc::clone(gateway), output.clone());
    let limit = settings.outage_limit.0.as_secs_f64();
    tokio::spawn(async move {
        let mut announced = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match (gateway.outage(), announced) {
                (Some(outage), None) => {
                    announced = Some(outage.lasts);
                    output.note(Plain(format!(
                        "{}: {}. All requests wait, for at most {}; no tries are used up.",
                        outage.trouble.name(),
                        outage.why,
                        span(limit)
                    )));
                }
                (Some(outage), Some(_)) => announced = Some(outage.lasts),
                (None, Some(lasted)) => {
                    announced = None;
                    let lasted = span(lasted.as_secs_f64());
                    output.note(format_args!("The API answers again, after {lasted}."));
                }
                (None, None) => {}
            }
        }
    });
}
