#!/usr/bin/env bash
# What a shared stream costs: throughput of one server over Redis beside one without a stream, in turn on the
# same cores; latency beside the round trip of an XADD of the same size; the speed of a server that catches up.
#
#   perf/cluster.sh [--runs N] [--events N] [--seconds N] [--behind N] [--name NAME]
#
#   --runs N     runs of each, medians count (5)
#   --events N   events of a run of throughput (4000000)
#   --seconds N  length of a run of latency (5)
#   --behind N   events by which a server is behind that catches up (10000000)
#   --name NAME  keep the results as perf/results/NAME.json; without it they are only printed. perf/tables.py makes
#                a page of perf/results/cluster.json
#
# Uses redis-server, redis-cli and redis-benchmark. Redis shares a core with the load; SERVER_CPU and LOAD_CPU
# choose the cores (0 and 1), REDIS_CPU another one for Redis.

set -euo pipefail
. "$(dirname "$0")/lib.sh"

REDIS_CPU=${REDIS_CPU:-$LOAD_CPU}
runs=5 events=4000000 seconds=5 behind=10000000 name=""
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --seconds) seconds=$(value_of "$@"); shift 2 ;;
        --behind) behind=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
for program in redis-server redis-cli redis-benchmark; do
    command -v "$program" >/dev/null || die "$program is missing: apt-get install redis-server redis-tools"
done
build
SERVER=$(dirname "$LOADGEN")/eventserver
prepare "$name"
folder=$(mktemp -d "$SCRATCH/redis-XXXXXX")
pids=()
at_exit() {
    local pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}

# In the order of the tables: without a stream; Redis in memory; with its append-only file.
MODES=(none memory everysec always)
PORT=${REDIS_PORT:-16379}

cli() { redis-cli -p "$PORT" "$@"; }

# start_redis MODE: a new, empty Redis.
start_redis() {
    local options=(--appendonly no) tries=0
    [ "$1" = memory ] || options=(--appendonly yes --appendfsync "$1")
    rm -rf "${folder:?}"/*
    taskset -c "$REDIS_CPU" redis-server --port "$PORT" --bind 127.0.0.1 --save "" --dir "$folder" \
        "${options[@]}" >"$SCRATCH/redis.log" 2>&1 &
    redis=$!
    pids+=("$redis")
    until [ "$(cli ping 2>/dev/null)" = PONG ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 500 ] || ! kill -0 "$redis" 2>/dev/null; then
            die "Redis does not start on port $PORT: $(tail -n 3 "$SCRATCH/redis.log")"
        fi
        sleep 0.02
    done
}

stop_redis() {
    kill -KILL "$redis"
    wait "$redis" 2>/dev/null || true
}

STREAM="redis://127.0.0.1:$PORT/0?stream=events"

# run_with MODE JSON ARGUMENT...: a load against a pinned server, with a stream of its own unless MODE is none.
run_with() {
    local mode=$1 json=$2 flags=()
    shift 2
    if [ "$mode" != none ]; then
        start_redis "$mode"
        flags=(--server-arg --stream --server-arg "$STREAM" --server-arg --stream-create)
    fi
    "$LOADGEN" "$@" --spawn --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level warn "${flags[@]}" \
        --json "$json" >"$SCRATCH/out" || die "$*: $(cat "$SCRATCH/out")"
}

figures=()
# record NAME VALUE: one figure of the result.
record() { figures+=("\"$1\": $2"); }

throughput() {
    local run mode base=""
    for run in $(seq "$runs"); do
        for mode in "${MODES[@]}"; do
            run_with "$mode" "$SCRATCH/throughput-$mode-$run.json" verify --mix even --total-events "$events"
            [ "$mode" = none ] || stop_redis
        done
    done
    printf '| Redis | events/s | beside none |\n|---|---|---|\n'
    for mode in "${MODES[@]}"; do
        local rate
        rate=$(middle eventsPerSecond "$SCRATCH/throughput-$mode-"*.json)
        base=${base:-$rate}
        record "${mode}EventsPerSecond" "$rate"
        printf '| %s | %s | %s |\n' "$mode" "$(human "$rate")" "$(ratio "$rate" "$base")"
    done
}

# entry_bytes: the length of the newest entry.
entry_bytes() {
    cli eval "local e = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1); return #e[1][2][2]" 1 events
}

# xadd_micros BYTES: the median round trip of an XADD with one field of this length, in µs.
xadd_micros() {
    local text
    text=$(head -c "$1" /dev/zero | tr '\0' x)
    taskset -c "$SERVER_CPU" redis-benchmark -p "$PORT" -c 1 -n 20000 --csv XADD measured '*' b "$text" |
        awk -F '","' 'END { print $5 * 1000 }'
}

latency() {
    local run mode
    for run in $(seq "$runs"); do
        for mode in none everysec; do
            run_with "$mode" "$SCRATCH/latency-$mode-$run.json" latency --rate 1000 --duration "$seconds" --busy
            if [ "$mode" != none ]; then
                entry_bytes >"$SCRATCH/entry-bytes"
                xadd_micros "$(cat "$SCRATCH/entry-bytes")" >"$SCRATCH/xadd-$run"
                stop_redis
            fi
        done
    done
    local base p50 p99 xadd
    base=$(middle p50 "$SCRATCH"/latency-none-*.json)
    p50=$(middle p50 "$SCRATCH"/latency-everysec-*.json)
    p99=$(middle p99 "$SCRATCH"/latency-everysec-*.json)
    xadd=$(cat "$SCRATCH"/xadd-* | median)
    record withoutStreamP50Us "$base"
    record p50Us "$p50"
    record p99Us "$p99"
    record xaddP50Us "$xadd"
    record entryBytes "$(cat "$SCRATCH/entry-bytes")"
    printf 'Latency at 1,000 events/s, from when each was due: p50 %s µs, p99 %s µs; p50 without a stream %s µs.\n' \
        "$p50" "$p99" "$base"
    printf 'An XADD of %s bytes takes %s µs (median): p50 is %s round trips.\n' \
        "$(cat "$SCRATCH/entry-bytes")" "$xadd" "$(ratio "$p50" "$xadd")"
}

# start_server NAME: a server of the stream on SERVER_CPU; its log is SCRATCH/NAME.log, ADMIN its admin address.
start_server() {
    local tries=0
    : >"$SCRATCH/$1.ready"
    taskset -c "$SERVER_CPU" "$SERVER" --stream "$STREAM" --stream-create --event-listen 0 --client-listen 0 \
        --admin-listen 0 >"$SCRATCH/$1.ready" 2>"$SCRATCH/$1.log" &
    server=$!
    pids+=("$server")
    until [ -s "$SCRATCH/$1.ready" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 6000 ] || ! kill -0 "$server" 2>/dev/null; then
            die "no server: $(cat "$SCRATCH/$1.log")"
        fi
        sleep 0.02
    done
    ADMIN=$(sed -n 's/.* admin on //p' "$SCRATCH/$1.ready")
}

stop_server() {
    kill -KILL "$server"
    wait "$server" 2>/dev/null || true
}

awaited() {
    exec 3<>"/dev/tcp/${ADMIN%:*}/${ADMIN##*:}"
    printf 'GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    sed -n 's/.*"awaited":\([0-9]*\).*/\1/p' <&3 | head -n 1
    exec 3>&-
}

catch_up() {
    local run start end rate
    for run in $(seq "$runs"); do
        start_redis everysec
        # It creates the stream, and sleeps while another one takes the events.
        start_server sleeper
        kill -STOP "$server"
        "$LOADGEN" verify --mix even --total-events "$behind" --spawn --cpu "$LOAD_CPU" \
            --server-cpu "$SERVER_CPU" --log-level warn --server-arg --stream --server-arg "$STREAM" \
            >"$SCRATCH/out" || die "$(cat "$SCRATCH/out")"
        start=$(date +%s%N)
        kill -CONT "$server"
        until [ "$(awaited)" = $((behind + 1)) ]; do sleep 0.01; done
        end=$(date +%s%N)
        awk -v n="$behind" -v ns=$((end - start)) 'BEGIN { print n / ns * 1e9 }' >>"$SCRATCH/resumed"
        stop_server
        # A server that starts reads the whole stream.
        start_server late
        sed -n 's/.*read in \([0-9]*\) ms.*/\1/p' "$SCRATCH/late.log" | head -n 1 |
            awk -v n="$behind" '{ print n / ($1 ? $1 : 1) * 1000 }' >>"$SCRATCH/started"
        stop_server
        stop_redis
    done
    for how in started resumed; do
        rate=$(median <"$SCRATCH/$how")
        record "${how}EventsPerSecond" "$rate"
        printf 'A server that has %s reads %s events/s, %s events behind.\n' "$how" "$(human "$rate")" "$behind"
    done
}

report() {
    describe_machine
    printf 'redis:    %s\n' "$(redis-server --version | sed -n 's/.* v=\([^ ]*\) .*/\1/p')"
    printf 'command:  perf/cluster.sh --runs %s --events %s --seconds %s --behind %s\n\n' \
        "$runs" "$events" "$seconds" "$behind"
    printf 'Throughput of one server, even mix:\n\n'
    throughput
    printf '\n'
    latency
    printf '\n'
    catch_up
}

# The figures, with how and where they were measured, in the order of the report.
document() {
    local separator=""
    printf '{\n  "schema": 1,\n  "kind": "cluster",\n'
    describe_machine | awk '{ name = $1; sub(/:$/, "", name); sub(/^[^ ]* */, ""); gsub(/["\\]/, "")
        printf "  \"%s\": \"%s\",\n", name, $0 }'
    printf '  "redis": "%s",\n' "$(redis-server --version | sed -n 's/.* v=\([^ ]*\) .*/\1/p')"
    printf '  "settings": { "runs": %s, "events": %s, "seconds": %s, "behind": %s },\n  "figures": {' \
        "$runs" "$events" "$seconds" "$behind"
    for figure in "${figures[@]}"; do
        printf '%s\n    %s' "$separator" "$figure"
        separator=,
    done
    printf '\n  }\n}\n'
}

report
document >"$OUT/${name:-cluster}.json"
keep "$name"
