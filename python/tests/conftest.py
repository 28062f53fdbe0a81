"""What the tests share: a client, and where the gateway is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True)
def quiet_sdk() -> Any:
    """Roots, sampling and logging are deprecated in 2026-07-28, and in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gateway_binary() -> str:
    binary = os.environ.get("MCP_GATEWAY_BIN")
    if not binary:
        pytest.skip("MCP_GATEWAY_BIN names no gateway")
    return binary


@contextlib.asynccontextmanager
async def client(
    command: list[str], era: str, *, env: dict[str, str] | None = None, cwd: str | None = None,
    errlog: Any = None, **callbacks: Any,
) -> AsyncIterator[Any]:
    """The official client over stdio."""
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    inherited = ("PATH", "HOME", "MCP_GATEWAY_BIN", "TMPDIR")
    environment = {k: os.environ[k] for k in inherited if k in os.environ}
    environment["PYTHONPATH"] = str(HERE)
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], env={**environment, **(env or {})}, cwd=cwd
    )
    transport = stdio_client(parameters, errlog=errlog) if errlog else stdio_client(parameters)
    mode = {"2026-07-28": "2026-07-28", "legacy": "legacy"}.get(era, era)
    async with Client(transport, mode=mode, **callbacks) as connected:
        yield connected


def host(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mcp_gateway.host", *arguments]


def run_python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=30, **options
    )


def text(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")
