#!/usr/bin/env bash
# Installs the servers that the e-mail channel is proved against: install.sh FOLDER. Does nothing where they are there.
set -euo pipefail

: "${1:?usage: install.sh FOLDER}"
if [ -x /usr/sbin/dovecot ] && [ -x /usr/sbin/smtpd ] && [ -x /usr/lib/dovecot/submission ]; then exit 0; fi
"$(dirname "$0")/../../../tests/harness/packages.sh" \
    'dovecot-imapd=1:2.3.19.*' 'dovecot-lmtpd=1:2.3.19.*' 'dovecot-submissiond=1:2.3.19.*' 'opensmtpd=6.8.0p2-*'
