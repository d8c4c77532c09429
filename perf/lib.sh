# shellcheck shell=bash disable=SC2034 # what is set here is used by the scripts
# Shared by the scripts beside it; to be sourced. They run in the repository's directory, so that
# results do not contain its path.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPT=$(realpath "$0")
CALLER=$PWD
cd "$ROOT" || exit 1
RESULTS=perf/results
# The server has a core of its own, the load another.
SERVER_CPU=${SERVER_CPU:-0}
LOAD_CPU=${LOAD_CPU:-1}

die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Prints the comment at the top of the script, which is its help.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$SCRIPT"; }

# from_caller PATH: a path of the caller's directory, seen from the repository's.
from_caller() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) if [ "$CALLER" = "$ROOT" ]; then printf '%s' "$1"; else printf '%s/%s' "$CALLER" "$1"; fi ;;
    esac
}

# --flag VALUE: the value, or an error where there is none.
value_of() { [ $# -ge 2 ] || die "$1 needs a value"; printf '%s' "$2"; }

need_two_cores() {
    [ "$(nproc --all)" -ge 2 ] || die "this machine has one core; server and load need one each"
}

# Machine, kernel, compiler and commit, one a line.
describe_machine() {
    local commit
    commit=$(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo "no repository")
    printf 'cpu:      %s, %s cores\n' \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc --all)"
    printf 'kernel:   %s\n' "$(uname -sr)"
    printf 'compiler: %s\n' "$(cd "$ROOT" && rustc --version)"
    printf 'commit:   %s\n' "$commit"
    printf 'date:     %s\n' "$(date -u +%Y-%m-%d)"
}

# Builds both programs; LOADGEN is the load generator, with the server beside it.
build() {
    cargo build --release --locked --quiet || die "the build failed"
    LOADGEN="${CARGO_TARGET_DIR:-target}/release/loadgen"
}

# prepare NAME: OUT is a directory for JSON files, SCRATCH one in it for anything else. `keep NAME` moves
# the JSON files to perf/results at the end: a file that changes there during a measurement would
# make the commit of the next one dirty. perf/all.sh sets PERF_OUT, and moves the files itself.
prepare() {
    OUT=${PERF_OUT:-target/perf/${1:-unnamed}}
    [ -n "${PERF_OUT:-}" ] || rm -rf "$OUT"
    SCRATCH=$OUT/scratch-$(basename "$SCRIPT" .sh)
    mkdir -p "$SCRATCH"
    trap 'at_exit; rm -rf "$SCRATCH"' EXIT
}
at_exit() { :; }

# keep NAME: keeps what was measured, unless NAME is empty.
keep() {
    [ -n "$1" ] && [ -z "${PERF_OUT:-}" ] || return 0
    mv "$OUT"/*.json "$RESULTS/"
    printf '\nkept as %s\n' "$RESULTS/$1*.json"
}

# one_array FILE...: the results as one JSON array.
one_array() {
    local separator='['
    for file in "$@"; do
        printf '%s\n' "$separator"
        cat "$file"
        separator=,
    done
    printf ']\n'
}

# figure FILE NAME: the number of that name in a result's JSON, the first where there are several.
figure() { sed -n "s/^ *\"$2\": \([0-9.e+-]*\),\{0,1\}\$/\1/p" "$1" | head -n 1; }

# clean_commit: ends the script if the source has uncommitted changes.
clean_commit() {
    [ -z "$(git status --porcelain 2>/dev/null)" ] ||
        die "the tree has uncommitted changes: commit or stash them, or measure with --dirty"
}

# The middle one of the numbers on standard input; of two, the lower.
median() { sort -g | awk '{ n[NR] = $1 } END { print NR ? n[int((NR + 1) / 2)] : "nan" }'; }

# middle NAME FILE...: the median of the figure of that name in several results.
middle() {
    local name=$1 file
    shift
    for file in "$@"; do figure "$file" "$name"; done | median
}

# within FILE OBJECT NAME: the number of that name in the object of a result's JSON.
within() { sed -n "/^ *\"$2\": {/,/^ *}/s/^ *\"$3\": \([0-9.e+-]*\),\{0,1\}\$/\1/p" "$1" | head -n 1; }

# target NAME VALUE RELATION BOUND [UNIT]: compares a figure with its target, >= or <=; `targets` prints all of them.
TARGETS=()
target() {
    local is_met
    is_met=$(awk -v a="$2" -v r="$3" -v b="$4" 'BEGIN { print (r == ">=" ? a + 0 >= b + 0 : a + 0 <= b + 0) && a != "nan" && a != "-" && a != "" ? "met" : "MISSED" }')
    TARGETS+=("| $1 | $2${5:+ $5} | $3 $4${5:+ $5} | $is_met |")
}
targets() {
    printf '\n| target | measured | bound | |\n|---|---|---|---|\n'
    printf '%s\n' "${TARGETS[@]}"
}

# A large number for people: 7.51 M.
human() {
    awk -v n="$1" 'BEGIN {
        if (n >= 1e9) printf "%.2f G", n / 1e9
        else if (n >= 1e6) printf "%.2f M", n / 1e6
        else if (n >= 1e4) printf "%.1f k", n / 1e3
        else printf "%.0f", n
    }'
}

# ratio A B: A / B with two digits.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'; }
