"""What was written for mcp-unify runs unchanged: its README and its two examples."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE
from raw import raw

SEED = HERE / "seed"

pytestmark = pytest.mark.usefixtures("gateway_binary")


def test_the_readme(tmp_path: Path) -> None:
    shutil.copy(SEED / "examples/gateway.yaml", tmp_path)
    with raw(command=[sys.executable, str(SEED / "run_readme.py")], cwd=tmp_path) as server:
        # The second block serves the first one's function over stdio.
        server.open("legacy")
        result = server.call("add", a=1, b=2)["result"]
        assert result["structuredContent"] == {"result": 3}
        assert server.close() == 0, server.log
        for number in range(3):
            server.wait_log(f"ran block {number}")


@pytest.fixture
def fake_npx(tmp_path: Path) -> dict[str, str]:
    """A PATH where `npx -y @modelcontextprotocol/server-filesystem /tmp` needs no network.

    In its sandbox there are the system's Python and, as the example names it, /tmp.
    """
    npx = tmp_path / "npx"
    shutil.copy(HERE / "plugins/mini_server.py", tmp_path)
    package = "@modelcontextprotocol/server-filesystem"
    note = json.dumps({"_npx": {"packages": [package]}})
    lock = json.dumps({"packages": {f"node_modules/{package}": {"version": "1.0.0"}}})
    # Fetched first, which leaves npm's notes, and then run.
    npx.write_text(f"""#!/bin/sh
case "$*" in
*"-c true")
    mkdir -p "$HOME/.npm/_npx/1" && cd "$HOME/.npm/_npx/1" || exit
    echo '{note}' >package.json
    echo '{lock}' >package-lock.json ;;
*"-y {package} /tmp") exec /usr/bin/python3 {tmp_path / "mini_server.py"} ;;
*) exit 9 ;;
esac
""")
    npx.chmod(npx.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_the_example_with_a_server(fake_npx: dict[str, str], tmp_path: Path) -> None:
    with raw(command=[sys.executable, str(SEED / "examples/basic.py")], env=fake_npx) as server:
        tools = server.open("legacy").request("tools/list")["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["filesystem_env", "gateway_status"]
        assert '"cwd"' in server.text("filesystem_env")
        assert server.close() == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_example_with_functions(unbuffered: str) -> None:
    """It prints to stdout before it serves, which must not get between the frames."""
    command = [sys.executable, str(SEED / "examples/with_plugins.py")]
    with raw(command=command, env={"PYTHONUNBUFFERED": unbuffered}) as server:
        tools: Any = server.open("legacy").request("tools/list")["result"]["tools"]
        by_name = {tool["name"]: tool for tool in tools}
        assert list(by_name) == [
            "add", "multiply", "celsius_to_fahrenheit", "word_count", "gateway_status",
        ]
        assert by_name["add"]["description"] == "Add two numbers"
        assert server.text("celsius_to_fahrenheit", celsius=100) == "212.0"
        assert server.text("word_count", text="a b") == "2"
        assert server.close() == 0
        server.wait_log("Registered 4 plugin tools")
