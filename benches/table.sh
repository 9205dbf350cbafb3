#!/usr/bin/env bash
# Runs all measurements and makes benches/README.md of them. It takes about 20 minutes, half of them in real time on
# purpose; wrk, if it is installed, is the yardstick of the processor time. Nothing else should run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

cargo build --release --benches 2>&1 | tail -n 1 >&2
jobs=$(cargo bench --quiet --bench jobs)
parts=$(cargo bench --quiet --bench parts -- --output-format bencher 2>/dev/null | grep '^test ')
simulate() {
    cargo test --quiet --release --lib "simulation::$1" -- --ignored --nocapture --test-threads 1 |
        sed -n '/goal missed/,/^\.$/p' | sed 's/ *$//; /^\.\?$/d'
}
limits=$(simulate table_of_limits)
changes=$(simulate table_of_changes)

cat > benches/README.md <<README
# Measured

Made by \`benches/table.sh\`; not written by hand. Whole jobs are the built binary against \`sigma-bulk sandbox\`, which is
another process on the same machine. Machines are shared and noisy: what counts are the ratios, whose two sides were
measured in one run.

$(head -n 1 <<< "$jobs")

$(sed -n '/^### Goals/,$p' <<< "$jobs")
$(sed '1d; /^### Goals/,$d' <<< "$jobs")
### Parts, by themselves

Medians of criterion, in nanoseconds: 10,000 rows parsed or checked, 20,000 members inserted, 10,000 found, one
difference, one request of the rate's calculator.

\`\`\`
$parts
\`\`\`

### Limits that it is not told, in virtual time

The search for the rate and a pacer against simulated APIs, the discovery included: an hour of run each. In
each cell: the share of the limit that was reached and the share of the requests that was refused, both in percent; \`!\`
is where the goal (95% reached, 1% refused) is missed. "told" is with \`Retry-After\`; the latency varies by 10%. A bucket that holds a single token ("burst of 1") is beyond it: requests that are evenly spaced when
they leave are not when they arrive.

\`\`\`
$limits
\`\`\`

### Limits that change, in virtual time

As above, at 50 ms of latency. Rises are found by probes, and these come as often as the refusals they cost allow. So what
is missed is the time until then, and more of it in windows of a minute.

\`\`\`
$changes
\`\`\`
README
echo "benches/README.md is made anew" >&2
