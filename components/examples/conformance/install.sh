#!/usr/bin/env bash
# Installs what builds the examples below a folder: install.sh FOLDER. Does nothing where it is there already and
# unchanged.
set -euo pipefail

folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder"

need() {
    command -v "$1" >/dev/null || { echo "install.sh: $1 is missing: $2" >&2; exit 1; }
}

# Says whether what stands in $2 was installed from what $1 says now.
is_current() {
    cmp --silent "$1" "$2/.installed-from"
}

javascript=$folder/examples-javascript
if ! is_current "$here/javascript/package.json" "$javascript"; then
    need npm 'install Node.js 18 or newer with npm'
    rm -rf "$javascript"
    mkdir "$javascript"
    cp "$here/javascript/package.json" "$javascript"
    # Not `npm ci`: the tool names builds for systems that were never published, which no lock file can hold.
    (cd "$javascript" && npm install --silent --no-audit --no-fund --no-package-lock)
    cp "$here/javascript/package.json" "$javascript/.installed-from"
fi

python=$folder/examples-python
if ! is_current "$here/python/requirements.txt" "$python"; then
    need python3 'install Python 3.10 or newer with its venv module (apt: python3-venv)'
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/python/requirements.txt"
    cp "$here/python/requirements.txt" "$python/.installed-from"
fi
