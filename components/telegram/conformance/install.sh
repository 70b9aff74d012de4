#!/usr/bin/env bash
# Installs the Telegram channel's third-party peers below a folder: install.sh FOLDER. Does nothing where they are there
# already and unchanged.
set -euo pipefail

folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

need() {
    command -v "$1" >/dev/null || { echo "install.sh: $1 is missing: $2" >&2; exit 1; }
}

# Says whether what stands in $2 was installed from what $1 says now.
is_current() {
    cmp --silent "$1" "$2/.installed-from"
}

venv=$folder/telegram-venv
if ! is_current "$here/requirements.txt" "$venv"; then
    need python3 'install Python 3.10 or newer with its venv module (apt: python3-venv)'
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/.installed-from"
fi

emulator=$folder/telegram-emulator
if ! is_current "$here/emulator/package.json" "$emulator"; then
    need npm 'install Node.js 18 or newer with npm'
    rm -rf "$emulator"
    cp -r "$here/emulator" "$emulator"
    if [ -e "$emulator/package-lock.json" ]; then
        npm --prefix "$emulator" ci --silent --no-audit --no-fund
    else
        npm --prefix "$emulator" install --silent --no-audit --no-fund
    fi
    cp "$here/emulator/package.json" "$emulator/.installed-from"
fi
# What starts it may change without its dependencies.
cp "$here/emulator/start.js" "$emulator/start.js"
