#!/usr/bin/env bash
# Installs the Matrix channel's third-party peers below a folder: install.sh FOLDER. Does nothing where they are there
# already and unchanged.
set -euo pipefail

folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
venv=$folder/matrix-venv
if ! cmp --silent "$here/requirements.txt" "$venv/.installed-from"; then
    command -v python3 >/dev/null || {
        echo 'install.sh: python3 is missing: install Python 3.10 or newer with its venv module (apt: python3-venv)' >&2
        exit 1
    }
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/.installed-from"
fi
