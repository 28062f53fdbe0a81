#!/usr/bin/env python3
"""Real clients through the gateway against real backends, each compared with the backend itself.

    run.py [--binary PATH] [--only TEXT] [--all]

A row is client × backend × endpoint × layer. The rows of `SHORT` have each pair of values at least
once; `--all` runs every combination (the soak). Each row has a gateway of its own with an empty
cache, and beside the backend a second one, so that the aggregate is one. Exit 0 if all are equal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import backends

HERE = Path(__file__).resolve().parent
CLIENTS = ["python", "ts_v1", "ts_v2", "inspector"]
BACKENDS = ["everything", "filesystem", "memory", "sequential-thinking", "time", "git"]
ENDPOINTS = ["stdio", "http", "unix", "sse"]
LAYERS = ["server", "aggregate"]

SHORT = [
    ("python", "everything", "http", "server"),
    ("python", "everything", "unix", "aggregate"),
    ("python", "filesystem", "stdio", "aggregate"),
    ("python", "memory", "sse", "server"),
    ("python", "sequential-thinking", "http", "aggregate"),
    ("python", "time", "unix", "server"),
    ("python", "git", "stdio", "server"),
    ("python", "filesystem", "unix", "server"),
    ("python", "sequential-thinking", "sse", "server"),
    ("ts_v1", "everything", "stdio", "server"),
    ("ts_v1", "memory", "stdio", "aggregate"),
    ("ts_v1", "time", "sse", "aggregate"),
    ("ts_v1", "git", "http", "server"),
    ("ts_v1", "everything", "sse", "aggregate"),
    ("ts_v1", "filesystem", "http", "server"),
    ("ts_v1", "memory", "unix", "aggregate"),
    ("ts_v1", "sequential-thinking", "stdio", "server"),
    ("ts_v1", "time", "http", "aggregate"),
    ("ts_v1", "git", "unix", "server"),
    ("ts_v2", "everything", "http", "aggregate"),
    ("ts_v2", "everything", "unix", "server"),
    ("ts_v2", "filesystem", "sse", "server"),
    ("ts_v2", "memory", "http", "server"),
    ("ts_v2", "sequential-thinking", "unix", "aggregate"),
    ("ts_v2", "time", "stdio", "server"),
    ("ts_v2", "git", "sse", "aggregate"),
    ("ts_v2", "git", "unix", "aggregate"),
    ("inspector", "everything", "http", "server"),
    ("inspector", "filesystem", "sse", "server"),
    ("inspector", "memory", "http", "aggregate"),
    ("inspector", "sequential-thinking", "unix", "server"),
    ("inspector", "time", "unix", "server"),
    ("inspector", "git", "stdio", "aggregate"),
]


def era(backend: str, kind: str) -> str:
    """Like is compared with like: left to itself, this client takes the modern era wherever the
    gateway has it, which the backend has not itself but for these two, and SSE has never. What is
    translated is matrix.py's."""
    return "auto" if backend in ("time", "git") and kind != "sse" else "legacy"


def config(backend: str, work: Path) -> dict:
    """These two ask their client for its roots, which only a child of its own may."""
    servers = backends.servers(work)
    second = "time" if backend != "time" else "memory"
    chosen = {name: servers[name] for name in (backend, second)}
    if backend in ("everything", "filesystem"):
        chosen[backend] |= {"share": "session"}
    return {"servers": chosen}


class GatewayFailed(Exception):
    """It did not start, or did not end as it should."""


class Gateway:
    """One gateway for one row; stdio endpoints start their own from the same file."""

    def __init__(self, binary: Path, folder: Path, config: dict):
        self.binary, self.folder = binary, folder
        self.file = folder / "gateway.yaml"
        self.file.write_text(json.dumps(config))
        self.socket = folder / "gateway.sock"
        self.log = folder / "gateway.log"
        self.env = os.environ | {"MCP_GATEWAY_CACHE": str(folder / "cache"), "MCP_GATEWAY_STATE": str(folder / "state"), "MCP_GATEWAY_LOG": "info,audit=off"}

    def __enter__(self) -> "Gateway":
        command = [self.binary, "serve", "--config", self.file, "--port", "0", "--socket", self.socket]
        self.process = subprocess.Popen(command, env=self.env, stderr=self.log.open("w"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            text = self.log.read_text()
            if (found := re.search(r"listening on (http://\S+)/mcp", text)) and self.socket.exists():
                self.url = found[1]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        raise GatewayFailed(f"the gateway does not listen:\n{self.log.read_text()}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise GatewayFailed("the gateway does not end") from None
        if code != 0:
            raise GatewayFailed(f"the gateway ended with {code}:\n{self.log.read_text()}")

    def endpoint(self, kind: str, layer: str, backend: str) -> dict:
        tail = f"/{backend}" if layer == "server" else ""
        match kind:
            case "http":
                return {"http": f"{self.url}/mcp{tail}"}
            case "unix":
                return {"unix": str(self.socket), "path": f"/mcp{tail}"}
            case "sse":
                return {"sse": f"{self.url}/sse{tail}"}
        only = ["--server", backend] if layer == "server" else []
        return {
            "stdio": [str(self.binary), "stdio", "--config", str(self.file), *only],
            "env": {"MCP_GATEWAY_CACHE": str(self.folder / "cache"), "MCP_GATEWAY_STATE": str(self.folder / "state"), "MCP_GATEWAY_LOG": "error"},
        }


def compare(binary: Path, row: tuple[str, str, str, str]) -> tuple[bool, str]:
    client, backend, kind, layer = row
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        backends.reset(work)
        with Gateway(binary, Path(folder), config(backend, work)) as gateway:
            command = [sys.executable, HERE / "compare.py", client, "--backend", backend, "--work", work]
            command += ["--gateway", json.dumps(gateway.endpoint(kind, layer, backend))]
            if layer == "aggregate":
                command += ["--prefix", f"{backend}_"]
            if client == "inspector" and backend == "everything":
                command += ["--script", HERE / "scripts/everything-short.json"]
            if client == "ts_v2":
                command += ["--era", era(backend, kind)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            return done.returncode == 0, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    given = os.environ.get("MCP_GATEWAY_BIN", HERE.parents[1] / "target/debug/mcp-gateway")
    parser.add_argument("--binary", type=Path, default=given)
    parser.add_argument("--only", default="", help="rows whose text holds this")
    parser.add_argument("--all", action="store_true", help="every combination")
    args = parser.parse_args()
    rows = list(itertools.product(CLIENTS, BACKENDS, ENDPOINTS, LAYERS)) if args.all else SHORT
    rows = [row for row in rows if args.only in " ".join(row)]
    failed = 0
    for number, row in enumerate(rows, 1):
        began = time.monotonic()
        equal, text = compare(args.binary.resolve(), row)
        failed += not equal
        verdict = "equal" if equal else "DIFFERENT"
        print(f"[{number}/{len(rows)}] {' '.join(row)}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
        if not equal:
            print(text, flush=True)
    print(f"{len(rows) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
