#!/usr/bin/env bash
# A mixed load with clients and sources that come and go, for as long as asked, the server on one
# core and the load on another: memory, descriptors, connections and latency over time.
#
#   perf/soak.sh [--minutes N] [--every SECONDS] [--name NAME] [-- ARGUMENT...]
#
#   --minutes N      how long (30); the exit status is 1 when memory grew or anything was wrong
#   --every SECONDS  from one row to the next (10)
#   --name NAME      keep the result as perf/results/NAME.json; without it it is only printed
#   ARGUMENT...      further arguments for `loadgen soak`
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

minutes=30 every=10 name="" extra=()
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=$(value_of "$@"); shift 2 ;;
        --every) every=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        --) shift; extra=("$@"); break ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
build
prepare "$name"

report() {
    describe_machine
    printf 'command:  perf/soak.sh --minutes %s --every %s' "$minutes" "$every"
    [ ${#extra[@]} -eq 0 ] || printf ' -- %s' "${extra[*]}"
    printf '\n\n'
    "$LOADGEN" soak --spawn --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --minutes "$minutes" \
        --every "$every" --log-level warn \
        --json "$OUT/${name:-soak}.json" "${extra[@]}"
}

status=0
report || status=$?
keep "$name"
exit "$status"
