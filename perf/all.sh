#!/usr/bin/env bash
# Measures every figure that README.md and the tables of perf/results quote, on one commit and one
# machine, in less than 30 minutes. Then writes perf/results and makes its tables, the README's
# figures and its pictures from them (perf/tables.py).
#
#   perf/all.sh [--smoke] [--dirty] [--only STEP]...
#
#   --smoke      a short run of all steps, to see that they work: its results stay in
#                target/perf/smoke, with a README.md and pictures made from them
#   --dirty      measure a tree with uncommitted changes too
#   --only STEP  only this step (build pinned latency compare fairness idle reordering replay soak
#                faults); results of the others, measured on the same commit before, are kept
#
# Use a machine that does nothing else. Needs python3, redis-server and nats-server (apt-get install
# python3 redis-server nats-server), and descriptors for 19,000 clients (ulimit -Hn).
# SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

STEPS=(build pinned latency compare fairness idle reordering replay soak faults)
smoke="" dirty="" only=()
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=1; shift ;;
        --dirty) dirty=1; shift ;;
        --only) only+=("$(value_of "$@")"); shift 2 ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
for step in "${only[@]}"; do
    [[ " ${STEPS[*]} " == *" $step "* ]] || die "no such step: $step; there are ${STEPS[*]}"
done

# Everything that is missing, before an hour is lost.
need_two_cores
missing=()
for program in python3 redis-server nats-server; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}; apt-get install ${missing[*]}"
[ -n "$smoke$dirty" ] || clean_commit
if [ -z "$smoke" ]; then
    [ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 19500 ] ||
        die "$(ulimit -Hn) descriptors are allowed, 19,500 needed: ulimit -Hn"
    awk '{ exit !($1 > 0.5) }' /proc/loadavg &&
        printf 'warning: this machine is busy (load %s)\n' "$(cut -d ' ' -f 1 /proc/loadavg)" >&2
fi

commit=$(git describe --always --dirty --exclude='*' --abbrev=10 2>/dev/null || echo unknown)
export PERF_OUT=target/perf/all
[ -z "$smoke" ] || PERF_OUT=target/perf/smoke
if [ ${#only[@]} -eq 0 ] || [ "$(cat "$PERF_OUT/commit" 2>/dev/null)" != "$commit" ]; then
    rm -rf "$PERF_OUT"
fi
prepare all
printf '%s' "$commit" >"$OUT/commit"

# pick FULL SMOKE: the value for this run.
pick() { if [ -n "$smoke" ]; then printf '%s' "$2"; else printf '%s' "$1"; fi; }

# loadgen COMMAND NAME ARGUMENT...: one measurement on both cores, as OUT/NAME.json.
loadgen() {
    local command=$1 name=$2 status=0
    shift 2
    "$LOADGEN" "$command" --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level error \
        --json "$OUT/$name.json" "$@" || status=$?
    # A short run may be too short to judge, or to keep a bound.
    [ "$status" -eq 0 ] || [ -n "$smoke" ] || return "$status"
}

# repeated NAME RUNS COMMAND ARGUMENT...: as an array of results.
repeated() {
    local name=$1 runs=$2 command=$3 run results=()
    shift 3
    for run in $(seq "$runs"); do
        loadgen "$command" "${SCRATCH#"$OUT/"}/$run" "$@"
        results+=("$SCRATCH/$run.json")
    done
    one_array "${results[@]}" >"$OUT/$name.json"
}

step_build() {
    [ -n "$smoke" ] || cargo test --release --locked --quiet --test faults --no-run
}
step_pinned() {
    perf/pinned.sh --name pinned --runs "$(pick 5 1)" --events "$(pick 2000000 50000)"
}
step_latency() {
    perf/latency.sh --name latency --runs "$(pick 7 1)" --seconds "$(pick 2 0.2)"
}
step_compare() {
    perf/compare.sh --name compare --runs "$(pick 5 1)" --events "$(pick 1000000 20000)" \
        --broadcasts "$(pick 200000 2000)"
}
step_fairness() {
    local seconds
    seconds=$(pick 5 0.3)
    repeated fairness-100 "$(pick 3 1)" fairness --spawn --clients 100 --duration "$seconds"
    repeated fairness-1000 "$(pick 3 1)" fairness --spawn --clients "$(pick 1000 200)" --duration "$seconds"
    # A turn makes a write for each client; the usual bound is for up to 1,000.
    repeated fairness-10000 "$(pick 3 1)" fairness --spawn --clients "$(pick 10000 300)" \
        --duration "$seconds" --bound-ms 200
}
step_idle() {
    loadgen idle idle-10000 --spawn --relay --clients "$(pick 10000 300)"
    loadgen idle idle-19000 --spawn --relay --clients "$(pick 19000 400)"
}
step_reordering() {
    local run ordered=() shuffled=()
    # In turn, so that a change of the machine's speed meets both.
    for run in $(seq "$(pick 5 1)"); do
        reorder "ordered-$run" 1
        reorder "shuffled-$run" 1000000
        ordered+=("$SCRATCH/ordered-$run.json") shuffled+=("$SCRATCH/shuffled-$run.json")
    done
    one_array "${ordered[@]}" >"$OUT/reordering-ordered.json"
    one_array "${shuffled[@]}" >"$OUT/reordering-shuffled.json"
}
reorder() { # NAME BATCH
    loadgen verify "${SCRATCH#"$OUT/"}/$1" --spawn --mix even --total-events "$(pick 2000000 50000)" \
        --max-event-source-batch-size "$2" --server-arg --reorder-window --server-arg 1048576
}
step_replay() {
    perf/replay.sh --name replay --runs "$(pick 5 1)"
}
step_soak() {
    perf/soak.sh --name soak --minutes "$(pick 5 0.1)" --every "$(pick 5 0.5)"
}
step_faults() {
    if [ -n "$smoke" ]; then
        printf 'left out of a smoke run: the tests play them\n'
    else
        perf/faults.sh >"$SCRATCH/faults.md" && mv "$SCRATCH/faults.md" "$OUT/faults.md"
    fi
}

# clock SECONDS: 4 min 50 s.
clock() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# What the results of single runs do not hold.
describe_environment() {
    printf '{\n  "compiler": "%s",\n  "redis": "%s",\n  "nats": "%s"\n}\n' "$(rustc --version)" \
        "$(redis-server --version | sed -n 's/.* v=\([^ ]*\).*/\1/p')" \
        "$(nats-server --version | sed -n 's/.* v\{0,1\}\([0-9.]*\)$/\1/p')"
}

build
describe_machine
began=$SECONDS failed=()
for index in "${!STEPS[@]}"; do
    step=${STEPS[$index]}
    [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $step "* ]] || continue
    printf '==> %d of %d: %s\n' $((index + 1)) ${#STEPS[@]} "$step"
    step_began=$SECONDS
    # In a subshell, so that one step that fails does not cost the others.
    set +e
    (set -e; "step_$step") >"$OUT/$step.log" 2>&1
    status=$?
    set -e
    result="done"
    if [ "$status" -ne 0 ]; then
        result=FAILED
        failed+=("$step")
        tail -n 15 "$OUT/$step.log" | sed 's/^/    /'
    fi
    printf '    %s in %s\n' "$result" "$(clock $((SECONDS - step_began)))"
done
printf 'measured in %s\n' "$(clock $((SECONDS - began)))"
describe_environment >"$OUT/environment.json"
if [ ${#failed[@]} -gt 0 ]; then
    die "failed: ${failed[*]}. See $OUT/STEP.log; repeat with --only STEP"
fi

if [ -n "$smoke" ]; then
    cp README.md "$OUT/README.md"
    perf/tables.py --results "$OUT" --readme "$OUT/README.md" --pictures "$OUT"
    perf/tables.py --results "$OUT" --readme "$OUT/README.md" --pictures "$OUT" --check
else
    perf/tables.py --results "$OUT" --validate
    cp "$OUT"/*.json "$RESULTS/"
    [ ! -e "$OUT/faults.md" ] || cp "$OUT/faults.md" "$RESULTS/"
    perf/tables.py
    printf 'review and commit: git diff README.md .github perf/results\n'
fi
