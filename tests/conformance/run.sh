#!/usr/bin/env bash
# The official conformance suite in all four pairs: its requirements of the legacy and of the modern
# era, each against a server of either era through the gateway: on the server's own endpoint with a
# child for each session ("own") and with a shared one ("shared"), and on the aggregate with one for
# each session ("aggregate"). What is compared with is the reference backend's own HTTP, in the era
# of the requirements ("direct"). compare.py says what is asked.
#
#   tests/conformance/run.sh             the four pairs
#   tests/conformance/run.sh --table     and their results as the table of README.md
#
# Further arguments go to compare.py. CONFORMANCE_ERAS="legacy modern dual" adds a server of both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
suite=$("$here/../setup/setup.sh" --path)/conformance
gateway_bin=${MCP_GATEWAY_BIN:-$root/target/debug/mcp-gateway}
reference="$(dirname "$gateway_bin")/examples/reference-backend"
requirements=(2025-11-25 2026-07-28)
read -ra eras <<<"${CONFORMANCE_ERAS:-legacy modern}"
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

# start NAME PATTERN COMMAND...: runs it; `reply` is what the pattern's group finds in its output.
start() {
    local name=$1 pattern=$2 found
    shift 2
    : >"$work/$name.log"
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 500); do
        found=$(sed -nE "s#.*$pattern.*#\\1#p" "$work/$name.log" | head -n 1)
        [ -n "$found" ] && { reply=$found; return; }
        kill -0 $! 2>/dev/null || break
        sleep 0.02
    done
    cat "$work/$name.log" >&2
    echo "conformance: $name does not listen" >&2
    exit 1
}

# gateway NAME: a daemon with $work/NAME.yaml.
gateway() {
    MCP_GATEWAY_CACHE=$work/$1.cache MCP_GATEWAY_STATE=$work/state MCP_GATEWAY_LOG=info,audit=off \
        start "$1" 'listening on (http://[^/]+)/mcp' \
        "$gateway_bin" serve -c "$work/$1.yaml" --port 0
}

runs=()
for pair in 2025-11-25=legacy 2026-07-28=modern; do
    era=${pair#*=}
    start "direct-$era" 'listening on ([0-9.]+:[0-9]+)' "$reference" http --port 0 --era "$era"
    runs+=(--direct "${pair%=*}=http://$reply/mcp")
done
for era in "${eras[@]}"; do
    child="command: \"$reference\", args: [stdio, --era, $era]"
    printf 'servers:\n  own: {%s, share: session}\n  shared: {%s}\n' "$child" "$child" \
        >"$work/two-$era.yaml"
    printf 'servers:\n  only: {%s, share: session, prefix: ""}\n' "$child" >"$work/one-$era.yaml"
    gateway "two-$era"
    two=$reply
    gateway "one-$era"
    for revision in "${requirements[@]}"; do
        runs+=(
            --gateway "$revision/$era/own=$two/mcp/own"
            --gateway "$revision/$era/shared=$two/mcp/shared"
            --gateway "$revision/$era/aggregate=$reply/mcp"
        )
    done
done

"$here/compare.py" --suite-dir "$suite" "${runs[@]}" "$@"
