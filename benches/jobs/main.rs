//! Whole jobs against the sandbox, side by side in one run: `cargo bench --bench jobs`.
//!
//! Prints tables in Markdown, and at the end the project's goals beside what was measured. The machine may be shared
//! and noisy, so that what counts are the ratios: the tool beside one-by-one processing, a bare reqwest loop, and wrk
//! (if it is installed), all sending the same update to the same sandbox, which is another process. Processor times
//! and peaks of memory are Linux' (`/proc`). `benches/table.sh` makes benches/README.md of it.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "it is a benchmark"
)]

mod cost;
mod harness;
mod lookups;
mod pace;

use harness::{Bench, Goals};

fn main() {
    // The bare reqwest's TLS, which nobody uses here, must have a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut bench, mut goals) = (Bench::new(), Goals::default());
    println!("{}\n", harness::machine());
    cost::a_row(&mut bench, &mut goals);
    cost::memory(&mut bench, &mut goals);
    cost::start_up(&bench, &mut goals);
    pace::latency(&mut bench, &mut goals);
    pace::rate(&mut bench, &mut goals);
    pace::limits(&mut bench);
    lookups::grid(&mut bench, &mut goals);
    goals.print();
}
