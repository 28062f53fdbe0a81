"""The machine under test, a client of it that stays, and waiting with a deadline."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time

RIG = [os.environ["RIG"], "-n", os.environ["RIG_NAME"]]
PATIENCE = 30


class Failed(Exception):
    """What did not hold."""


def expect(truth, *what):
    if not truth:
        raise Failed(" ".join(str(one) for one in what))


def eventually(what, look, patience=PATIENCE):
    until = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise Failed(f"waited {patience} s in vain: {what}")
        time.sleep(0.05)


def words(*command, user=None, env=None):
    """How the host runs a command in the rig."""
    inside = [*RIG, "exec", "-t", "120"]
    if user:
        inside += ["-u", user]
    for name, value in (env or {}).items():
        inside += ["-e", f"{name}={value}"]
    return [*inside, "--", *command]


def run(*command, user=None, status=0, env=None, given=""):
    """Runs it in the rig; gives stdout and stderr as one text."""
    done = subprocess.run(
        words(*command, user=user, env=env), input=given, text=True, timeout=150,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    if status is not None:
        expect(done.returncode == status, command, "ends with", done.returncode, done.stdout)
    return done.stdout


def is_true(*command):
    return subprocess.run(words(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          timeout=60, check=False).returncode == 0


def write(path, text):
    run("mkdir", "-p", os.path.dirname(path))
    subprocess.run([*RIG, "push", "-", path], input=text, text=True, check=True, timeout=60)


def push(source, path):
    subprocess.run([*RIG, "push", source, path], check=True, timeout=60)


def active(unit):
    return run("systemctl", "is-active", unit, status=None).strip()


def shown(unit, field):
    return run("systemctl", "show", "-P", field, unit).strip()


def journal(*matches):
    """The entries of the journal that match, each with its fields."""
    text = run("journalctl", "--no-pager", "-o", "json", *matches, status=None)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Client:
    """An MCP client over mcp-gateway-stdio, of whom nothing but lines is known."""

    def __init__(self, user, *args, env=None, era="legacy"):
        self.process = subprocess.Popen(
            words("mcp-gateway-stdio", *args, user=user, env=env), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.heard: queue.Queue = queue.Queue()
        self.unasked: list = []
        self.last = 0
        threading.Thread(target=self._listen, daemon=True).start()
        if era == "legacy":
            self.ask("initialize", {
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "rig", "version": "1"},
            })
            self.tell("notifications/initialized")

    def _listen(self):
        for line in self.process.stdout:
            self.heard.put(json.loads(line))
        self.heard.put(None)

    def tell(self, method):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": method}) + "\n")

    def start(self, method, params=None):
        self.last += 1
        message = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": params or {}}
        self.process.stdin.write(json.dumps(message) + "\n")
        return self.last

    def answer(self, number):
        until = time.monotonic() + 60
        while True:
            try:
                message = self.heard.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise Failed(f"no answer to {number}") from None
            if message is None:
                raise Failed(f"the bridge has gone: {self.process.stderr.read()}")
            if message.get("id") == number and "method" not in message:
                return message
            self.unasked.append(message)

    def ask(self, method, params=None):
        return self.answer(self.start(method, params))

    def tools(self):
        return [tool["name"] for tool in self.ask("tools/list")["result"]["tools"]]

    def call(self, name, **arguments):
        return self.ask("tools/call", {"name": name, "arguments": arguments})

    def echo(self, text="x"):
        answer = self.call("e_echo", text=text)
        expect("result" in answer, answer)
        return answer["result"]["content"][0]["text"]

    def close(self):
        self.process.stdin.close()
        return self.process.wait(timeout=30)
