#!/usr/bin/env bash
# Throughput of the server on one core, with the load on another: every mix, in turn with what
# the kernel alone allows for the same bytes, as medians and ratios.
#
#   perf/pinned.sh [--runs N] [--events N] [--name NAME]
#
#   --runs N     runs of each, medians count (5)
#   --events N   events of a run (2000000)
#   --name NAME  keep the results as perf/results/NAME*.json; without it they are only
#                printed
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 events=2000000 name=
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
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
    "$LOADGEN" pinned --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --runs "$runs" \
        --total-events "$events" --json "$OUT/${name:-pinned}$suffix.json" "$@"
}

report() {
    describe_machine
    printf 'command:  perf/pinned.sh --runs %s --events %s\n\n' "$runs" "$events"
    measure ""
    printf '\nTen times the clients:\n\n'
    measure -1000 --mix verification --mix dense --concurrency-level 1000
}

report
keep "$name"
