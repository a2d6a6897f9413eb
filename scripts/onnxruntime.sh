#!/bin/sh
# Installs the library that imported ONNX models run on: ONNX Runtime as it comes in the npm package onnxruntime-node,
# pinned by engines/package-lock.json. Nothing of the package is run; only its shared library is loaded.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${ORT_DYLIB_PATH:-}" ]; then
    exit 0
fi
cd "$root/engines"
# npm writes this file last, as its copy of what is installed.
installed=node_modules/.package-lock.json
library=$(find node_modules/onnxruntime-node/bin -name 'libonnxruntime*' 2>/dev/null | head -n 1)
if [ -n "$library" ] && [ "$installed" -nt package-lock.json ] && [ "$installed" -nt package.json ]; then
    exit 0
fi
if ! command -v npm >/dev/null 2>&1; then
    echo "onnxruntime: npm is missing; install Node.js, or set ORT_DYLIB_PATH to a library of ONNX Runtime" >&2
    exit 1
fi
echo "onnxruntime: fetching onnxruntime-node through npm into engines/node_modules (290 MB, all platforms)" >&2
npm ci --ignore-scripts --no-audit --no-fund >&2
touch "$installed"
