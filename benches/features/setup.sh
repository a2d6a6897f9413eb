#!/bin/sh
# The peers in one virtual environment, .venv/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
mkdir -p work
[ -x .venv/bin/python ] || python3 -m venv .venv
if [ -f .venv/requirements.txt ] && cmp -s requirements.txt .venv/requirements.txt; then
    exit
fi
echo "setup: requirements.txt (through pip)" >&2
if .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt >work/pip.log 2>&1; then
    cp requirements.txt .venv/requirements.txt
else
    tail -n 20 work/pip.log >&2
    echo "setup: the peers could not be installed; the whole output is in benches/features/work/pip.log" >&2
    exit 1
fi
