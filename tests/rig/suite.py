#!/usr/bin/env python3
"""What the installed package does in one systemd, from its installation to its purge.

Each step is one test and stands on those before it, as on a real machine. run.sh starts this.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from rig import (Client, Failed, RIG, active, eventually, expect, is_true, journal, push, run,
                 shown, words, write)

HERE = Path(__file__).resolve().parent
SOCKET = "/run/mcp-gateway/mcp-gateway.sock"
SERVICE = "mcp-gateway.service"
UNIT = "mcp-gateway.socket"
SECRET = "a-secret-argument"
STEPS = []

CONFIG = """
timeouts: {exit: %(exit)s}
servers:
  e: {command: /usr/local/bin/echo-server, timeouts: {idle: 1s}}
  hang: {command: /usr/local/bin/hang-server, timeouts: {idle: 1s}}
%(more)s
roles:
  all: null
  reader: [e_echo]
access:
  - {user: alice, role: all}
  - {user: bob, role: reader}
"""


def step(function):
    STEPS.append(function)
    return function


def configure(exit="60s", more=""):
    write("/etc/mcp-gateway/gateway.yaml", CONFIG % {"exit": exit, "more": more})


def main_pid():
    return int(shown(SERVICE, "MainPID"))


def of_the_gateway():
    """What runs as the gateway's user."""
    return run("ps", "-u", "mcp-gateway", "-o", "pid=,args=", status=None).split("\n")[:-1]


@step
def it_installs_and_waits():
    # The rig's /proc is covered in part, as no machine's is; with that the kernel refuses a fresh
    # one in a user namespace, and so the servers' sandbox.
    run("mount", "-t", "proc", "proc", "/proc")
    subprocess.run([*RIG, "install", os.environ["DEB"]], check=True, timeout=300,
                   stdout=subprocess.DEVNULL)
    expect(active(UNIT) == "active", active(UNIT))
    expect(active(SERVICE) == "inactive", active(SERVICE))
    expect(active("mcp-gateway-http.socket") == "inactive")
    run("systemctl", "enable", "--now", UNIT)
    expect(is_true("systemctl", "is-enabled", UNIT))
    expect(run("stat", "-c", "%U %G %a", SOCKET).strip() == "mcp-gateway mcp-gateway-users 660",
           run("stat", "-c", "%U %G %a", SOCKET))


@step
def its_units_verify():
    for unit in (UNIT, SERVICE, "mcp-gateway-http.socket"):
        said = run("systemd-analyze", "verify", "--man=no", unit)
        expect(not [line for line in said.splitlines() if "mcp-gateway" in line], said)
    run("mcp-gateway", "check", "--config", "/etc/mcp-gateway/gateway.yaml")


@step
def two_users_have_two_roles():
    push(os.environ["ECHO"], "/usr/local/bin/echo-server")
    push(str(HERE / "hang.sh"), "/usr/local/bin/hang-server")
    run("chmod", "755", "/usr/local/bin/echo-server", "/usr/local/bin/hang-server")
    for name in ("alice", "bob", "mallory", "carol"):
        run("useradd", "-m", name)
    for name in ("alice", "bob", "carol"):
        run("usermod", "-aG", "mcp-gateway-users", name)
    configure()
    run("mcp-gateway", "check", "--config", "/etc/mcp-gateway/gateway.yaml")
    alice, bob = Client("alice"), Client("bob")
    expect({"e_echo", "e_add", "hang_hang"} <= set(alice.tools()), alice.tools())
    expect(bob.tools() == ["e_echo"], bob.tools())
    expect(alice.echo(SECRET) == SECRET)
    expect(bob.echo("b") == "b")
    denied = bob.call("e_add", a=1, b=2)
    unknown = bob.call("e_none", a=1, b=2)
    expect(denied["error"]["code"] == unknown["error"]["code"], denied, unknown)
    expect("result" in alice.call("e_add", a=1, b=2))
    expect(alice.close() == 0 and bob.close() == 0)


@step
def who_has_no_rule_has_no_access():
    said = run("mcp-gateway-stdio", user="mallory", status=77)
    expect("usermod -aG mcp-gateway-users mallory" in said, said)
    carol = subprocess.run(words("mcp-gateway-stdio", user="carol"), text=True, timeout=60,
                           capture_output=True, check=False, input="\n")
    expect(carol.returncode == 77, carol)


def sdk(user, steps, *args):
    """The official Python SDK as the client; the document of what it saw."""
    endpoint = {"stdio": words("mcp-gateway-stdio", *args, user=user)}
    driver = HERE.parent / "clients/python_sdk.py"
    done = subprocess.run([sys.executable, driver, json.dumps(endpoint), json.dumps(steps)],
                          text=True, timeout=120, capture_output=True, check=False)
    expect(done.returncode == 0, done.stderr[-2000:])
    return json.loads(done.stdout)


@step
def the_official_client_works_for_both():
    steps = [{"op": "tools/list"}, {"op": "call", "name": "e_echo", "arguments": {"text": "sdk"}}]
    for user, many in (("alice", 3), ("bob", 1)):
        seen = sdk(user, steps)["steps"]
        tools = [tool["name"] for tool in seen[0]["result"]["tools"]]
        expect(len(tools) >= many and (user == "alice" or tools == ["e_echo"]), user, tools)
        expect(seen[1]["result"]["content"][0]["text"] == "sdk", seen[1])


@step
def the_journal_has_no_arguments():
    entries = journal("-u", SERVICE)
    expect(any("audit" in str(entry.get("MESSAGE")) for entry in entries), "nothing was logged")
    expect(SECRET not in json.dumps(entries), "an argument is in the journal")


@step
def idle_it_goes_and_the_bridge_stays():
    configure(exit="1s")
    run("systemctl", "restart", SERVICE)
    alice = Client("alice")
    alice.tools()
    for number in range(10):
        expect(alice.echo(str(number)) == str(number))
        eventually("its idle end", lambda: active(SERVICE) == "inactive")
        expect(active(UNIT) == "active", active(UNIT))
        expect(of_the_gateway() == [], of_the_gateway())
    expect(alice.echo("again") == "again")
    expect(not alice.unasked, alice.unasked)
    expect(alice.close() == 0)
    expect(shown(SERVICE, "Result") == "success")


@step
def a_client_in_a_loop_loses_no_connection():
    configure(exit="100ms")
    run("systemctl", "restart", SERVICE)
    # No Python in the rig: the shell does it, each time over a bridge of its own.
    request = ('{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":'
               '"2025-11-25","capabilities":{},"clientInfo":{"name":"loop","version":"1"}}}')
    write("/usr/local/bin/loop", f"""#!/bin/bash
lost=0
for i in $(seq 200); do
    answer=$(printf '%s\\n' '{request}' | mcp-gateway-stdio)
    case $answer in *serverInfo*) ;; *) lost=$((lost + 1)); echo "$i: $answer" ;; esac
    sleep 0.$((RANDOM % 20 + 5))
done
echo lost=$lost
""")
    run("chmod", "755", "/usr/local/bin/loop")
    said = subprocess.run(words("/usr/local/bin/loop", user="alice"), text=True, timeout=280,
                          capture_output=True, check=False).stdout
    expect(said.strip().endswith("lost=0"), said)
    starts = len(journal("-u", SERVICE, "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf"))
    print(f"   200 connections, {starts} starts of the service so far")


@step
def a_reload_touches_what_changed():
    configure()
    run("systemctl", "restart", SERVICE)
    alice = Client("alice")
    before = set(alice.tools())
    expect(alice.echo() == "x")
    pid = main_pid()
    configure(more="  second: {command: /usr/local/bin/echo-server}\n")
    run("systemctl", "reload", SERVICE)
    eventually("the new tools", lambda: {"second_echo"} <= set(alice.tools()) - before)
    eventually("list_changed", lambda: [one for one in alice.unasked if one.get("method") ==
                                        "notifications/tools/list_changed"])
    configure(more="  third: {comand: x}\n")
    said = run("systemctl", "reload", SERVICE, status=None)
    expect(not is_true("systemctl", "reload", SERVICE), "a bad file is reloaded", said)
    expect("second_echo" in alice.tools() and alice.echo() == "x")
    expect(main_pid() == pid, "it was restarted")
    expect(active(SERVICE) == "active")
    configure()
    run("systemctl", "reload", SERVICE)
    expect(alice.close() == 0)


@step
def killed_it_costs_one_call():
    alice = Client("alice")
    alice.tools()
    expect(alice.echo() == "x")
    hanging = alice.start("tools/call", {"name": "hang_hang", "arguments": {}})
    eventually("both servers", lambda: len(of_the_gateway()) >= 3)
    old = main_pid()
    before = set(of_the_gateway())
    run("kill", "-9", str(old))
    answer = alice.answer(hanging)
    expect("outcome is unknown" in answer["error"]["message"], answer)
    expect(alice.echo("after") == "after")
    expect(main_pid() not in (0, old))
    eventually("the end of all that the old one had",
               lambda: not before & set(of_the_gateway()))
    expect(alice.close() == 0)


@step
def a_daemon_that_stands_still_is_replaced():
    write("/run/systemd/system/mcp-gateway.service.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", SERVICE)
    alice = Client("alice")
    expect(alice.echo() == "x")
    old = main_pid()
    time.sleep(5)
    expect(main_pid() == old, "it was killed although it is well")
    run("kill", "-STOP", str(old))
    eventually("another one", lambda: main_pid() not in (0, old))
    expect(alice.echo("after") == "after")
    expect(alice.close() == 0)
    run("rm", "-r", "/run/systemd/system/mcp-gateway.service.d")
    run("systemctl", "daemon-reload")


@step
def a_users_own_gateway_serves_that_user():
    uid = run("id", "-u", "carol").strip()
    run("loginctl", "enable-linger", "carol")
    env = {"XDG_RUNTIME_DIR": f"/run/user/{uid}"}
    eventually("carol's manager", lambda: is_true("test", "-S", f"/run/user/{uid}/systemd/private"))
    run("systemctl", "--user", "enable", "--now", UNIT, user="carol", env=env)
    run("mkdir", "-p", "/home/carol/.config/mcp-gateway", user="carol")
    write("/home/carol/.config/mcp-gateway/gateway.yaml",
          "servers: {e: {command: /usr/local/bin/echo-server}}\n")
    carol = Client("carol", env=env)
    expect(carol.echo("mine") == "mine")
    expect(run("systemctl", "--user", "is-active", SERVICE, user="carol", env=env).strip() == "active")
    expect(carol.close() == 0)
    run("systemctl", "--user", "disable", "--now", UNIT, SERVICE, user="carol", env=env)
    run("loginctl", "disable-linger", "carol")


@step
def an_upgrade_under_load_loses_nothing():
    configure()
    run("systemctl", "restart", SERVICE)
    inode = run("stat", "-c", "%i", SOCKET)
    version = run("dpkg-query", "-W", "-f", "${Version}", "mcp-gateway")
    stop = threading.Event()
    counts, wrong = [], []

    def load():
        client, count = Client("alice"), 0
        while not stop.is_set():
            answer = client.call("e_echo", text=str(count))
            if answer.get("result", {}).get("content", [{}])[0].get("text") != str(count):
                wrong.append(answer)
            count += 1
        counts.append(count)
        if client.close() != 0 or client.unasked:
            wrong.append(client.unasked)

    def newcomers():
        count = 0
        while not stop.is_set():
            client = Client("bob")
            if client.echo("n") != "n":
                wrong.append("bob")
            client.close()
            count += 1
        counts.append(count)

    def guarded(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 # what goes wrong in a thread is told by the test
            wrong.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (load, load, newcomers)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    old = main_pid()
    subprocess.run([*RIG, "install", os.environ["HIGHER"]], check=True, timeout=300,
                   stdout=subprocess.DEVNULL)
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join(timeout=90)
        expect(not thread.is_alive(), "a client hangs")
    expect(not wrong, wrong[:3])
    expect(main_pid() != old, "the old daemon still runs")
    expect(run("stat", "-c", "%i", SOCKET) == inode, "another socket")
    expect(run("dpkg-query", "-W", "-f", "${Version}", "mcp-gateway") != version)
    print(f"   {counts} calls and newcomers, none lost")


@step
def the_bridge_is_small_and_quick():
    alice = Client("alice")
    alice.tools()
    for _ in range(200):
        alice.echo("x" * 1000)
    map_ = run("bash", "-c", "cat /proc/$(pgrep -n -u alice mcp-gateway-std)/smaps_rollup")
    fields = {line.split(":")[0]: int(line.split()[1]) for line in map_.splitlines()
              if line.startswith("Private_")}
    private = fields["Private_Clean"] + fields["Private_Dirty"]
    expect(private <= 1229, "private KiB:", fields)
    expect(alice.close() == 0)
    request = ('{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":'
               '"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}\\n'
               '{"jsonrpc":"2.0","method":"notifications/initialized"}\\n'
               '{"jsonrpc":"2.0","id":2,"method":"tools/list"}\\n')
    write("/usr/local/bin/first-list", f"""#!/bin/bash
for i in $(seq 21); do
    begin=$EPOCHREALTIME
    coproc B {{ mcp-gateway-stdio; }}
    printf '{request}' >&${{B[1]}}
    read -r one <&${{B[0]}}; read -r two <&${{B[0]}}
    end=$EPOCHREALTIME
    eval "exec ${{B[1]}}>&-"
    wait
    echo $(( ${{end/./}} - ${{begin/./}} ))
done | sort -n | sed -n 11p
""")
    run("chmod", "755", "/usr/local/bin/first-list")
    median = int(run("/usr/local/bin/first-list", user="alice").strip().splitlines()[-1])
    print(f"   private memory {private} KiB ({fields}); first list after {median / 1000:.1f} ms")
    expect(median <= 10_000, median)


@step
def a_purge_leaves_nothing():
    alice = Client("alice")
    expect(alice.echo() == "x")
    run("apt-get", "purge", "-y", "mcp-gateway")
    expect(of_the_gateway() == [], of_the_gateway())
    left = run("bash", "-c", "find / -xdev \\( -path /proc -o -path /sys -o -path /var/lib/dpkg "
               "-o -path /var/log -o -path /var/cache/rig -o -path /var/lib/apt -o -path /var/cache/apt -o -path /usr/local "
               "-o -path /home -o -path /tmp \\) -prune -o -name '*mcp-gateway*' -print; "
               "find /run -name '*mcp-gateway*' -not -path '/run/systemd/*'")
    expect(left.strip() == "", left)
    expect("mcp-gateway" not in run("systemctl", "list-units", "--all", "--plain", "--no-legend",
                                    "mcp-gateway*"))
    expect(not is_true("systemctl", "cat", SERVICE))


def main():
    only = sys.argv[1:]
    passed = failed = skipped = 0
    for number, one in enumerate(STEPS):
        if only and one.__name__ not in only and number != 0:
            continue
        began = time.monotonic()
        try:
            one()
            passed += 1
            print(f"ok   {one.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except (Failed, subprocess.SubprocessError, OSError, KeyError, ValueError, IndexError) as error:
            failed += 1
            print(f"FAIL {one.__name__}: {error}", flush=True)
            if not isinstance(error, Failed):
                traceback.print_exc()
            print(run("journalctl", "-n", "25", "--no-pager", "-u", "mcp-gateway*", status=None))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
