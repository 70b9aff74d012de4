#!/usr/bin/env bash
# Installs the servers that the e-mail channel is proved against: install.sh FOLDER. Does nothing where they are there.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
if [ -x /usr/sbin/dovecot ] && [ -x /usr/sbin/smtpd ] && [ -x /usr/lib/dovecot/submission ]; then exit 0; fi
[ "$(id -u)" = 0 ] || {
    echo "install.sh: apt-get install dovecot-imapd dovecot-lmtpd dovecot-submissiond opensmtpd" >&2
    exit 1
}
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
    'dovecot-imapd=1:2.3.19.*' 'dovecot-lmtpd=1:2.3.19.*' 'dovecot-submissiond=1:2.3.19.*' 'opensmtpd=6.8.0p2-*'
