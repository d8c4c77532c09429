#!/usr/bin/env bash
# What the journal costs: throughput and latency with each --sync beside those without a journal, in turn
# on the same cores; the speed of a recovery; the size of the journal.
#
#   perf/journal.sh [--runs N] [--events N] [--seconds N] [--recovery-events N] [--dir DIR] [--name NAME]
#
#   --runs N             runs of each, medians count (5)
#   --events N           events of a run of throughput (4000000)
#   --seconds N          length of a run of latency (5)
#   --recovery-events N  events of the journal that is recovered (20000000)
#   --dir DIR            where the journals are: on the disk to be measured (target/perf)
#   --name NAME          keep the results as perf/results/NAME-*.json; without it they are only printed
#
# Uses dd for the time of one fdatasync: each block of 4 KiB is written and synced (O_DSYNC) in a file that
# has its size already. SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 events=4000000 seconds=5 recovery_events=20000000 dir="" name=""
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --seconds) seconds=$(value_of "$@"); shift 2 ;;
        --recovery-events) recovery_events=$(value_of "$@"); shift 2 ;;
        --dir) dir=$(from_caller "$(value_of "$@")"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
build
SERVER=$(dirname "$LOADGEN")/eventserver
prepare "$name"
[ -z "$dir" ] || [ -d "$dir" ] || die "--dir $dir: no such directory"
journals=$(mktemp -d "${dir:-$SCRATCH}/journals-XXXXXX")
at_exit() { rm -rf "$journals"; }

MODES=(none never 1000 always)

# server_flags MODE: FLAGS are those of a server with a new journal, or without one.
server_flags() {
    FLAGS=()
    rm -rf "$journals/journal"
    [ "$1" = none ] ||
        FLAGS=(--server-arg --data-dir --server-arg "$journals/journal" --server-arg --sync --server-arg "$1")
}

loadgen() { # JSON ARGUMENT...: a run against a pinned server with FLAGS
    local json=$1
    shift
    "$LOADGEN" "$@" --spawn --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level warn \
        "${FLAGS[@]}" --json "$json" >"$SCRATCH/out" || die "$*: $(cat "$SCRATCH/out")"
}

# middle NAME JSON...: the median of a figure.
middle() {
    local figure=$1 file
    shift
    for file in "$@"; do figure "$file" "$figure"; done | median
}

keep_runs() { # SUFFIX JSON...: the results as one file
    local suffix=$1
    shift
    one_array "$@" >"$OUT/${name:-journal}-$suffix.json"
}

throughput() { # MIX
    local mix=$1 run mode
    for run in $(seq "$runs"); do
        for mode in "${MODES[@]}"; do
            server_flags "$mode"
            loadgen "$SCRATCH/$mix-$mode-$run.json" verify --mix "$mix" --total-events "$events"
        done
    done
    local base=""
    for mode in "${MODES[@]}"; do
        local results=("$SCRATCH/$mix-$mode-"*.json) rate
        keep_runs "throughput-$mix-$mode" "${results[@]}"
        rate=$(middle eventsPerSecond "${results[@]}")
        base=${base:-$rate}
        printf '| %s | %s | %s | %s |\n' "$mix" "$mode" "$(human "$rate")" "$(ratio "$rate" "$base")"
    done
}

# sync_micros: SYNC_US is the mean time of one write and sync of 4 KiB, in µs.
sync_micros() {
    local file=$journals/block count=1000
    dd if=/dev/zero of="$file" bs=4k count=$count conv=fsync status=none
    local start end
    start=$(date +%s%N)
    taskset -c "$SERVER_CPU" dd if=/dev/zero of="$file" bs=4k count=$count oflag=dsync conv=notrunc status=none
    end=$(date +%s%N)
    rm "$file"
    awk -v ns=$((end - start)) -v n=$count 'BEGIN { printf "%.1f", ns / n / 1e3 }'
}

latency() {
    local run mode
    for run in $(seq "$runs"); do
        for mode in none never always; do
            server_flags "$mode"
            loadgen "$SCRATCH/latency-$mode-$run.json" latency --rate 1000 --duration "$seconds" --busy
        done
        sync_micros >"$SCRATCH/sync-$run"
        echo >>"$SCRATCH/sync-$run"
    done
    local sync base base99
    sync=$(cat "$SCRATCH"/sync-* | median)
    base=$(middle p50 "$SCRATCH"/latency-none-*.json)
    base99=$(middle p99 "$SCRATCH"/latency-none-*.json)
    for mode in none never always; do
        local results=("$SCRATCH/latency-$mode-"*.json) p50 p99
        keep_runs "latency-$mode" "${results[@]}"
        p50=$(middle p50 "${results[@]}")
        p99=$(middle p99 "${results[@]}")
        printf '| %s | %s | %s | %s | %s |\n' "$mode" "$p50" "$p99" "$(ratio "$p50" "$base")" \
            "$(ratio "$p99" "$base99")"
    done
    local always
    always=$(middle p50 "$SCRATCH"/latency-always-*.json)
    printf '\nOne write and sync of 4 KiB: %s µs (mean). --sync always adds %s µs to the median, %s times as much.\n' \
        "$sync" "$(awk -v a="$always" -v b="$base" 'BEGIN { printf "%.0f", a - b }')" \
        "$(awk -v a="$always" -v b="$base" -v s="$sync" 'BEGIN { printf "%.2f", (a - b) / s }')"
}

# start_time: the line of the log in which a server with the journal says how long its recovery took.
start_time() {
    taskset -c "$SERVER_CPU" "$SERVER" --data-dir "$journals/journal" --event-listen 0 --client-listen 0 \
        >"$SCRATCH/ready" 2>"$SCRATCH/log" &
    local pid=$! tries=0
    until [ -s "$SCRATCH/ready" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 6000 ] || ! kill -0 "$pid" 2>/dev/null; then
            die "no recovery: $(cat "$SCRATCH/log")"
        fi
        sleep 0.02
    done
    # Before it writes a snapshot.
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    sed -n 's/.* \([0-9]*\) lines replayed in \([0-9]*\) ms.*/\1 \2/p' "$SCRATCH/log"
}

recovery() {
    server_flags never
    FLAGS+=(--server-arg --journal-retain-bytes --server-arg 100GiB)
    loadgen "$SCRATCH/recovery.json" verify --mix even --total-events "$recovery_events"
    # From all segments, as if no snapshot were there.
    rm -f "$journals"/journal/*.snapshot
    local run lines millis
    for run in $(seq "$runs"); do
        read -r lines millis < <(start_time)
        awk -v lines="$lines" -v ms="$millis" 'BEGIN { print lines / (ms ? ms : 1) * 1000 }'
        # An incomplete last segment of a killed server is empty.
        rm -f "$journals"/journal/*.snapshot
    done >"$SCRATCH/recovery"
    printf 'Recovery of %s events from segments: %s events/s (median of %s).\n' \
        "$recovery_events" "$(human "$(median <"$SCRATCH/recovery")")" "$runs"
    local source total
    source=$(figure "$SCRATCH/recovery.json" sourceBytes)
    total=$("$SERVER" journal verify "$journals/journal" | sed -n 's/^total: .* \([0-9]*\) bytes, .*/\1/p')
    printf 'Disk: %s bytes per event, the lines have %s: %s times as much.\n' \
        "$(awk -v a="$total" -v n="$recovery_events" 'BEGIN { printf "%.2f", a / n }')" \
        "$(awk -v a="$source" -v n="$recovery_events" 'BEGIN { printf "%.2f", a / n }')" \
        "$(awk -v a="$total" -v b="$source" 'BEGIN { printf "%.3f", a / b }')"
}

report() {
    describe_machine
    printf 'disk:     %s\n' "$(findmnt -no SOURCE,FSTYPE -T "$journals" | tr -s ' ')"
    printf 'command:  perf/journal.sh --runs %s --events %s --seconds %s --recovery-events %s\n\n' \
        "$runs" "$events" "$seconds" "$recovery_events"
    printf '| mix | --sync | events/s | beside none |\n|---|---|---|---|\n'
    throughput even
    throughput private
    printf '\nLatency at 1,000 events/s, from when each was due, in µs:\n\n'
    printf '| --sync | p50 | p99 | p50 beside none | p99 beside none |\n|---|---|---|---|---|\n'
    latency
    printf '\n'
    recovery
}

report
keep "$name"
