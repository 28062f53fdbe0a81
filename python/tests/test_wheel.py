"""What is installed: that it is the wheel, typed, and that it can bring the gateway along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import HERE

import mcp_gateway


def test_the_distribution() -> None:
    found = metadata.distribution("mcp-gateway-python")
    assert found.version == mcp_gateway.__version__
    assert not [r for r in found.requires or [] if "extra ==" not in r], "it needs nothing else"
    assert (Path(mcp_gateway.__file__).parent / "py.typed").exists()


def built(out: Path, program: Path | None) -> Path:
    """A wheel of what is here, which brings ``program`` along."""
    environment = {k: v for k, v in os.environ.items() if k != "MCP_GATEWAY_WHEEL_BINARY"}
    if program:
        environment["MCP_GATEWAY_WHEEL_BINARY"] = str(program)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out),
         str(HERE.parent)],
        capture_output=True, text=True, env=environment, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = out.glob("*.whl")
    return wheel


@pytest.mark.parametrize("carried", [False, True])
def test_a_wheel_with_and_without_the_program(carried: bool, tmp_path: Path) -> None:
    for name in ["program", "mcp-gateway-exec"]:
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho mcp-gateway 0.0.0\n")
        program.chmod(0o755)
    wheel = built(tmp_path / "out", tmp_path / "program" if carried else None)
    names = zipfile.ZipFile(wheel).namelist()
    scripts = {name.rsplit("/", 1)[1] for name in names if "/scripts/" in name}
    assert scripts == ({"mcp-gateway", "mcp-gateway-exec"} if carried else set())
    assert wheel.name.endswith("-py3-none-any.whl") != carried
    assert not [name for name in names if "test" in name and "testing" not in name]


def test_a_fresh_environment_with_the_wheel_runs_plugins_and_programs(
    tmp_path: Path, gateway_binary: str
) -> None:
    wheel = built(tmp_path / "out", Path(gateway_binary))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True)
    (tmp_path / "sums.py").write_text(
        "from mcp_gateway import tool\n\n@tool\ndef add(a: int, b: int) -> int:\n    return a + b\n"
    )
    config = tmp_path / "gateway.yaml"
    config.write_text(f"plugins: [{{module: sums, python: {venv / 'bin/python'}}}]\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    gateway = [str(venv / "bin/mcp-gateway"), "call", "--config", str(config)]
    done = subprocess.run(
        [*gateway, "add", '{"a": 1, "b": 2}'],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )
    assert done.stdout == "3\n", done.stderr
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\nfrom mcp_gateway import MCPGateway\n\n"
        "def plus(a: int, b: int) -> int:\n    return a + b\n\n"
        "gw = MCPGateway()\ngw.register_tool(plus)\nasyncio.run(gw.serve_stdio())\n"
    )
    opening = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call",
         "params": {"name": "plus", "arguments": {"a": 2, "b": 3}}},
    ]
    with subprocess.Popen(
        [str(venv / "bin/python"), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environment, cwd=tmp_path,
    ) as served:
        assert served.stdin and served.stdout
        served.stdin.write("".join(json.dumps(message) + "\n" for message in opening))
        served.stdin.flush()
        answers = [json.loads(served.stdout.readline()) for _ in range(2)]
        served.stdin.close()
        assert served.wait(20) == 0
    assert answers[1]["result"]["content"][0]["text"] == "5"
