#!/usr/bin/env bash
# Builds mattermost.wasm, or the file named: build.sh [OUTPUT]. Needs componentize-py (pip install -r requirements.txt).
set -euo pipefail
output=$(realpath -m "${1:-$(dirname "$0")/mattermost.wasm}")
cd "$(dirname "$0")"
exec "${COMPONENTIZE_PY:-componentize-py}" -d ../../../wit/since_v0.1.0 -w polling-channel componentize \
    --stub-wasi -p src channel -o "$output"
