#!/usr/bin/env bash
# Tests the Python package: ruff, mypy, and all its tests against the wheel, in a fresh venv.
#
#   tests/python/run.sh [--binary PATH] [--python PYTHON] [pytest arguments]
#
# What the tests use is pinned in requirements.txt and installed once, into a directory named by a hash
# of the pins below the cache of tests/setup/setup.sh; a run with nothing to do needs no network. The
# wheel is built with the pinned hatchling and installed into a venv that is made for this run and sees
# those packages.
#
# The gateway is --binary, else MCP_GATEWAY_BIN, else target/debug/mcp-gateway; without one the tests
# that need it are skipped. The last line is `N passed, N failed, N skipped`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

python=$(command -v python3)
binary=${MCP_GATEWAY_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/mcp-gateway}
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2 && shift 2 ;;
    --python) python=$(command -v "$2") && shift 2 ;;
    *) break ;;
    esac
done

say() { printf 'python: %s\n' "$*"; }

cache=$("$here/../setup/setup.sh" --path)
mkdir -p "$cache"
pins=$({ uname -sm; echo "$python"; "$python" -V; cat "$here/requirements.txt"; } | sha256sum)
packages=$cache/python-package-${pins:0:12}
if command -v flock >/dev/null; then
    exec 9>"$cache/.lock-python-package"
    flock 9
fi
if [ ! -e "$packages/.complete" ]; then
    say "installing $(grep -c == "$here/requirements.txt") packages into $packages"
    rm -rf "$packages"
    "$python" -m venv "$packages"
    "$packages/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --only-binary :all: -r "$here/requirements.txt"
    : >"$packages/.complete"
else
    say "packages: in place ($packages)"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

passed=0 failed=0 skipped=0
check() { # NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        say "$name: ok"
        passed=$((passed + 1))
    else
        say "$name: FAILED"
        cat "$work/out"
        failed=$((failed + 1))
    fi
}

cd "$root/python"
check ruff "$packages/bin/python" -m ruff check --no-cache .
check mypy "$packages/bin/python" -m mypy --cache-dir "$work/mypy" --python-executable "$packages/bin/python"
check wheel "$packages/bin/python" -m build --wheel --no-isolation --outdir "$work" .

# Fresh, and it sees the pinned packages, but not as its own: nothing of ours can be left in it.
"$python" -m venv --without-pip "$work/venv"
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$packages/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/packages.pth"
check install "$packages/bin/python" -m pip --python "$work/venv/bin/python" install --quiet \
    --disable-pip-version-check --no-deps --no-index "$work"/mcp_gateway_python-*.whl

if [ -x "$binary" ]; then
    MCP_GATEWAY_BIN=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")
    export MCP_GATEWAY_BIN
    say "gateway: $MCP_GATEWAY_BIN"
else
    unset MCP_GATEWAY_BIN
    say "gateway: none at $binary, its tests are skipped"
fi
# What a developer has set must not decide a test.
unset PYTHONPATH MCP_GATEWAY_ROLE
export MCP_GATEWAY_CACHE=$work/cache MCP_GATEWAY_LOG=info PYTHONDONTWRITEBYTECODE=1
status=0
"$work/venv/bin/python" -m pytest -p no:cacheprovider "$@" 2>&1 | tee "$work/out" || status=$?
line=$(tail -n 1 "$work/out")
number() { grep -oE "[0-9]+ $1" <<<"$line" | grep -oE '[0-9]+' || echo 0; }
errors=$(number error)
passed=$((passed + $(number passed)))
failed=$((failed + $(number failed) + errors))
skipped=$((skipped + $(number skipped)))
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
