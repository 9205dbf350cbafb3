//! Measures whether `--lookup auto` chooses the mode that needs fewer requests.

use serde_json::Value;

use crate::harness::{Bench, Goals, Sandbox};

/// The smallest number of rows for the 5% goal. With fewer, a single request is more than 5% of a run.
const FEW: usize = 10;

/// Counts the requests of a run, without token and whoami, by mode, rows and organization size.
pub(crate) fn grid(bench: &mut Bench, goals: &mut Goals) {
    println!("\n### Requests to look up: `directory` / `each` / `auto`\n");
    let sizes = [100, 1_000, 10_000, 100_000];
    println!("| rows | 100 members | 1,000 | 10,000 | 100,000 |\n|---:|---:|---:|---:|---:|");
    let sandboxes: Vec<Sandbox> = sizes
        .iter()
        .map(|size| Sandbox::start(*size, &[]))
        .collect();
    let (mut worst, mut most_extra) = (0.0_f64, 0.0_f64);
    for rows in [1, 2, 5, 10, 20, 50, 90, 200, 1_000, 5_000, 20_000] {
        let mut cells = Vec::new();
        for (size, sandbox) in sizes.iter().zip(&sandboxes) {
            if rows > *size {
                cells.push(String::new());
                continue;
            }
            // The rows are spread evenly over the organization, so they are not all on the first page.
            let csv = bench.csv_of((0..rows).map(|n| (2 * n + 1) * size / (2 * rows) + 1), "L");
            let mut requests = |mode: &str| {
                let more = ["--dry-run", "--rate", "0", "--lookup", mode];
                let took = bench.update(&sandbox.url, &csv, &more);
                let total = took
                    .summary
                    .pointer("/requests/total")
                    .and_then(Value::as_f64);
                total.unwrap_or(f64::NAN) - 2.0
            };
            let (directory, each, auto) =
                (requests("directory"), requests("each"), requests("auto"));
            // The other requests of a whole run are one update per row, the token and whoami.
            let others = rows as f64 + 2.0;
            let over = (auto + others) / (directory.min(each) + others) - 1.0;
            if rows >= FEW {
                worst = worst.max(over);
            }
            most_extra = most_extra.max(auto - directory.min(each));
            cells.push(format!("{directory:.0} / {each:.0} / {auto:.0}"));
        }
        println!("| {rows} | {} |", cells.join(" | "));
    }
    goals.add(
        "`--lookup auto`: within 5% of the requests of the better mode",
        format!(
            "at most {:.1}% more from {FEW} rows on; of fewer, at most {most_extra:.0} request more: the first page, which tells",
            worst * 100.0
        ),
        worst <= 0.05 && most_extra <= 1.0,
    );
}
