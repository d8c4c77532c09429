#!/usr/bin/env bash
# A server built with a profile of itself: builds it with counters, lets `loadgen` train it, builds it
# again with what was counted, and measures processor time beside that of the usual build, in turn.
#
#   perf/pgo.sh [--runs N] [--events N]
#
#   --runs N     paired runs of each mix, medians count (7)
#   --events N   events of a run (2000000)
#
# The server is left in target/pgo/release/eventserver. Needs llvm-profdata, of rustup
# (`rustup component add llvm-tools`) or of the distribution; LLVM_PROFDATA names another one. It has to
# be as new as the LLVM of rustc.
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

RUNS=7 EVENTS=2000000
while [ $# -gt 0 ]; do
    case $1 in
        --runs) RUNS=$(value_of "$@"); shift 2 ;;
        --events) EVENTS=$(value_of "$@"); shift 2 ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
MIXES="even dense private broadcast verification"

find_profdata() {
    local name
    for name in "${LLVM_PROFDATA:-}" \
        "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata" \
        "$(command -v llvm-profdata || true)"; do
        if [ -x "$name" ]; then
            printf '%s' "$name"
            return
        fi
    done
    die "llvm-profdata is missing: rustup component add llvm-tools"
}

# server_in DIR FLAGS: builds the server alone with these compiler flags, beside the load generator.
server_in() {
    RUSTFLAGS="${RUSTFLAGS:-} $2" cargo build --release --locked --quiet --no-default-features \
        --bin eventserver --target-dir "$1" || die "the build with $2 failed"
    cp "$LOADGEN" "$1/release/loadgen"
}

# run DIR MIX FILE: one verified run of the server in DIR.
run() {
    "$1/release/loadgen" verify --spawn --mix "$2" --total-events "$EVENTS" \
        --server-cpu "$SERVER_CPU" --cpu "$LOAD_CPU" --json "$3" >"$3.log" ||
        { cat "$3.log" >&2; die "a run of $2 failed"; }
}

need_two_cores
PROFDATA=$(find_profdata)
build
prepare pgo
describe_machine
PROFILES=$(realpath "$SCRATCH")/profiles

server_in target/pgo-training "-Cprofile-generate=$PROFILES"
for mix in $MIXES; do
    run target/pgo-training "$mix" "$SCRATCH/training.json"
done
"$PROFDATA" merge -o "$OUT/eventserver.profdata" "$PROFILES" ||
    die "$PROFDATA cannot read the profiles; it may be older than the LLVM of rustc"
server_in target/pgo "-Cprofile-use=$(realpath "$OUT/eventserver.profdata")"
server_in target/pgo-without ""

printf '\n%-14s %12s %12s %8s\n' mix "without, s" "with, s" ratio
for mix in $MIXES; do
    for ((i = 0; i < RUNS; i++)); do
        for build in pgo-without pgo; do
            run "target/$build" "$mix" "$SCRATCH/run.json"
            figure "$SCRATCH/run.json" serverCpuSeconds >>"$SCRATCH/$build-$mix"
        done
    done
    without=$(median <"$SCRATCH/pgo-without-$mix") with=$(median <"$SCRATCH/pgo-$mix")
    printf '%-14s %12.3f %12.3f %8s\n' "$mix" "$without" "$with" "$(ratio "$with" "$without")"
done
