//! `sandbox`: serves the simulated API until Ctrl-C.

use super::RunError;
use crate::exit_code;
use crate::output::{Output, count};
use crate::sandbox::{Sandbox, SandboxArgs};

pub(super) async fn serve(args: &SandboxArgs, output: &Output) -> Result<u8, RunError> {
    let sandbox = Sandbox::start(args.addr(), args.config()?).await?;
    output.note(format_args!(
        "The sandbox serves {} on {url}; Ctrl-C ends it. Use it with --base-url {url}.",
        count(sandbox.member_count() as u64, "member"),
        url = sandbox.url(),
    ));
    sandbox
        .serve_until(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    Ok(exit_code::SUCCESS)
}
