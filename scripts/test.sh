#!/bin/sh
# All tests: Rust with nextest where it is installed, then the dashboard in a real browser during a short quickstart,
# then the API description and the ONNX standard's node tests.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
# Random cases are the same in every run of one commit. For others: PROPTEST_RNG_SEED=7 PROPTEST_CASES=5000 make test
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-1}"
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
# The API description against the server, and the standard's node tests; their packages come through pip.
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
    sh scripts/openapi-test.sh
    sh scripts/conformance.sh
elif [ "${HOMEOSTAT_REQUIRE_SERVICES:-0}" = 1 ]; then
    echo "failed: Python's venv is not installed, and HOMEOSTAT_REQUIRE_SERVICES=1; run make services" >&2
    exit 1
else
    echo "skipped: schemathesis and the ONNX node tests (Python's venv is not installed; run make services)"
fi
