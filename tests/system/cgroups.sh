#!/bin/bash
# Limits by cgroups, on a machine with systemd and the controllers of the second version. Runs as
# root, in a folder with mcp-gateway, mcp-gateway-exec and server.pl; installs nothing.
#
#   rig-vm run -t 400 -f target/debug/mcp-gateway -f target/debug/mcp-gateway-exec \
#       -f tests/system/server.pl tests/system/cgroups.sh
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p /opt/gateway/bin
cp "$here"/mcp-gateway "$here"/mcp-gateway-exec "$here"/server.pl /opt/gateway/bin
chmod 755 /opt/gateway /opt/gateway/bin /opt/gateway/bin/*
cat > /opt/gateway/gateway.yaml <<'EOF'
servers:
  taker:
    command: perl
    args: [/opt/gateway/bin/server.pl]
    limits: {memory: 64M, processes: 20}
    timeouts: {start: 60s, call: 120s}
    # An older kernel has no Landlock to speak of.
    sandbox: {network: none, read: [/opt/gateway/bin], require: [namespaces, seccomp]}
EOF
passed=0 failed=0
holds() { # WHAT TEXT PATTERN
    if grep -qE "$3" <<< "$2"; then
        passed=$((passed + 1)); echo "ok: $1"
    else
        failed=$((failed + 1)); echo "FAILED: $1: $2"
    fi
}
run() { # in a unit with these properties
    systemd-run --quiet --pipe --wait --collect -p User=root -p Environment=HOME=/root "$@" 2>&1
}
gateway() { run -p Delegate=yes /opt/gateway/bin/mcp-gateway "$@" -c /opt/gateway/gateway.yaml; }

told=$(gateway call gateway_status '{}')
holds "cgroups are found and used" "$told" '"memory_limits": "held by cgroups"'
told=$(gateway call taker_hello '{}')
holds "a server runs in its own" "$told" '^hello$'
told=$(gateway call taker_grow '{}')
holds "processes together are held to the memory" "$told" \
    'killed for its memory: limits.memory allows 64 MiB'
told=$(gateway call taker_fork '{}')
holds "root too is held to a number of processes" "$told" '^(1[5-9]|2[0-3])$'
told=$(run /opt/gateway/bin/mcp-gateway call gateway_status '{}' -c /opt/gateway/gateway.yaml)
holds "without Delegate= nothing is touched, and the reason is told" "$told" \
    'best effort: .* is not ours \(a unit with Delegate=yes'

# A gateway that is killed, in a unit that kills nobody else.
systemd-run --quiet --unit gateway-test -p KillMode=process -p Delegate=yes -p Environment=HOME=/root \
    -p Restart=on-failure -p RestartSec=2 \
    /opt/gateway/bin/mcp-gateway serve --port 8123 -c /opt/gateway/eager.yaml
sed 's/timeouts:/lazy: false\n    timeouts:/' /opt/gateway/gateway.yaml > /opt/gateway/eager.yaml
runs() { pgrep -fc '^perl /opt/gateway|^/usr/bin/perl /opt' || true; }
for _ in $(seq 100); do [ "$(runs)" = 0 ] || break; sleep 0.5; done
holds "it runs" "$(runs)" '^[1-9]'
at=/sys/fs/cgroup/system.slice/gateway-test.service
holds "in a leaf with its limits" "$(cat $at/instance-*/memory.max)" '^67108864$'
holds "which are many" "$(cat $at/instance-*/pids.max $at/instance-*/cpu.weight | tr '\n' ' ')" '^23 50 $'
before=$(pgrep -f '^perl /opt/gateway|^/usr/bin/perl /opt' | tr '\n' ' ')
kill -9 "$(systemctl show -P MainPID gateway-test)"
for _ in $(seq 100); do
    alive=0
    for pid in $before; do [ -d "/proc/$pid" ] && alive=1; done
    [ $alive = 0 ] && break
    sleep 0.1
done
holds "killed with its gateway" "$alive" '^0$'
systemctl stop gateway-test

echo "cgroups: $passed passed, $failed failed"
[ "$failed" = 0 ]
