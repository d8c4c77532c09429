# shellcheck shell=bash disable=SC2034 # what is set here is used by the scripts
# Shared by the scripts beside it; to be sourced.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RESULTS="$ROOT/perf/results"
# The server has a core of its own, the load another.
SERVER_CPU=${SERVER_CPU:-0}
LOAD_CPU=${LOAD_CPU:-1}

die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Prints the comment at the top of the script, which is its help.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

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
    (cd "$ROOT" && cargo build --release --locked --quiet) || die "the build failed"
    LOADGEN="${CARGO_TARGET_DIR:-$ROOT/target}/release/loadgen"
}

# figure FILE NAME: the number of that name in a result's JSON, the first where there are several.
figure() { sed -n "s/^ *\"$2\": \([0-9.e+-]*\),\{0,1\}\$/\1/p" "$1" | head -n 1; }

# The middle one of the numbers on standard input; of two, the lower.
median() { sort -g | awk '{ n[NR] = $1 } END { print NR ? n[int((NR + 1) / 2)] : "nan" }'; }

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
