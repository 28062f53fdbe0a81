#!/bin/sh
# Installs the Debian tools that the packaging tests use, if any is missing and we may.
set -eu

missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need dh_installsystemd debhelper
need lintian lintian
need mandoc mandoc
need man man-db
need ruby ruby
need dpkg-buildpackage dpkg-dev
need systemd-analyze systemd
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "missing:$missing" >&2
    exit 1
fi
# shellcheck disable=SC2086 # package names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
