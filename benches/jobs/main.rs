//! Benchmarks of whole jobs against the sandbox. Run them with `cargo bench --bench jobs`.
//!
//! They print Markdown tables and, at the end, the project's goals next to the measured values. The machine
//! may be shared and noisy, so the ratios matter: the tool compared with one-by-one processing, a bare
//! reqwest loop and wrk (if it is installed). All of them send the same update to the same sandbox, which is
//! a separate process. CPU times and peak memory come from Linux's `/proc`. `benches/table.sh` creates
//! benches/README.md from the output.

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
    // The bare reqwest client needs a TLS provider, although TLS is not used here.
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
