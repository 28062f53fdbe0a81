#!/usr/bin/env bash
# What `make run` does: builds the gateway, uses it on the echo example, and says what to try next.
# With --serve it then serves that example until it is interrupted.
#
# The example's config and its remembered lists stay in <target>/example, so that the commands
# which are printed at the end work.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "building (the first time takes a while) …"
cargo build --locked --release --bins --example echo

target=${CARGO_TARGET_DIR:-target}
target=$(cd "$target" && pwd)
gateway=$target/release/mcp-gateway
folder=$target/example
config=$folder/gateway.yaml
mkdir -p "$folder"
cat > "$config" << EOF
# Written by examples/run.sh.
servers:
  echo:
    command: "$target/release/examples/echo"
EOF
export MCP_GATEWAY_CACHE=$folder/cache
unset MCP_GATEWAY_ROLE MCP_GATEWAY_LOG

show() {
    printf '\n$ mcp-gateway'
    local word
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$gateway" "$@"
}

show check --config "$config"
show list --tools --config "$config"
show call --config "$config" echo_echo '{"text":"hello"}'

cat << EOF

The gateway is $gateway
and its config here $config (one server, \`echo\`). Try next:

  $gateway call -c $config echo_add '{"a": 2, "b": 3}'
  $gateway call -c $config gateway_status

  make run SERVE=1           serve it at http://127.0.0.1:8765/mcp
  claude mcp add gateway -- $gateway stdio -c $config
  claude mcp add --transport http gateway http://127.0.0.1:8765/mcp     (while it is served)

Cursor (~/.cursor/mcp.json), and VS Code (.vscode/mcp.json, with "servers" for "mcpServers"):

  {"mcpServers": {"gateway": {"command": "$gateway", "args": ["stdio", "-c", "$config"]}}}

For your own servers write a gateway.yaml: examples/gateway.yaml has every key, README.md explains
them, and \`mcp-gateway check\` says what is wrong with it.
EOF

if [ "${1:-}" = --serve ]; then
    printf '\n$ mcp-gateway serve --config %q          (Ctrl-C ends it)\n' "$config"
    exec "$gateway" serve --config "$config"
fi
