#!/usr/bin/env bash
# Installs what sets a process's clock in tests: install.sh FOLDER. Does nothing where it is there already.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
for library in /usr/lib/*/faketime/libfaketimeMT.so.1; do
    [ -e "$library" ] && exit 0
done
"$(dirname "$0")/packages.sh" 'libfaketime=0.9.10-*'
