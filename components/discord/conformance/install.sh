#!/usr/bin/env bash
# Installs the client library that the fake of Discord is checked by: install.sh FOLDER. Does nothing where it is there
# already and unchanged.
set -euo pipefail

folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
venv=$(cd "$folder" && pwd)/discord-venv
if ! cmp --silent "$here/requirements.txt" "$venv/.installed-from"; then
    command -v python3 >/dev/null || { echo 'install.sh: install Python 3.10 or newer (apt: python3-venv)' >&2; exit 1; }
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/.installed-from"
fi
