#!/usr/bin/env bash
# What operators' HTTP costs: throughput and latency without --admin-listen, with it, and with it while /metrics is
# scraped once a second, in turn on the same cores. Ends with the targets, and whether each is met. Takes about four
# minutes.
#
#   perf/admin.sh [--runs N] [--events N] [--seconds N] [--name NAME]
#
#   --runs N     runs of each, medians count (9)
#   --events N   events of a run of throughput (20000000)
#   --seconds N  length of a run of latency (5)
#   --name NAME  keep the results as perf/results/NAME-*.json; without it they are only printed
#
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1); the scraper runs beside the load. ADMIN_PORT is the
# port for operators (19091).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=9 events=20000000 seconds=5 name=""
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --seconds) seconds=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
ADMIN_PORT=${ADMIN_PORT:-19091}
SCRAPER_PID=
need_two_cores
build
prepare "$name"
at_exit() { stop_scraping; }

MODES=(off on scraped)

# scrape: asks for the metrics once a second on one connection, and appends the length of each answer to
# SCRATCH/scrapes. Starts no process meanwhile: it shares the core with the load.
scrape() {
    local line length body
    exec 4<> <(:)
    until { exec 3<>"/dev/tcp/127.0.0.1/$ADMIN_PORT"; } 2>/dev/null; do read -r -t 0.1 -u 4 || true; done
    while printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3; do
        while IFS= read -r -u 3 line && line=${line%$'\r'} && [ -n "$line" ]; do
            case ${line,,} in content-length:*) length=${line#*: } ;; esac
        done
        LC_ALL=C IFS= read -r -N "$length" -u 3 body || return 0
        printf '%s\n' "${#body}" >>"$SCRATCH/scrapes"
        read -r -t 1 -u 4 || true
    done
}

start_scraping() {
    scrape &
    SCRAPER_PID=$!
    taskset -cp "$LOAD_CPU" "$SCRAPER_PID" >/dev/null
}

stop_scraping() {
    [ -n "$SCRAPER_PID" ] || return 0
    kill "$SCRAPER_PID" 2>/dev/null || true
    wait "$SCRAPER_PID" 2>/dev/null || true
    SCRAPER_PID=
}

# one_run MODE JSON COMMAND...: a run of loadgen against a pinned server.
one_run() {
    local mode=$1 json=$2 flags=()
    shift 2
    [ "$mode" = off ] || flags=(--server-arg --admin-listen --server-arg "$ADMIN_PORT")
    [ "$mode" != scraped ] || start_scraping
    "$LOADGEN" "$@" --spawn --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level warn "${flags[@]}" \
        --json "$json" >"$SCRATCH/out" || die "$*: $(cat "$SCRATCH/out")"
    stop_scraping
}

# runs_of NAME COMMAND...: all modes in turn, each round beginning with the next one.
runs_of() {
    local what=$1 run at mode
    shift
    for run in $(seq "$runs"); do
        for at in 0 1 2; do
            mode=${MODES[$(((run + at) % 3))]}
            one_run "$mode" "$SCRATCH/$what-$mode-$run.json" "$@"
        done
    done
    for mode in "${MODES[@]}"; do
        one_array "$SCRATCH/$what-$mode-"*.json >"$OUT/${name:-admin}-$what-$mode.json"
    done
}

# The server's core is the bottleneck: its processor time for an event says what the rate does, with less of the
# noise of the machine.
throughput() { # MIX
    local mix=$1 mode base="" rate nanos base_nanos=""
    runs_of "throughput-$mix" verify --mix "$mix" --total-events "$events"
    for mode in "${MODES[@]}"; do
        rate=$(middle eventsPerSecond "$SCRATCH/throughput-$mix-$mode-"*.json)
        nanos=$(middle serverCpuSeconds "$SCRATCH/throughput-$mix-$mode-"*.json |
            awk -v n="$events" '{ printf "%.2f", $1 / n * 1e9 }')
        base=${base:-$rate} base_nanos=${base_nanos:-$nanos}
        printf '| %s | %s | %s | %s | %s | %s |\n' "$mix" "$mode" "$(human "$rate")" "$(thousandths "$rate" "$base")" \
            "$nanos" "$(thousandths "$nanos" "$base_nanos")"
        [ "$mode" = off ] || target "processor time for an event, $mix, $mode beside off" \
            "$(thousandths "$nanos" "$base_nanos")" "<=" 1.01
    done
}

thousandths() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

latency() {
    local mode base="" p50 p99
    runs_of latency latency --rate 1000 --duration "$seconds" --busy
    for mode in "${MODES[@]}"; do
        p50=$(middle p50 "$SCRATCH/latency-$mode-"*.json)
        p99=$(middle p99 "$SCRATCH/latency-$mode-"*.json)
        base=${base:-$p99}
        printf '| %s | %s | %s | %s |\n' "$mode" "$p50" "$p99" "$(ratio "$p99" "$base")"
        # Medians of p99 differ by up to a tenth between equal servers.
        [ "$mode" = off ] || target "latency p99, $mode beside off" "$(ratio "$p99" "$base")" "<=" 1.10
    done
}

report() {
    describe_machine
    printf 'command:  perf/admin.sh --runs %s --events %s --seconds %s\n\n' "$runs" "$events" "$seconds"
    printf '| mix | operators | events/s | beside off | CPU, ns/event | beside off |\n|---|---|---|---|---|---|\n'
    throughput even
    throughput private
    printf '\nLatency at 1,000 events/s, from when each was due, in µs:\n\n'
    printf '| operators | p50 | p99 | p99 beside off |\n|---|---|---|---|\n'
    latency
    target "answers of /metrics" "$(wc -l <"$SCRATCH/scrapes" 2>/dev/null || echo 0)" ">=" $((3 * runs))
    targets
}

report
keep "$name"
