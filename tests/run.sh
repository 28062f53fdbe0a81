#!/usr/bin/env bash
# Runs everything that `make test` promises, and counts it.
#
#   tests/run.sh         formatting, lints, dependencies, all cargo tests, real clients in both
#                        eras, conformance, the package in a real systemd (as root)
#   tests/run.sh soak    the long runs, in release mode: cargo tests with `#[ignore = "soak"]`, and
#                        tests/soak/run.sh, every combination of real clients and backends, and
#                        of features and eras
#
# The suites that are no cargo tests (clients, conformance, python, packaging, rig) run if they are
# there, the first three with the gateway to test in MCP_GATEWAY_BIN. Their last line of the form `NAME: N passed, N
# failed[, N skipped]` is what they count for; a status other than 0 is a failure, whatever that
# line says.
#
# The last line of this script is `N passed, N failed, N skipped`. The status is 0 if nothing failed
# and no more was skipped than tests/skips allows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1:-all}
case $mode in
all | soak) ;;
*)
    echo "usage: tests/run.sh [soak]" >&2
    exit 64
    ;;
esac

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

passed=0 failed=0 skipped=0
broken=()

say() { printf '\n== %s\n' "$*"; }

# count PASSED FAILED SKIPPED
count() {
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# Runs a command with its output shown and kept; its status and seconds are in `status`, `took`.
run() {
    local name=$1
    shift
    say "$name: $*"
    local began=$SECONDS
    status=0
    "$@" 2>&1 | tee "$logs/out" || status=${PIPESTATUS[0]}
    took=$((SECONDS - began))
    if [ "$status" -eq 0 ]; then
        echo "== $name: ok, $took s"
    else
        echo "== $name: FAILED with status $status, $took s"
        broken+=("$name")
    fi
}

# A command that either passes or fails, as one test.
check() {
    run "$@"
    if [ "$status" -eq 0 ]; then count 1 0 0; else count 0 1 0; fi
}

# A command that must work before anything can be tested, and is no test itself.
need() {
    run "$@"
    if [ "$status" -ne 0 ]; then count 0 1 0; fi
}

# cargo's own tests: every `test result:` line counts. What is ignored for the soak is no skip.
cargo_tests() {
    export MCP_GATEWAY_SKIPS=$logs/skips
    : >"$MCP_GATEWAY_SKIPS"
    run "$@"
    local sums skips
    sed 's/^/skipped: /' "$MCP_GATEWAY_SKIPS"
    skips=$(wc -l <"$MCP_GATEWAY_SKIPS")
    sums=$(awk '
        /^test .* \.\.\. ignored, soak$/ { s-- }
        /^test result:/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) p += $(i - 1)
                if ($i ~ /^failed/) f += $(i - 1)
                if ($i ~ /^ignored/) s += $(i - 1)
            }
        }
        END { printf "%d %d %d", p, f, s }' "$logs/out")
    # shellcheck disable=SC2086 # three numbers
    set -- $sums
    # A test that cannot be built, or a harness that dies, has no line to count.
    if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then set -- "$1" 1 "$3"; fi
    # They have passed for cargo.
    count $(($1 - skips)) "$2" $(($3 + skips))
}

# A suite that counts for itself.
suite() {
    run "$@"
    local line
    line=$(grep -oE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$logs/out" | tail -n 1 || true)
    # shellcheck disable=SC2086 # the words are the numbers and their names
    set -- $line
    local p=${1:-0} f=${3:-0} s=${5:-0}
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ -z "$line" ] && [ "$status" -eq 0 ]; then
        echo "no line \`N passed, N failed\`" >&2
        broken+=("no count")
        f=1
    fi
    count "$p" "$f" "$s"
}

export MCP_GATEWAY_BIN=$target/debug/mcp-gateway
if [ "$mode" = soak ]; then
    export MCP_GATEWAY_BIN=$target/release/mcp-gateway
    need build cargo build --locked --release --bins --examples
    cargo_tests soak cargo test --locked --release --no-fail-fast -- --ignored --nocapture
    suite matrix tests/soak/run.sh matrix --binary "$MCP_GATEWAY_BIN"
    suite clients tests/soak/run.sh clients --binary "$MCP_GATEWAY_BIN"
else
    need setup tests/setup/setup.sh
    tools=$(tests/setup/setup.sh --path)/tools/bin
    check format cargo fmt --check
    check clippy cargo clippy --locked --all-targets -- -D warnings
    check dependencies "$tools/cargo-deny" --locked --color never \
        check --hide-inclusion-graph bans licenses sources
    if [ "$(id -u)" -eq 0 ]; then
        cargo_tests cargo cargo test --locked --no-fail-fast
    else
        echo "skipped: tests/sandbox and tests/kills play users and services, which takes root"
        count 0 0 2
        cargo_tests cargo cargo test --locked --no-fail-fast --lib --bins --test it --test tidy
    fi
    if [ -x tests/clients/run.sh ]; then
        suite clients tests/clients/run.sh --binary "$MCP_GATEWAY_BIN"
    fi
    if [ -x tests/clients/matrix.sh ]; then
        suite matrix tests/clients/matrix.sh --binary "$MCP_GATEWAY_BIN"
    fi
    if [ -x tests/conformance/run.sh ]; then suite conformance tests/conformance/run.sh; fi
    suite python tests/python/run.sh --binary "$MCP_GATEWAY_BIN"
    suite packaging tests/packaging/run.sh
    suite rig tests/rig/run.sh
fi

allowed=$(cat tests/skips)
echo
if [ "$skipped" -gt "$allowed" ]; then
    echo "more was skipped than tests/skips allows ($allowed)"
    broken+=(skips)
fi
if [ ${#broken[@]} -gt 0 ]; then printf 'failed: %s\n' "${broken[@]}"; fi
echo "took $SECONDS s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ ${#broken[@]} -eq 0 ]
