"""Measures the host against other servers with the same functions: start, memory, time of a call.

    python tests/bench.py [CALLS]

Every server is driven by one blocking client of bare lines; calls go round the servers in turn, so
that whatever else the machine does meets all of them. Figures are medians. FastMCP (`fastmcp`) and
MCPServer (of the official SDK) take part where they are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HOST = "from mcp_gateway import tool\n"
FUNCTIONS = """
@{mark}
def add(a: float, b: float) -> float:
    return a + b

@{mark}
async def async_add(a: float, b: float) -> float:
    return a + b

@{mark}
def text_of(size: int) -> str:
    return "x" * size
"""

SERVERS = {
    "host": HOST + FUNCTIONS.format(mark="tool"),
    "fastmcp": "from fastmcp import FastMCP\nserver = FastMCP('x')\n"
    + FUNCTIONS.format(mark="server.tool") + "\nserver.run(show_banner=False)\n",
    "mcpserver": "from mcp.server import MCPServer\nserver = MCPServer('x')\n"
    + FUNCTIONS.format(mark="server.tool()") + "\nserver.run()\n",
}


class Server:
    def __init__(self, name: str, path: Path) -> None:
        host = ["-m", "mcp_gateway.host", "--file", str(path)]
        command = [sys.executable, *(host if name == "host" else [str(path)])]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._id = 0
        self.request("initialize", {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        })
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        listed = self.request("tools/list", {})
        self.start = time.perf_counter() - self.began
        assert len(listed["tools"]) == 3

    def send(self, message: Any) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def request(self, method: str, params: Any) -> Any:
        self._id += 1
        self.send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            answer = json.loads(self.process.stdout.readline())  # type: ignore[union-attr]
            if answer.get("id") == self._id:
                return answer["result"]

    def timed(self, name: str, arguments: Any) -> float:
        began = time.perf_counter()
        self.request("tools/call", {"name": name, "arguments": arguments})
        return time.perf_counter() - began

    @property
    def pss(self) -> float:
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.split("\n") if line[:4] == "Pss:") / 1024

    @property
    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def main(calls: int) -> None:
    names = [n for n in SERVERS if n == "host" or importlib.util.find_spec(
        {"fastmcp": "fastmcp", "mcpserver": "mcp"}[n]) is not None]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"bench_{name}.py" for name in names}
        for name, path in paths.items():
            path.write_text(SERVERS[name])
        starts: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(7):
            for name in names:
                server = Server(name, paths[name])
                starts[name].append(server.start)
                server.close()
        servers = {name: Server(name, paths[name]) for name in names}
        kinds = {
            "plain": ("add", {"a": 1, "b": 2.5}), "async": ("async_add", {"a": 1, "b": 2.5}),
            "100 KB": ("text_of", {"size": 100_000}),
        }
        print(f"{calls} calls of each kind, medians")
        row = "{:10} {:>9} {:>9}" + " {:>9}" * len(kinds) + " {:>9} {:>12}"
        print(row.format("", "start ms", "PSS MiB", *(f"{k} ms" for k in kinds), "PSS after", "CPU ms/call"))
        idle = {name: server.pss for name, server in servers.items()}
        times: dict[str, dict[str, list[float]]] = {n: {k: [] for k in kinds} for n in names}
        before = {name: server.cpu for name, server in servers.items()}
        for _ in range(calls):
            for kind, (tool, arguments) in kinds.items():
                for name, server in servers.items():
                    times[name][kind].append(server.timed(tool, arguments))
        for name, server in servers.items():
            medians = [f"{statistics.median(t) * 1000:.3f}" for t in times[name].values()]
            cpu = (server.cpu - before[name]) * 1000 / (calls * len(kinds))
            print(row.format(
                name, f"{statistics.median(starts[name]) * 1000:.0f}", f"{idle[name]:.1f}", *medians,
                f"{server.pss:.1f}", f"{cpu:.3f}",
            ))
            server.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
