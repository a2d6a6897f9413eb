#!/bin/sh
# The node tests of the ONNX standard through a running server: each that ONNX Runtime itself passes must pass.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. "$root/scripts/server-port.sh"
wanted=$(cat scripts/requirements-conformance.txt)
if [ ! -x .venv-onnx/bin/python ] || [ "$(cat .venv-onnx/requirements.done 2>/dev/null || true)" != "$wanted" ]; then
    echo "conformance: making .venv-onnx with the packages of scripts/requirements-conformance.txt (through pip)" >&2
    python3 -m venv .venv-onnx
    .venv-onnx/bin/python -m pip install --quiet --disable-pip-version-check --requirement scripts/requirements-conformance.txt >&2
    printf '%s' "$wanted" > .venv-onnx/requirements.done
fi
work=$(mktemp -d)
pid=""
# The server writes until it has ended; its folder goes after it.
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
.venv-onnx/bin/python -W ignore scripts/conformance/onnx_nodes.py models "$work/nodes" >&2
mkdir "$work/project"
printf '[project]\nname = "conformance"\n\n[server]\nmodels_loaded_max = 4000\n' > "$work/project/homeostat.toml"
binary="$root/target/release/homeostat"
find "$work/nodes" -name '*.onnx' -print0 | xargs -0 -n 300 "$binary" --project "$work/project" import > "$work/imported"
"$binary" --project "$work/project" serve --port 0 2> "$work/err" &
pid=$!
wait_for_port "$work/project/.homeostat" "$pid" "$work/err" "the server" 240
.venv-onnx/bin/python -W ignore scripts/conformance/onnx_nodes.py serve "$work/nodes" --url "127.0.0.1:$port"
