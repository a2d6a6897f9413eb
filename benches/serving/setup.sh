#!/bin/sh
# Each peer in a virtual environment of its own under .venvs/, one after another: their requirements conflict.
# Names on the command line choose among them. What cannot be installed is said in work/failed-NAME.txt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
mkdir -p .venvs work
[ "$#" -gt 0 ] || set -- models fastapi litserve bentoml ray mlserver
for name in "$@"; do
    venv=.venvs/$name
    if [ -f "$venv/done" ] && cmp -s "requirements-$name.txt" "$venv/done"; then
        continue
    fi
    echo "setup: $name, from requirements-$name.txt (through pip)" >&2
    rm -rf "$venv" "work/failed-$name.txt"
    python3 -m venv "$venv"
    if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "requirements-$name.txt" >"work/pip-$name.txt" 2>&1; then
        cp "requirements-$name.txt" "$venv/done"
    else
        tail -n 20 "work/pip-$name.txt" >"work/failed-$name.txt"
        echo "setup: $name could not be installed; see benches/serving/work/failed-$name.txt" >&2
    fi
done
