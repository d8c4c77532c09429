#!/usr/bin/env bash
# Throughput over captured streams, each sent at full speed to a fresh server, every byte checked.
#
#   perf/replay.sh [--runs N] [--users all|FILE|N] [--name NAME] [FILE...]
#
#   --runs N     runs of each stream, medians count (5)
#   --users U    who connects: all users that the stream names, a file of ids, or so
#                many of them at random (all)
#   --name NAME  keep the table as perf/results/NAME.md; without it it is only printed
#   FILE         raw lines or gzip; the small stream of tests/data where none is given
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 users=all name="" files=()
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --users) users=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        -*) die "unknown argument $1; see --help" ;;
        *) files+=("$1"); shift ;;
    esac
done
[ ${#files[@]} -gt 0 ] || files=("$ROOT/tests/data/verification-20k.events.gz")
need_two_cores
build
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

measure() { # FILE
    for run in $(seq "$runs"); do
        "$LOADGEN" replay "$1" --spawn --users "$users" --cpu "$LOAD_CPU" \
            --server-cpu "$SERVER_CPU" --log-level warn --json "$scratch/$run.json" >"$scratch/out" ||
            die "$1: $(cat "$scratch/out")"
    done
    middle() { for run in $(seq "$runs"); do figure "$scratch/$run.json" "$1"; done | median; }
    printf '| %s | %s | %s | %s | %s |\n' "$(basename "$1")" "$(figure "$scratch/1.json" events)" \
        "$(figure "$scratch/1.json" users)" "$(human "$(middle eventsPerSecond)")" \
        "$(human "$(middle deliveriesPerSecond)")"
}

report() {
    describe_machine
    printf 'command:  perf/replay.sh --runs %s --users %s\n\n' "$runs" "$users"
    printf '| stream | lines | clients | events/s | deliveries/s |\n|---|---|---|---|---|\n'
    local file
    for file in "${files[@]}"; do measure "$file"; done
}

if [ -n "$name" ]; then
    report | tee "$RESULTS/$name.md"
else
    report
fi
