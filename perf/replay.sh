#!/usr/bin/env bash
# Throughput over captured streams, each sent at full speed to a fresh server, every byte checked.
#
#   perf/replay.sh [--runs N] [--users all|FILE|N] [--name NAME] [FILE...]
#
#   --runs N     runs of each stream, medians count (5)
#   --users U    who connects: all users that the stream names, a file of ids, or so
#                many of them at random (all)
#   --name NAME  keep the results as perf/results/NAME-STREAM.json; without it they are
#                only printed
#   FILE         raw lines or gzip; a small stream of tests/data where none is given
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
        *) files+=("$(from_caller "$1")"); shift ;;
    esac
done
[ ${#files[@]} -gt 0 ] || files=(tests/data/verification-20k.events.gz)
# A file of ids, or a number of users.
case $users in all) ;; *[!0-9]*) users=$(from_caller "$users") ;; esac
need_two_cores
build
prepare "$name"

measure() { # FILE
    for run in $(seq "$runs"); do
        "$LOADGEN" replay "$1" --spawn --users "$users" --cpu "$LOAD_CPU" \
            --server-cpu "$SERVER_CPU" --log-level warn --json "$SCRATCH/$run.json" >"$SCRATCH/out" ||
            die "$1: $(cat "$SCRATCH/out")"
    done
    local results=()
    for run in $(seq "$runs"); do results+=("$SCRATCH/$run.json"); done
    local stream
    stream=$(basename "$1")
    one_array "${results[@]}" >"$OUT/${name:-replay}-${stream%%.*}.json"
    printf '| %s | %s | %s | %s | %s |\n' "$stream" "$(figure "$SCRATCH/1.json" events)" \
        "$(figure "$SCRATCH/1.json" users)" "$(human "$(middle eventsPerSecond "${results[@]}")")" \
        "$(human "$(middle deliveriesPerSecond "${results[@]}")")"
}

report() {
    describe_machine
    printf 'command:  perf/replay.sh --runs %s --users %s\n\n' "$runs" "$users"
    printf '| stream | lines | clients | events/s | deliveries/s |\n|---|---|---|---|---|\n'
    local file
    for file in "${files[@]}"; do measure "$file"; done
}

report
keep "$name"
