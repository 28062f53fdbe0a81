#!/usr/bin/env bash
# The Debian package as an administrator uses it: built, installed in a real systemd, called by two
# users, upgraded, purged. Needs root and the systemd rig; says so and counts as skipped without.
#
#   tests/rig/run.sh [SUITE...]     bookworm (systemd 252) and trixie (257) unless said otherwise
#
# RIG names the rig's script; else it is looked for beside the project, in ../shared/systemd-rig.
# The last line is `rig: N passed, N failed, N skipped`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
    echo "skipped: $*"
    echo "rig: 0 passed, 0 failed, 1 skipped"
    exit 0
}

[ "$(uname)" = Linux ] || skip "systemd is Linux's"
[ "$(id -u)" -eq 0 ] || skip "only root can boot a systemd"
RIG=${RIG:-$PWD/../shared/systemd-rig/rig}
[ -x "$RIG" ] || skip "no systemd rig at $RIG"
tests/setup/debian.sh || skip "the tools above are missing"
export RIG

target=${CARGO_TARGET_DIR:-target}
[ -x "$target/debug/examples/echo" ] || cargo build --locked --examples
export ECHO=$target/debug/examples/echo

arch=$(dpkg --print-architecture)
export DEB=${DEB:-}
if [ -z "$DEB" ]; then
    make --no-print-directory deb
    DEB=target/deb/mcp-gateway_$(dpkg-parsechangelog -SVersion)_$arch.deb
fi
export HIGHER=target/deb/mcp-gateway_9999_$arch.deb
packaging/deb.sh repack 9999

python=$(tests/setup/setup.sh --path)/python/bin/python
if [ $# -eq 0 ]; then set -- bookworm trixie; fi
passed=0 failed=0 skipped=0
for suite in "$@"; do
    echo "== $suite"
    log=$(mktemp)
    # A name of its own, so that two checkouts can be tested at once.
    if RIG_SUITE=$suite RIG_NAME=mcpgw-$suite-$$ RIG_QUIET=1 \
        timeout 900 "$RIG" with -- "$python" tests/rig/suite.py 2>&1 | tee "$log"; then :; fi
    line=$(grep -oE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1 || true)
    rm -f "$log"
    if [ -z "$line" ]; then
        echo "$suite: the suite did not come to its end"
        failed=$((failed + 1))
        continue
    fi
    # shellcheck disable=SC2086 # the words are the numbers and their names
    read -r p _ f _ s _ <<<"$line"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "rig: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
