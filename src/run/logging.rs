//! The log: who may write to it, where it goes, and nothing in it that a terminal would obey.

use std::sync::Mutex;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::RunError;
use crate::output::{Output, Plain, has_terminal};
use crate::settings::{LogFormat, Settings};

pub(super) fn init(settings: &Settings, output: &Output) -> Result<(), RunError> {
    let level: LevelFilter = settings.log_level.parse().unwrap_or(LevelFilter::WARN);
    // Only this tool's own events: those of HTTP libraries hold URLs, and URLs hold emails.
    let targets = Targets::new().with_target("sigma_bulk", level);
    let registry = tracing_subscriber::registry().with(targets);
    // What a server says may stand in any field: its control characters could move the cursor or forge a line. (JSON has
    // escapes of its own.)
    let fields = debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", Plain(value)),
            name => write!(writer, "{name}={}", Plain(value)),
        }
    })
    .delimited(" ");
    let layer = tracing_subscriber::fmt::layer();
    match &settings.log_file {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(path).map_err(|source| {
                RunError::Refused(format!(
                    "--log-file {} can't be opened: {source}",
                    path.display()
                ))
            })?;
            let layer = layer.with_writer(Mutex::new(file)).with_ansi(false);
            match settings.log_format {
                LogFormat::Text => registry.with(layer.fmt_fields(fields)).init(),
                LogFormat::Json => registry.with(layer.json()).init(),
            }
        }
        None => {
            let output = output.clone();
            let colour =
                has_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let layer = layer.with_writer(move || output.clone()).with_ansi(colour);
            match settings.log_format {
                LogFormat::Text => registry
                    .with(layer.fmt_fields(fields).without_time().with_target(false))
                    .init(),
                LogFormat::Json => registry.with(layer.json()).init(),
            }
        }
    }
    Ok(())
}
