#!/bin/sh
# Asks every path of /openapi.json with data that fits it and data that doesn't (schemathesis): nothing that is sent makes
# the server fail, and what it says is what its description says. `sh scripts/openapi-test.sh [HOST:PORT]`; without an
# address it serves a small project of its own. What is asked includes deeds: releases, rollbacks, unloading, outcomes.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/server-port.sh"
examples=${OPENAPI_EXAMPLES:-50}
# With seed 1 the client draws an infinite number, which its own JSON writer refuses before anything is sent.
seed=${OPENAPI_SEED:-2}
# The whole takes one to three minutes.
seconds_max=${OPENAPI_SECONDS_MAX:-900}
binary=$root/target/release/homeostat
venv=$root/.venv-openapi
work=$(mktemp -d)
pid=""
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

wanted=$(cat "$root/scripts/requirements-openapi.txt")
if [ ! -x "$venv/bin/schemathesis" ] || [ "$(cat "$venv/requirements.done" 2>/dev/null || true)" != "$wanted" ]; then
    echo "openapi: making .venv-openapi with the packages of scripts/requirements-openapi.txt (through pip)" >&2
    python3 -m venv "$venv"
    echo '*' >"$venv/.gitignore"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$root/scripts/requirements-openapi.txt" >&2
    printf '%s' "$wanted" >"$venv/requirements.done"
fi

# A declared model of 1,500 orders, two imported ones of which one may be unloaded, and one of several typed inputs.
project() {
    cd "$work"
    awk 'BEGIN {
        srand(11)
        print "order_id,at,price,shop,express,returned"
        for (row = 0; row < 1500; row++) {
            price = 5 + 95 * rand(); shop = substr("northsouthweb  ", 1 + 5 * int(3 * rand()), 5); sub(/ +$/, "", shop)
            express = rand() < 0.3 ? "true" : "false"
            odds = 0.02 * (price - 50) + (shop == "web") - 0.5
            printf "o%d,2024-%02d-%02dT%02d:%02d:00Z,%s,%s,%s,%d\n", row, 1 + int(row / 672), 1 + int(row / 24) % 28, \
                row % 24, row % 60, rand() < 0.05 ? "" : sprintf("%.2f", price), shop, express, rand() < 1 / (1 + exp(-odds))
        }
    }' >orders.csv
    "$binary" init shop --data orders.csv --target returned --time at --key order_id
    cd shop
    "$binary" train --threads 1
    models=$root/crates/inference/testdata/import
    "$binary" import "$models/lightgbm_multiclass.txt" --as trees
    "$binary" import "$models/lightgbm_binary.txt" --as spare
    "$binary" import "$models/onnx_sklearn_columns.onnx" --as columns
}

serve() {
    [ -x "$binary" ] || { echo "openapi: $binary is missing; run make build" >&2; exit 1; }
    (project) >"$work/made" 2>&1 || { echo "openapi: the project was not made:" >&2; cat "$work/made" >&2; exit 1; }
    (cd "$work/shop" && exec "$binary" serve --port 0) >"$work/out" 2>"$work/err" &
    pid=$!
    wait_for_port "$work/shop/.homeostat" "$pid" "$work/err" "openapi: the server" 240
}

if [ $# -eq 0 ]; then
    serve
    address=127.0.0.1:$port
else
    address=$1
fi

cat >"$work/schemathesis.toml" <<END
# 503 and 504 are refusals: not ready, stopping, or too late.
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
END
export HOMEOSTAT_URL="http://$address"
export SCHEMATHESIS_HOOKS="$root/scripts/clients/openapi.py"
failed=0
# /v1/events never ends.
(cd "$work" && timeout --kill-after=10 "$seconds_max" \
    "$venv/bin/schemathesis" --config-file "$work/schemathesis.toml" run "$HOMEOSTAT_URL/openapi.json" \
    --exclude-path /v1/events --phases examples,coverage,fuzzing --mode all --max-examples "$examples" --seed "$seed" \
    --checks not_a_server_error,response_schema_conformance,content_type_conformance --continue-on-failure \
    --request-timeout 10 --generation-database none --suppress-health-check all --warnings off --no-color) || failed=1
"$venv/bin/python" "$root/scripts/clients/openapi.py" || { echo "openapi: the server no longer answers well" >&2; failed=1; }
if [ -n "$pid" ]; then
    if ! kill -0 "$pid" 2>/dev/null; then
        status=0
        wait "$pid" || status=$?
        echo "openapi: the server ended with status $status; it said:" >&2
        tail -n 20 "$work/err" >&2
        pid=""
        failed=1
    fi
    if grep -n -A3 "panicked" "$work/err" >&2; then failed=1; fi
    [ "$failed" = 0 ] || grep -E "ERROR" "$work/err" | sort | uniq -c | head -n 20 >&2 || true
fi
exit "$failed"
