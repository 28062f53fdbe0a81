#!/usr/bin/env bash
# What is shipped beside the code, by the tools of those who ship it: manuals, units, plists, the
# formula, the Debian package, `make install`. The last line is `packaging: N passed, N failed,
# N skipped`.
#
# DEB is a package that was built already; BUILD the target folder that it was built in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

passed=0 failed=0
check() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        printf '%s\n' "$said" | tail -n 30
    fi
}

silent() {
    local said
    said=$("$@" 2>&1 >/dev/null) || { printf '%s\n' "$said"; return 1; }
    [ -z "$said" ] || { printf '%s\n' "$said"; return 1; }
}

if ! tests/setup/debian.sh; then
    echo "skipped: the tools above are missing, and only root can install them"
    echo "packaging: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
if [ -z "${DEB:-}" ]; then
    make --no-print-directory deb
    DEB=target/deb/mcp-gateway_$(dpkg-parsechangelog -SVersion)_$(dpkg --print-architecture).deb
fi
build=${BUILD:-target/deb/build}

check "manuals: mandoc" mandoc -T lint -W warning man/*
manual() { MANROFFSEQ='' MANWIDTH=80 silent man --warnings -E UTF-8 -l -Tutf8 -Z "$1"; }
for page in man/*; do check "manual: $page" manual "$page"; done

installed=$(mktemp -d)
trap 'rm -rf "$installed"' EXIT
check "make install" make --no-print-directory install-files TARGET="$build" DESTDIR="$installed" PREFIX=/usr UNITS=systemd
complete() {
    local file lacking=0
    for file in usr/bin/mcp-gateway usr/bin/mcp-gateway-exec usr/bin/mcp-gateway-stdio \
        usr/share/man/man1/mcp-gateway{,-exec,-stdio}.1 \
        usr/share/man/man5/mcp-gateway.yaml.5 usr/share/man/man8/mcp-gateway.8 \
        usr/share/mcp-gateway/gateway.schema.json etc/mcp-gateway/gateway.yaml \
        etc/mcp-gateway/conf.d/README usr/share/bash-completion/completions/mcp-gateway \
        usr/share/zsh/site-functions/_mcp-gateway usr/share/fish/vendor_completions.d/mcp-gateway.fish \
        usr/lib/sysusers.d/mcp-gateway.conf usr/lib/tmpfiles.d/mcp-gateway.conf \
        usr/lib/systemd/system/mcp-gateway{.service,.socket,-http.socket} \
        usr/lib/systemd/user/mcp-gateway{.service,.socket}; do
        [ -s "$installed/$file" ] || { echo "no $file"; lacking=1; }
    done
    return $lacking
}
check "make install: complete" complete
check "completions: bash" bash -n "$installed/usr/share/bash-completion/completions/mcp-gateway"
check "the default config" "$build/release/mcp-gateway" check --config "$installed/etc/mcp-gateway/gateway.yaml"
twice() {
    echo "# mine" >> "$installed/etc/mcp-gateway/gateway.yaml"
    make --no-print-directory install-files TARGET="$build" DESTDIR="$installed" PREFIX=/usr >/dev/null
    grep -q "# mine" "$installed/etc/mcp-gateway/gateway.yaml"
}
check "make install: a changed config stays" twice

# An installed program is what verify looks for; the rig's suite runs it where there is one.
verify() {
    local said
    said=$(systemd-analyze verify --man=no "$1" 2>&1 | grep -v "is not executable" || true)
    [ -z "$said" ] || { printf '%s\n' "$said"; return 1; }
}
for unit in systemd/system/* ; do check "unit: $unit" verify "$unit"; done
check "unit: exposure at most 3.7" systemd-analyze security --offline=true --threshold=37 systemd/system/mcp-gateway.service

check "plists" python3 tests/packaging/plists.py
check "formula: ruby" ruby -wc packaging/homebrew/mcp-gateway.rb
check "formula: what it says" ruby tests/packaging/formula.rb

check "package: lintian" lintian --no-cfg --pedantic --fail-on error,warning "$DEB"

echo "packaging: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
