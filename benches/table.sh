#!/usr/bin/env bash
# Runs all measurements and writes benches/README.md. It takes about 20 minutes, because some measurements need real time.
# If wrk is installed, it is the yardstick of the processor time. Nothing else should run at the same time.
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
baselines=$(simulate table_of_baselines)

cat > benches/README.md <<README
# Benchmarks

\`benches/table.sh\` writes this file. Whole jobs run the built binary against \`sigma-bulk sandbox\`, which is another
process on the same machine. Machines are shared and noisy, so that only the ratios count; both sides of a ratio were
measured in one run.

$(head -n 1 <<< "$jobs")

$(sed -n '/^### Goals/,$p' <<< "$jobs")
$(sed '1d; /^### Goals/,$d' <<< "$jobs")
### Parts, by themselves

Medians of criterion, in nanoseconds: 10,000 rows parsed or checked, 20,000 members inserted, 10,000 found, one decision
about a row, one request of the rate search.

\`\`\`
$parts
\`\`\`

### Unknown limits, in virtual time

The rate search and a pacer against simulated APIs, for an hour of run each, including the discovery of the limit. Each
cell has the share of the limit that was reached and the share of the requests that were refused, both in percent. \`!\`
marks a missed goal (95% reached, 1% refused). "told" means that the API sends \`Retry-After\`. The latency varies by 10%.
A bucket of a single token ("burst of 1") is out of reach, because requests that leave evenly spaced do not arrive so.

\`\`\`
$limits
\`\`\`

### Limits that change, in virtual time

As above, at 50 ms of latency. Probes find a rise, and they come as often as the refusals that they cost allow. What is
missed is the time until then, which is longer in windows of a minute.

\`\`\`
$changes
\`\`\`

### Beside simpler methods, in virtual time

The search beside AIMD (a step down of 10% at each refusal, made up for in 30 s) and beside five requests in flight without
a rate limit, at 50 ms of latency. For token buckets that fill within a second, AIMD is as good. For buckets of ten seconds
it has more refused than the goal allows, and in windows it reaches less or has more refused, most of all without
\`Retry-After\`. The search is one mechanism for all of them, because it can't know the kind of limit beforehand.

\`\`\`
$baselines
\`\`\`
README
echo "benches/README.md is written" >&2
