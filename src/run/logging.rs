//! The log: its level, its destination, and the escaping of control characters.

use std::io::{self, Write};
use std::sync::Mutex;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::RunError;
use crate::output::{Output, Plain, plain_json};
use crate::settings::{LogFormat, Settings};

pub(super) fn init(settings: &Settings, output: &Output) -> Result<(), RunError> {
    let level: LevelFilter = settings.log_level.parse().unwrap_or(LevelFilter::WARN);
    // Only the events of this tool: those of HTTP libraries contain URLs, and URLs contain emails.
    let targets = Targets::new().with_target("sigma_bulk", level);
    let registry = tracing_subscriber::registry().with(targets);
    // Any field may contain text from a server, whose control characters could move the cursor or forge a line.
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
            let layer = layer.with_ansi(false);
            match settings.log_format {
                LogFormat::Text => registry
                    .with(layer.with_writer(Mutex::new(file)).fmt_fields(fields))
                    .init(),
                LogFormat::Json => registry
                    .with(layer.with_writer(Mutex::new(JsonLines(file))).json())
                    .init(),
            }
        }
        None => {
            let output = output.clone();
            let layer = layer.with_ansi(output.stderr_has_color());
            match settings.log_format {
                LogFormat::Text => registry
                    .with(
                        layer
                            .with_writer(move || output.clone())
                            .fmt_fields(fields)
                            .without_time()
                            .with_target(false),
                    )
                    .init(),
                LogFormat::Json => registry
                    .with(layer.with_writer(move || JsonLines(output.clone())).json())
                    .init(),
            }
        }
    }
    Ok(())
}

/// Escapes what JSON itself does not. Each write is one whole event.
struct JsonLines<W>(W);

impl<W: Write> Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = plain_json(&String::from_utf8_lossy(bytes));
        self.0.write_all(lines.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
