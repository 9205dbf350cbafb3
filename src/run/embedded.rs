//! The sandbox of `--env sandbox`, which runs inside this process.

use std::io;

use super::RunError;
use crate::sandbox::{self, Sandbox};

/// A sandbox on a thread of its own, so that it does not slow down the run.
pub(super) struct EmbeddedSandbox {
    pub(super) url: String,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl EmbeddedSandbox {
    pub(super) fn start() -> Result<Self, RunError> {
        let (started, is_started) = std::sync::mpsc::channel();
        let (end, is_ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let serve = async {
                let sandbox =
                    Sandbox::start(([127, 0, 0, 1], 0).into(), sandbox::Config::default()).await?;
                let _ = started.send(Ok(sandbox.url()));
                sandbox.serve_until(is_ended).await;
                Ok(())
            };
            let served = runtime
                .map_err(RunError::Runtime)
                .and_then(|runtime| runtime.block_on(serve));
            if let Err(error) = served {
                let _ = started.send(Err(error));
            }
        });
        let url = is_started
            .recv()
            .map_err(|error| RunError::Runtime(io::Error::other(error)))??;
        Ok(Self { url, _end: end })
    }
}
