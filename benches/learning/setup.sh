#!/bin/sh
# The peers in one virtual environment, .venv/. PyTorch comes apart from the rest because it is large: from PyPI it brings
# CUDA along (some 5 GB on disk), which nothing here uses. Whoever knows an index with a build for the CPU alone sets
# PIP_EXTRA_INDEX_URL: pip takes that build, since a local version (2.15.0+cpu) counts as newer than the plain one.
# With --without-torch the network's peers are left out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
mkdir -p work
install() {
    if [ -f ".venv/$1" ] && cmp -s "$1" ".venv/$1"; then
        return
    fi
    echo "setup: $1 (through pip)" >&2
    if .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$1" >"work/pip-$1" 2>&1; then
        cp "$1" ".venv/$1"
    else
        tail -n 20 "work/pip-$1" >&2
        echo "setup: $1 could not be installed; the whole output is in benches/learning/work/pip-$1" >&2
        exit 1
    fi
}
[ -x .venv/bin/python ] || python3 -m venv .venv
install requirements.txt
[ "${1:-}" = --without-torch ] || install requirements-torch.txt
