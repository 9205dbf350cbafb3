//! The lines that say that the API has trouble, and that it is over. The progress display shows how long it lasts.

use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::output::{Output, Plain, span};
use crate::settings::Settings;

/// Says when all requests wait and when they go on, as long as the session lasts.
pub(super) fn announce(gateway: &Gateway, settings: &Settings, output: &Output) {
    if settings.quiet {
        return;
    }
    let (mut outages, output) = (gateway.outages(), output.clone());
    tokio::spawn(async move {
        let mut since = None;
        while outages.changed().await.is_ok() {
            let outage = outages.borrow_and_update().clone();
            match outage {
                Some(outage) => {
                    since = Some(Instant::now());
                    output.event(Plain(format!(
                        "{}: {}. All requests wait, for at most {}; no tries are used up.",
                        outage.trouble.name(),
                        outage.why,
                        span(outage.limit.as_secs_f64())
                    )));
                }
                None => {
                    if let Some(since) = since.take() {
                        let lasted = span(since.elapsed().as_secs_f64());
                        output.event(format_args!("The API answers again, after {lasted}."));
                    }
                }
            }
        }
    });
}
