"""What is installed: that it is the wheel, typed, and that it can bring the gateway along."""

from __future__ import annotations

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


@pytest.mark.parametrize("carried", [False, True])
def test_a_wheel_with_and_without_the_program(carried: bool, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho mcp-gateway 0.0.0\n")
    program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "MCP_GATEWAY_WHEEL_BINARY"}
    if carried:
        environment["MCP_GATEWAY_WHEEL_BINARY"] = str(program)
    out = tmp_path / "out"
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out),
         str(HERE.parent)],
        capture_output=True, text=True, env=environment, check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = out.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    scripts = [name for name in names if "/scripts/" in name]
    assert bool(scripts) == carried
    assert wheel.name.endswith("-py3-none-any.whl") != carried
    assert not [name for name in names if "test" in name and "testing" not in name]
