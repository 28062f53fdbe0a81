#!/usr/bin/env bash
# The official conformance suite, direct against the reference backend's HTTP and through the
# gateway against its stdio: on its own endpoint, with a child for each session and with a shared
# one, and on the aggregate. Nothing that succeeds direct may be anything else through us.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
suite=$("$here/../setup/setup.sh" --path)/conformance
gateway_bin=${MCP_GATEWAY_BIN:-$root/target/debug/mcp-gateway}
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

# start NAME PATTERN COMMAND...: runs it and prints what the pattern's group finds in its output.
start() {
    local name=$1 pattern=$2 found
    shift 2
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

reference="$(dirname "$gateway_bin")/examples/reference-backend"
start direct 'listening on ([0-9.]+:[0-9]+)' "$reference" http --port 0
direct=http://$reply/mcp
export MCP_GATEWAY_CACHE=$work/cache MCP_GATEWAY_LOG=info,audit=off
cat >"$work/gateway.yaml" <<YAML
servers:
  own: {command: "$reference", args: [stdio], share: session}
  shared: {command: "$reference", args: [stdio]}
YAML
cat >"$work/aggregate.yaml" <<YAML
servers:
  only: {command: "$reference", args: [stdio], prefix: ""}
YAML
start gateway 'listening on (http://[^/]+)/mcp' "$gateway_bin" serve -c "$work/gateway.yaml" --port 0
gateway=$reply
start aggregate 'listening on (http://[^/]+)/mcp' "$gateway_bin" serve -c "$work/aggregate.yaml" --port 0
aggregate=$reply

passed=0 failed=0
for row in "a child of its own: $gateway/mcp/own" "a shared child: $gateway/mcp/shared" "the aggregate: $aggregate/mcp"; do
    echo "conformance 2025-11-25, ${row%%: *}"
    if "$here/compare.py" --suite-dir "$suite" --direct "$direct" --gateway "${row#*: }" --requirements 2025-11-25; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
