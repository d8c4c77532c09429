#!/usr/bin/env bash
# What it costs to keep events for clients that come back: throughput with --resume-events 1000000 over that
# without, the two in turn, every byte checked. Then a crowd that comes back at once during a flood.
#
#   perf/resume.sh [--runs N] [--events N] [--name NAME]
#
#   --runs N     runs of each mix with and without, medians count (5)
#   --events N   events of each run (5000000)
#   --name NAME  keep the results as perf/results/NAME-*.json; without it they are only printed
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 events=5000000 name=""
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
KEEP="--server-arg --resume-events --server-arg 1000000"

verify() { # MIX FILE [ARGUMENT...]
    local mix=$1 file=$2
    shift 2
    "$LOADGEN" verify --spawn --mix "$mix" --total-events "$events" --cpu "$LOAD_CPU" \
        --server-cpu "$SERVER_CPU" --log-level warn --json "$file" "$@" >"$SCRATCH/out" ||
        die "$mix: $(cat "$SCRATCH/out")"
}

measure() { # MIX
    for run in $(seq "$runs"); do
        verify "$1" "$SCRATCH/without-$run.json"
        # shellcheck disable=SC2086 # several words
        verify "$1" "$SCRATCH/with-$run.json" $KEEP
    done
    local without with before after
    without=$(middle eventsPerSecond "$SCRATCH"/without-*.json) with=$(middle eventsPerSecond "$SCRATCH"/with-*.json)
    before=$(middle serverPeakBytes "$SCRATCH"/without-*.json) after=$(middle serverPeakBytes "$SCRATCH"/with-*.json)
    one_array "$SCRATCH"/with-*.json >"$OUT/${name:-resume}-$1.json"
    printf '| %s | %s | %s | %s | %s |\n' "$1" "$(human "$without")" "$(human "$with")" \
        "$(ratio "$with" "$without")" "$(awk -v a="$after" -v b="$before" 'BEGIN { printf "%.0f MB", (a - b) / 1e6 }')"
}

describe_machine
printf 'command:  perf/resume.sh --runs %s --events %s\n\n' "$runs" "$events"
printf '| mix | without, events/s | with, events/s | ratio | memory |\n|---|---|---|---|---|\n'
for mix in verification dense even private broadcast feed; do measure "$mix"; done
printf '\n'
"$LOADGEN" fairness --spawn --returning 1000 --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level warn \
    --json "$OUT/${name:-resume}-crowd.json" || [ $? -eq 3 ] || die "a wait exceeded the bound"
keep "$name"
