#!/usr/bin/env bash
# Latency of the server on one core, with the load on another, in turn with the smallest
# possible relay on the same core.
#
#   perf/latency.sh [--runs N] [--seconds N] [--name NAME]
#
#   --runs N     runs of each, medians count (5)
#   --seconds N  length of a run (5)
#   --name NAME  keep the results as perf/results/NAME-*.json; without it they are only
#                printed
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 seconds=5 name=
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --seconds) seconds=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
build
prepare "$name"

measure() { # SUFFIX ARGUMENT...
    local suffix=$1
    shift
    # The load generator is not to print while it measures.
    printf 'measuring %s: %s runs of %s s, server and relay\n' "$suffix" "$runs" "$seconds" >&2
    "$LOADGEN" latency --spawn --relay --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" \
        --runs "$runs" --duration "$seconds" --log-level warn \
        --json "$OUT/${name:-latency}-$suffix.json" "$@"
    printf '\n'
}

report() {
    describe_machine
    printf 'command:  perf/latency.sh --runs %s --seconds %s\n\n' "$runs" "$seconds"
    measure private-1000 --rate 1000 --busy
    measure private-20000 --rate 20000 --busy
    measure broadcast-1000 --rate 1000 --broadcast --busy
    measure broadcast-5000 --rate 5000 --broadcast --busy
    printf 'With --busy-poll:\n\n'
    measure busy-poll-1000 --rate 1000 --busy --server-arg --busy-poll
    measure busy-poll-20000 --rate 20000 --busy --server-arg --busy-poll
    printf 'With --busy-poll, and a relay that spins as well:\n\n'
    measure both-busy-1000 --rate 1000 --busy --server-arg --busy-poll --busy-relay
    measure both-busy-20000 --rate 20000 --busy --server-arg --busy-poll --busy-relay
}

report
keep "$name"
