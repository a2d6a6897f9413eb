#!/bin/sh
# A virtual environment with the unmodified clients and reference packages that tests and benchmarks compare with.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
wanted=$(cat scripts/requirements.txt)
if [ -x .venv/bin/python ] && [ "$(cat .venv/requirements.done 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi
echo "python: making .venv with the packages of scripts/requirements.txt (through pip)" >&2
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement scripts/requirements.txt >&2
printf '%s' "$wanted" > .venv/requirements.done
