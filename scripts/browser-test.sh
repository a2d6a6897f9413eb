#!/bin/sh
# The dashboard's tests against a short quickstart that runs while they look.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/server-port.sh"
work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
"$root/target/release/homeostat" quickstart --dir "$work/flights" --port 0 --until 2013-06-01 --speed 43200 \
    >"$work/out" 2>"$work/err" &
pid=$!
wait_for_port "$work/flights/.homeostat" "$pid" "$work/err" "the quickstart" 1200
# The page has something to draw after the first few days.
until [ "$(cut -c1-10 "$work/flights/.homeostat/clock" 2>/dev/null | tr -d -)" -ge 20130404 ] 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -le 1200 ] || { echo "the replay does not move" >&2; exit 1; }
    sleep 0.25
done
# And a search to show: small, since the replay goes on meanwhile.
"$root/target/release/homeostat" tune arrival --learner linear --trials 3 --project "$work/flights" >/dev/null 2>"$work/tune"
cd "$root/dashboard"
[ -d node_modules ] || npm ci --ignore-scripts --no-audit --no-fund >&2
HOMEOSTAT_URL="http://127.0.0.1:$port" npm test
