#!/bin/sh
# Fuzzes every byte that comes from outside: `sh scripts/fuzz.sh [SECONDS]` builds the targets of fuzz/ and runs each for
# so long (30), FUZZ_TARGETS="a b" only these. Prints a line a target and fails where one crashed, hung or took too much
# memory; the input that did it then lies in fuzz/artifacts.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
seconds=${1:-30}
case $seconds in
'' | *[!0-9]* | 0) echo "fuzz: \"$seconds\" is no number of seconds; usage: sh scripts/fuzz.sh [SECONDS]" >&2; exit 2 ;;
esac
# An input that takes longer, or more memory than this in all, is a fault.
timeout_s=5
rss_mb=1024
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz (through cargo)" >&2
    cargo install --locked --version 0.13.2 cargo-fuzz >&2
fi
all=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v '^fuzz$')
targets=${FUZZ_TARGETS:-$all}
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/fuzz/target}"
# The sanitizer's flags are unstable; the pinned toolchain takes them all the same.
export RUSTC_BOOTSTRAP=1
# The versions that are shipped; cargo adds the fuzzer's own.
[ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
echo "fuzz: building $(echo "$targets" | wc -w) targets (the first time takes 10 minutes or more)" >&2
if [ -n "${FUZZ_TARGETS:-}" ]; then
    for target in $targets; do cargo fuzz build "$target" >&2; done
else
    cargo fuzz build >&2
fi
python3 fuzz/seeds.py fuzz/corpus fuzz/dictionaries
host=$(rustc -vV | sed -n 's/^host: //p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
failed=""
for target in $targets; do
    artifacts=fuzz/artifacts/$target
    mkdir -p "$artifacts"
    dictionary=""
    [ -f "fuzz/dictionaries/$target.dict" ] && dictionary="-dict=fuzz/dictionaries/$target.dict"
    status=0
    # Longer than the time that libFuzzer is told only where it hangs by itself.
    # shellcheck disable=SC2086
    timeout --kill-after=10 $((seconds + 60 + timeout_s)) "$CARGO_TARGET_DIR/$host/release/$target" \
        -max_total_time="$seconds" -timeout="$timeout_s" -rss_limit_mb="$rss_mb" -print_final_stats=1 \
        -artifact_prefix="$artifacts/" $dictionary "fuzz/corpus/$target" >"$work/log" 2>&1 || status=$?
    stat() { sed -n "s/^stat::$1: *//p" "$work/log" | tail -n 1; }
    runs=$(stat number_of_executed_units)
    speed=$(stat average_exec_per_sec)
    crashes=0
    [ "$status" = 0 ] || crashes=1
    printf '%-24s %10s runs %8s/s %4s MB  crashes: %s\n' "$target" "${runs:-?}" "${speed:-?}" "$(stat peak_rss_mb)" "$crashes"
    if [ "$status" != 0 ]; then
        failed="$failed $target"
        cp "$work/log" "$artifacts/last.log"
        grep -E "panicked at|^ERROR|ERROR: |SUMMARY|Test unit written" "$work/log" | head -n 8 | sed 's/^/    /'
        sed -n '/panicked at/{n;s/^/    /p;}' "$work/log" | head -n 2
    fi
done
if [ -n "$failed" ]; then
    echo "fuzz: failed:$failed; the inputs and logs are in fuzz/artifacts" >&2
    exit 1
fi
