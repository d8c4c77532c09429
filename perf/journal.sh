#!/usr/bin/env bash
# What the journal costs: throughput and latency with each --sync beside those without a journal, in turn
# on the same cores; the speed of a recovery from segments and from a snapshot; the waiting times while snapshots are
# written; the size of the journal. Ends with the targets, and whether each is met. Takes about fifteen minutes.
#
#   perf/journal.sh [--runs N] [--events N] [--seconds N] [--recovery-events N] [--follows N] [--dir DIR]
#                   [--name NAME]
#
#   --runs N             runs of each, medians count (5)
#   --events N           events of a run of throughput (10000000), four times as many in private: a run has to be
#                        long beside its start and to fill several segments
#   --seconds N          length of a run of latency (5)
#   --recovery-events N  events of the journal that is recovered (20000000)
#   --follows N          follows of the snapshot that is loaded (10000000)
#   --dir DIR            where the journals are: on the disk to be measured (target/perf)
#   --name NAME          keep the results as perf/results/NAME-*.json; without it they are only printed
#
# Uses dd for the time of one fdatasync: each block of 4 KiB is written and synced (O_DSYNC) in a file that
# has its size already. SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

runs=5 events=10000000 seconds=5 recovery_events=20000000 follows=10000000 dir="" name=""
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --seconds) seconds=$(value_of "$@"); shift 2 ;;
        --recovery-events) recovery_events=$(value_of "$@"); shift 2 ;;
        --follows) follows=$(value_of "$@"); shift 2 ;;
        --dir) dir=$(from_caller "$(value_of "$@")"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
need_two_cores
build
SERVER_PID=
SERVER=$(dirname "$LOADGEN")/eventserver
prepare "$name"
[ -z "$dir" ] || [ -d "$dir" ] || die "--dir $dir: no such directory"
journals=$(mktemp -d "${dir:-$SCRATCH}/journals-XXXXXX")
at_exit() {
    [ -z "$SERVER_PID" ] || kill -KILL "$SERVER_PID" 2>/dev/null || true
    rm -rf "$journals"
}

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

keep_runs() { # SUFFIX JSON...: the results as one file
    local suffix=$1
    shift
    one_array "$@" >"$OUT/${name:-journal}-$suffix.json"
}

throughput() { # MIX
    local mix=$1 run mode count=$events
    [ "$mix" != private ] || count=$((4 * events))
    for run in $(seq "$runs"); do
        for mode in "${MODES[@]}"; do
            server_flags "$mode"
            loadgen "$SCRATCH/$mix-$mode-$run.json" verify --mix "$mix" --total-events "$count"
        done
    done
    local base=""
    for mode in "${MODES[@]}"; do
        local results=("$SCRATCH/$mix-$mode-"*.json) rate
        keep_runs "throughput-$mix-$mode" "${results[@]}"
        rate=$(middle eventsPerSecond "${results[@]}")
        base=${base:-$rate}
        printf '| %s | %s | %s | %s |\n' "$mix" "$mode" "$(human "$rate")" "$(ratio "$rate" "$base")"
        local least=0.5
        [ "$mode" = always ] || least=$([ "$mix" = even ] && echo 0.90 || echo 0.80)
        [ "$mode" = none ] ||
            target "throughput, $mix, --sync $mode beside none" "$(ratio "$rate" "$base")" ">=" "$least"
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
    # The mean time of a sync beside each run, because it changes by the minute.
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
    local added
    added=$(awk -v a="$always" -v b="$base" -v s="$sync" 'BEGIN { if (s > 0) printf "%.2f", (a - b) / s; else print "-" }')
    printf '\nOne write and sync of 4 KiB: %s µs (mean). --sync always adds %s µs to the median, %s times as much.\n' \
        "$sync" "$(awk -v a="$always" -v b="$base" 'BEGIN { printf "%.0f", a - b }')" "$added"
    target "median latency added by always, beside one sync of 4 KiB" "$added" "<=" 2
    target "median latency with never, beside none" \
        "$(ratio "$(middle p50 "$SCRATCH"/latency-never-*.json)" "$base")" "<=" 1.2
}

# start_server: starts a server with the journal, whose process is SERVER_PID, and waits until it listens.
start_server() {
    : >"$SCRATCH/ready"
    taskset -c "$SERVER_CPU" "$SERVER" --data-dir "$journals/journal" --sync never --event-listen 0 \
        --client-listen 0 --journal-retain-bytes 100GiB >"$SCRATCH/ready" 2>"$SCRATCH/log" &
    SERVER_PID=$!
    local tries=0
    until [ -s "$SCRATCH/ready" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 6000 ] || ! kill -0 "$SERVER_PID" 2>/dev/null; then
            die "no recovery: $(cat "$SCRATCH/log")"
        fi
        sleep 0.02
    done
}

# end_server SIGNAL
end_server() {
    kill "-$1" "$SERVER_PID"
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=
}

# start_time: lines and milliseconds of the recovery of a server with the journal, as its log says. A snapshot
# that the start writes does not count.
start_time() {
    start_server
    end_server KILL
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
        rm -f "$journals"/journal/*.snapshot
    done >"$SCRATCH/recovery"
    local rate
    rate=$(median <"$SCRATCH/recovery")
    printf 'Recovery of %s events from segments: %s events/s (median of %s).\n' \
        "$recovery_events" "$(human "$rate")" "$runs"
    target "recovery from segments, M events/s" "$(awk -v n="$rate" 'BEGIN { printf "%.2f", n / 1e6 }')" ">=" 5
    local source total
    source=$(figure "$SCRATCH/recovery.json" sourceBytes)
    total=$("$SERVER" journal verify "$journals/journal" | sed -n 's/^total: .* \([0-9]*\) bytes, .*/\1/p')
    printf 'Disk: %s bytes per event, the lines have %s: %s times as much.\n' \
        "$(awk -v a="$total" -v n="$recovery_events" 'BEGIN { printf "%.2f", a / n }')" \
        "$(awk -v a="$source" -v n="$recovery_events" 'BEGIN { printf "%.2f", a / n }')" \
        "$(awk -v a="$total" -v b="$source" 'BEGIN { printf "%.3f", a / b }')"
    target "bytes on disk per byte of the lines" "$(awk -v a="$total" -v b="$source" 'BEGIN { printf "%.3f", a / b }')" "<=" 1.1
}

# Loads a snapshot of follows, ten for each user, which nothing follows but an empty segment.
snapshot() {
    rm -rf "$journals/journal"
    start_server
    local port
    port=$(sed -n 's/.*events on [^ ]*:\([0-9]*\),.*/\1/p' "$SCRATCH/ready")
    awk -v n="$follows" 'BEGIN {
        users = int(n / 10) + 11
        for (i = 0; i < n; i++) {
            user = i % users
            printf "%d|F|%d|%d\n", i + 1, user, (user * 31 + int(i / users) * 104729 + 1) % users
        }
    }' >"/dev/tcp/127.0.0.1/$port"
    # Delivers and writes what it has received.
    end_server TERM
    # Replays, and writes a snapshot before it listens.
    rm -f "$journals"/journal/*.snapshot
    start_server
    end_server KILL
    local awaited bytes run lines millis
    awaited=$(sed -n 's/.*: sequence \([0-9]*\) is awaited.*/\1/p' "$SCRATCH/log")
    [ "$awaited" = $((follows + 1)) ] || die "sequence $awaited is awaited after $follows follows"
    bytes=$(cat "$journals"/journal/*.snapshot 2>/dev/null | wc -c)
    [ "$bytes" -gt 0 ] || die "no snapshot after $follows follows: more than 64 MiB are needed, about 4000000"
    for run in $(seq "$runs"); do
        read -r lines millis < <(start_time)
        [ "$lines" = 0 ] || die "$lines lines were replayed after the snapshot"
        echo "$millis"
    done >"$SCRATCH/snapshot"
    millis=$(median <"$SCRATCH/snapshot")
    printf 'Snapshot of %s follows, %s bytes: loaded in %s ms (median of %s).\n' "$follows" "$bytes" "$millis" "$runs"
    target "snapshot of $follows follows loaded" "$(awk -v m="$millis" 'BEGIN { printf "%.2f", m / 1e3 }')" "<=" \
        "$(awk -v n="$follows" 'BEGIN { printf "%.2g", 3 * n / 1e7 }')" s
}

# Waiting times under a flood, without a journal and while segments fill and snapshots are written.
fairness() {
    local run mode snapshots=0
    printf '| fairness | p99 between writes | max | verdict |\n|---|---|---|---|\n'
    for run in $(seq "$runs"); do
        for mode in none never; do
            server_flags "$mode"
            local json=$SCRATCH/fairness-$mode-$run.json
            # Status 1 and 3 are verdicts.
            "$LOADGEN" fairness --spawn --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level error --duration "$seconds" \
                "${FLAGS[@]}" --json "$json" >"$SCRATCH/out" || [ -s "$json" ] || die "fairness: $(cat "$SCRATCH/out")"
            [ "$mode" = none ] || snapshots=$((snapshots + $(find "$journals/journal" -name '*.snapshot' | wc -l)))
        done
    done
    local base=""
    for mode in none never; do
        local results=("$SCRATCH/fairness-$mode-"*.json) file p99 max failed
        keep_runs "fairness-$mode" "${results[@]}"
        p99=$(for file in "${results[@]}"; do within "$file" turn p99; done | median)
        max=$(for file in "${results[@]}"; do within "$file" turn max; done | median)
        failed=$({ grep -L '"verdict": "passed"' "${results[@]}" || true; } | wc -l)
        printf '| %s | %s µs | %s µs | %s of %s passed |\n' "$mode" "$p99" "$max" "$((runs - failed))" "$runs"
        base=${base:-$p99}
    done
    printf '\n%s snapshots were there at the end of the runs with --sync never.\n' "$snapshots"
    target "fairness with snapshots: runs that did not pass" "$failed" "<=" 0
    target "fairness with snapshots: p99 between two writes, beside none" "$(ratio "$p99" "$base")" "<=" 1.5
    target "fairness: snapshots written in its runs" "$snapshots" ">=" 1
}

report() {
    describe_machine
    printf 'disk:     %s\n' "$(findmnt -no SOURCE,FSTYPE -T "$journals" | tr -s ' ')"
    printf 'command:  perf/journal.sh --runs %s --events %s --seconds %s --recovery-events %s --follows %s\n\n' \
        "$runs" "$events" "$seconds" "$recovery_events" "$follows"
    printf '| mix | --sync | events/s | beside none |\n|---|---|---|---|\n'
    throughput even
    throughput private
    printf '\nLatency at 1,000 events/s, from when each was due, in µs:\n\n'
    printf '| --sync | p50 | p99 | p50 beside none | p99 beside none |\n|---|---|---|---|---|\n'
    latency
    printf '\n'
    fairness
    printf '\n'
    recovery
    snapshot
    targets
}

report
keep "$name"
