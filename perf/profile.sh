#!/usr/bin/env bash
# Where the server's time goes under a load: samples its core with perf and prints the functions
# on top; keeps folded stacks, and a flame graph where a program that draws one is installed.
#
#   perf/profile.sh [--mix MIX] [--events N] [--out DIRECTORY] [-- ARGUMENT...]
#
#   --mix MIX        verification, dense, even, private, broadcast, feed or F:U:B:P:S (verification)
#   --events N       events of the run (10000000)
#   --out DIRECTORY  where the files go (perf.data and folded.txt; a temporary one unless given)
#   ARGUMENT...      further arguments for `loadgen verify`
#
# Needs perf (apt-get install linux-perf) and the right to use it. flamegraph.pl or
# inferno-flamegraph draw the graph. SERVER_CPU and LOAD_CPU choose the cores (0 and 1).

set -euo pipefail
. "$(dirname "$0")/lib.sh"

mix=verification events=10000000 out="" extra=()
while [ $# -gt 0 ]; do
    case $1 in
        --mix) mix=$(value_of "$@"); shift 2 ;;
        --events) events=$(value_of "$@"); shift 2 ;;
        --out) out=$(from_caller "$(value_of "$@")"); shift 2 ;;
        --) shift; extra=("$@"); break ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
command -v perf >/dev/null || die "perf is missing: apt-get install linux-perf"
need_two_cores
[ -n "$out" ] || out=$(mktemp -d)
mkdir -p "$out"

# With frame pointers, so that stacks are whole, and line tables, so that inlined frames have names; beside the
# usual build, which stays as it is.
export CARGO_TARGET_DIR="$ROOT/target/profile"
export RUSTFLAGS="${RUSTFLAGS:-} -C force-frame-pointers=yes"
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
build

describe_machine
printf 'command:  perf/profile.sh --mix %s --events %s\n\n' "$mix" "$events"
perf record --quiet --output "$out/perf.data" --freq 1999 --call-graph fp --cpu "$SERVER_CPU" -- \
    "$LOADGEN" verify --spawn --mix "$mix" --total-events "$events" \
    --cpu "$LOAD_CPU" --server-cpu "$SERVER_CPU" --log-level warn "${extra[@]}"

printf '\n'
perf report --input "$out/perf.data" --comm eventserver --no-children --percentage relative --stdio --call-graph none \
    --percent-limit 0.7 2>/dev/null | sed -n '/^ *[0-9]/p'

# perf prints a stack innermost first and a blank line behind each.
perf script --input "$out/perf.data" --comm eventserver --fields ip,sym 2>/dev/null |
    awk 'NF == 0 { if (stack != "") count[stack]++; stack = ""; next }
         { $1 = ""; sub(/^ /, ""); gsub(/;/, ":"); stack = stack == "" ? $0 : $0 ";" stack }
         END { if (stack != "") count[stack]++; for (s in count) print s, count[s] }' \
    >"$out/folded.txt"
printf '\nfolded stacks: %s\n' "$out/folded.txt"
for drawer in inferno-flamegraph flamegraph.pl; do
    if command -v "$drawer" >/dev/null; then
        "$drawer" <"$out/folded.txt" >"$out/flamegraph.svg"
        printf 'flame graph:   %s\n' "$out/flamegraph.svg"
        break
    fi
done
