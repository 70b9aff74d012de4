#!/usr/bin/env bash
# Installs the server that the IRC channel is proved against: install.sh FOLDER. Does nothing where it is there already.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
if command -v ngircd >/dev/null || [ -x /usr/sbin/ngircd ]; then exit 0; fi
[ "$(id -u)" = 0 ] || { echo "install.sh: ngircd is missing: apt-get install ngircd" >&2; exit 1; }
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends 'ngircd=26.1-*'
