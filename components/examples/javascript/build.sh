#!/usr/bin/env bash
# Builds ntfy-chat.wasm, or the file named: build.sh [OUTPUT]. Needs componentize-qjs (npm install --no-package-lock).
set -euo pipefail
output=$(realpath -m "${1:-$(dirname "$0")/ntfy-chat.wasm}")
cd "$(dirname "$0")"
exec "${COMPONENTIZE_QJS:-node_modules/.bin/componentize-qjs}" --wit ../../../wit/since_v0.1.0 --world polling-channel \
    --sync --stub-wasi --minify --js src/channel.js --output "$output"
