#!/usr/bin/env bash
# Installs Debian packages: packages.sh PACKAGE... Where that fails, once more with fresh lists: those of an image name
# versions that the mirror drops with the next security update.
set -euo pipefail

[ "$#" -gt 0 ] || { echo 'usage: packages.sh PACKAGE...' >&2; exit 2; }
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install --yes --quiet --no-install-recommends -o Acquire::Retries=3 "$@"; }
[ "$(id -u)" = 0 ] || { echo "packages.sh: as root: apt-get install ${*%%=*}" >&2; exit 1; }
install "$@" || { apt-get update --quiet -o Acquire::Retries=3; install "$@"; }
