#!/usr/bin/env bash
# What the world does to a server, in full: crowds, storms, kills, suspensions, a lack of descriptors,
# a full disk, a clock that jumps. The tests of tests/faults, which `cargo test` plays in a small size,
# one after the other. Each ends with a verification on the same server; the exit status is 1 when
# one of them failed.
#
#   perf/faults.sh [--size full|usual] [--name NAME] [FAULT...]
#
#   --size SIZE  full, or as in `cargo test` (full)
#   --name NAME  keep the table as perf/results/NAME.md; without it it is only printed
#   FAULT        only tests with this in their name (all)
#
# The crowds are as large as `ulimit -Hn` allows: 20,000 for all of it.
# Uses cat, env, sh and, where the system allows it, unshare and mount, which every distribution has,
# and cc, which Rust links with.

set -euo pipefail
. "$(dirname "$0")/lib.sh"

size=full name="" faults=()
while [ $# -gt 0 ]; do
    case $1 in
        --size) size=$(value_of "$@"); shift 2 ;;
        --name) name=$(value_of "$@"); shift 2 ;;
        -h | --help) usage; exit ;;
        -*) die "unknown argument $1; see --help" ;;
        *) faults+=("$1"); shift ;;
    esac
done
case $size in full | usual) ;; *) die "--size is full or usual" ;; esac

run_tests() { (cd "$ROOT" && FAULTS=$size cargo test --release --locked --quiet --test faults -- "$@"); }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Builds the tests too.
run_tests --list "${faults[@]}" >"$scratch/list" || die "the build failed"
mapfile -t tests < <(sed -n 's/: test$//p' "$scratch/list")
[ ${#tests[@]} -gt 0 ] || die "no such fault: ${faults[*]}"

play() { # TEST: prints its row
    local result=passed
    run_tests --exact "$1" --nocapture --test-threads 1 >"$scratch/out" 2>&1 || result=FAILED
    if [ "$result" = FAILED ]; then
        touch "$scratch/failed"
        cat "$scratch/out" >&2
    fi
    local fault=${1##*::}
    printf '| %s | %s | %s | %s |\n' "${fault//_/ }" "$(sed -n 's/^fault: //p' "$scratch/out")" \
        "$(sed -n 's/.* finished in //p' "$scratch/out")" "$result"
}

report() {
    describe_machine
    printf 'limit:    %s descriptors\n' "$(ulimit -Hn)"
    printf 'command:  perf/faults.sh --size %s%s\n\n' "$size" "${faults[*]:+ ${faults[*]}}"
    printf '| fault | size | time | result |\n|---|---|---|---|\n'
    local test
    for test in "${tests[@]}"; do play "$test"; done
}

report | tee "$scratch/table"
[ -z "$name" ] || cp "$scratch/table" "$RESULTS/$name.md"
[ ! -e "$scratch/failed" ]
