#!/bin/sh
# Quality beside LightGBM's defaults, on the same rows; a data set that is not there is skipped by name.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
.venv/bin/python benches/quality.py "$@"
