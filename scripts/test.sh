#!/bin/sh
# All tests: Rust with nextest where it is installed, then the dashboard in a real browser during a short quickstart.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --release --workspace --all-targets --locked --no-fail-fast
else
    cargo test --release --workspace --all-targets --locked --no-fail-fast
fi
if [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
    sh scripts/browser-test.sh
elif [ "${HOMEOSTAT_REQUIRE_SERVICES:-0}" = 1 ]; then
    echo "failed: Chromium is not installed, and HOMEOSTAT_REQUIRE_SERVICES=1; run make services" >&2
    exit 1
else
    echo "skipped: dashboard in Chromium (not installed; run make services)"
fi
