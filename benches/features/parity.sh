#!/bin/sh
# The release gate of the pipeline: rows of the flights example repeated with missing, extreme and slightly changed values,
# as a batch against each row alone and each row through JSON, by every encoding and for every learner. Expects no
# differing bit; ends with 1 otherwise.
#
#   sh benches/features/parity.sh [ROWS [SEED]]        10,000,000 and 1 when left out
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
homeostat=${HOMEOSTAT_BINARY:-$root/target/release/homeostat}
project=$here/work/parity
rm -rf "$project"
mkdir -p "$project/models"
cp -r "$root/examples/flights/homeostat.toml" "$root/examples/flights/contracts" "$root/examples/flights/data" "$project"
cp "$here/every_encoding.toml" "$project/models"
cd "$project"
exec "$homeostat" check every_encoding --parity --rows "${1:-10000000}" --perturb "${2:-1}"
