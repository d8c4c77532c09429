#!/usr/bin/env bash
# The same fan-out over eventserver, Redis pub/sub and NATS: 100 clients, one-to-one messages and
# broadcasts to all, each server on the same core in turn, judged by the same load generator on
# another core. eventserver gets its events in shuffled batches and has to order them; the others
# get them in order.
#
#   perf/compare.sh [--runs N] [--events N] [--broadcasts N] [--name NAME]
#
#   --runs N        runs of each, medians count (5)
#   --events N      one-to-one messages of a run (1000000)
#   --broadcasts N  broadcasts of a run, each to 100 clients (200000)
#   --name NAME     keep the results as perf/results/NAME-*.json; without it they are only
#                   printed
#
# Redis and NATS come from the distribution: apt-get install redis-server nats-server. One that is
# missing is left out, which is said.
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 events=1000000 broadcasts=200000 name=
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --broadcasts) broadcasts=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
build
prepare "$name"
# In a file, as parts of this script run in subshells.
stop_server() {
    [ -s "$SCRATCH/pid" ] || return 0
    local pid
    pid=$(cat "$SCRATCH/pid")
    kill "$pid" 2>/dev/null || true
    # It is a child of this shell or of a subshell that has ended.
    wait "$pid" 2>/dev/null || while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    rm "$SCRATCH/pid"
}
at_exit() { stop_server; }

# A port that was free a moment ago.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || { printf '%s' "$port"; return; }
    done
}

# start COMMAND...: on the server's core; waits until it listens on $port.
start() {
    taskset -c "$SERVER_CPU" "$@" >"$SCRATCH/log" 2>&1 &
    server=$!
    printf '%s' "$server" >"$SCRATCH/pid"
    for _ in $(seq 200); do
        (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null && return
        kill -0 "$server" 2>/dev/null || die "$1 ended: $(tail -n 3 "$SCRATCH/log")"
        sleep 0.05
    done
    die "$1 does not listen on port $port"
}

# Each writes its result to $SCRATCH/run.json; MIX and COUNT are set.
common() {
    printf '%s\n' --mix "$MIX" --total-events "$COUNT" --number-of-users 100 \
        --concurrency-level 100 --cpu "$LOAD_CPU" --log-level warn --json "$SCRATCH/run.json"
}
run_eventserver() {
    # shellcheck disable=SC2046
    "$LOADGEN" verify --spawn --server-cpu "$SERVER_CPU" $(common)
}
run_other() { # DIALECT
    # shellcheck disable=SC2046
    "$LOADGEN" pubsub --dialect "$1" --port "$port" --server-pid "$server" $(common)
}
run_redis() {
    port=$(free_port)
    start redis-server --bind 127.0.0.1 --port "$port" --save "" --appendonly no \
        --client-output-buffer-limit pubsub 0 0 0
    run_other redis
}
run_nats() {
    port=$(free_port)
    # A subscriber that is behind is not to be cut off within a run.
    printf 'listen: "127.0.0.1:%s"\nmax_pending: 1GB\nwrite_deadline: "60s"\n' "$port" >"$SCRATCH/nats.conf"
    start nats-server -c "$SCRATCH/nats.conf"
    run_other nats
}

# Which of the others are there; says which are not.
others=()
for pair in redis:redis-server nats:nats-server; do
    if command -v "${pair#*:}" >/dev/null; then
        others+=("${pair%%:*}")
    else
        printf '%s is missing and left out: apt-get install %s\n' "${pair#*:}" "${pair#*:}" >&2
    fi
done

measure() { # SYSTEM: prints the median of its deliveries a second
    local run results=()
    for run in $(seq "$runs"); do
        "run_$1" >"$SCRATCH/out" 2>&1 || die "$1: $(cat "$SCRATCH/out")"
        stop_server
        mv "$SCRATCH/run.json" "$SCRATCH/$1-$MIX-$run.json"
        results+=("$SCRATCH/$1-$MIX-$run.json")
    done
    one_array "${results[@]}" >"$OUT/${name:-compare}-$1-$MIX.json"
    for run in "${results[@]}"; do figure "$run" deliveriesPerSecond; done | median
}

row() { # LABEL
    local ours theirs system
    ours=$(measure eventserver)
    for system in "${others[@]}"; do
        theirs=$(measure "$system")
        printf '| %s | %s | %s | %s | %s |\n' "$1" "$(human "$ours")" "$system" \
            "$(human "$theirs")" "$(ratio "$ours" "$theirs")"
    done
    [ ${#others[@]} -gt 0 ] || printf '| %s | %s | - | - | - |\n' "$1" "$(human "$ours")"
}

report() {
    describe_machine
    local system
    for system in "${others[@]}"; do
        printf '%-9s %s\n' "$system:" "$("$system-server" --version 2>&1 | head -n 1)"
    done
    printf 'command:  perf/compare.sh --runs %s --events %s --broadcasts %s\n\n' \
        "$runs" "$events" "$broadcasts"
    printf '| load | eventserver, deliveries/s | other | its deliveries/s | ratio |\n|---|---|---|---|---|\n'
    MIX=private COUNT=$events
    row "one-to-one"
    MIX=broadcast COUNT=$broadcasts
    row "1-to-100"
}

report
keep "$name"
