#!/bin/sh
# Virtual environments with the unmodified clients and reference packages that tests and benchmarks compare with: .venv,
# and .venv-perf, from which only the program perf_analyzer is used: the last wheel that carries it is an old client's.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# venv FOLDER REQUIREMENTS [pip's options]
venv() {
    folder=$1
    file=$2
    shift 2
    wanted=$(cat "$file")
    if [ -x "$folder/bin/python" ] && [ "$(cat "$folder/requirements.done" 2>/dev/null || true)" = "$wanted" ]; then
        return
    fi
    echo "python: making $folder with the packages of $file (through pip)" >&2
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" --requirement "$file" >&2
    printf '%s' "$wanted" > "$folder/requirements.done"
}

venv .venv scripts/requirements.txt
venv .venv-perf scripts/requirements-perf.txt --no-deps
