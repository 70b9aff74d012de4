#!/usr/bin/env bash
# Installs what sets a process's clock in tests: install.sh FOLDER. Does nothing where it is there already.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
for library in /usr/lib/*/faketime/libfaketimeMT.so.1; do
    [ -e "$library" ] && exit 0
done
[ "$(id -u)" = 0 ] || { echo "install.sh: libfaketime is missing: apt-get install libfaketime" >&2; exit 1; }
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends 'libfaketime=0.9.10-*'
