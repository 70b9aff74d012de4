#!/usr/bin/env bash
# Installs the server that the IRC channel is proved against: install.sh FOLDER. Does nothing where it is there already.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
if command -v ngircd >/dev/null || [ -x /usr/sbin/ngircd ]; then exit 0; fi
"$(dirname "$0")/../../../tests/harness/packages.sh" 'ngircd=26.1-*'
