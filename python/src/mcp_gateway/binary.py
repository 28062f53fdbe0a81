"""Finds the gateway itself: the program ``mcp-gateway``, which is not Python.

Looks at MCP_GATEWAY_BIN, beside the scripts of this Python, and in PATH. On PyPI other packages
bring a script of the same name, so one from the last two places has to say that it is ours.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

NAME = "mcp-gateway"
VARIABLE = "MCP_GATEWAY_BIN"


class GatewayError(RuntimeError):
    """The gateway cannot be found, does not start, or refuses what it was given."""


def find() -> Path:
    """The gateway's path, absolute. Raises :class:`GatewayError` with what to do."""
    if given := os.environ.get(VARIABLE):
        path = Path(shutil.which(given) or given).absolute()
        if not os.access(path, os.X_OK) or not path.is_file():
            raise GatewayError(f"{VARIABLE} is {given}, and there is no such program")
        return path
    refused = []
    for path in _candidates():
        if (said := _said_by(path)) is None:
            return path
        refused.append(f"{path} {said}")
    looked = "; ".join(refused) or f"looked in {sysconfig.get_path('scripts')} and in PATH"
    raise GatewayError(
        f"the program {NAME} is not installed ({looked}). Install it (cargo install --path . in "
        f"its source, or your system's package), or set {VARIABLE} to its path"
    )


def _candidates() -> list[Path]:
    scripts = Path(sysconfig.get_path("scripts")) / NAME
    found = [scripts] if scripts.is_file() and os.access(scripts, os.X_OK) else []
    for folder in os.get_exec_path():
        path = Path(folder or ".").absolute() / NAME
        if path.is_file() and os.access(path, os.X_OK) and path not in found:
            found.append(path)
    return found


def _said_by(path: Path) -> str | None:
    """What is wrong with a program of this name; nothing if it is ours."""
    with path.open("rb") as file:
        if file.read(2) == b"#!":
            return "is another program of that name"
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10,
            stdin=subprocess.DEVNULL, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    known = done.returncode == 0 and re.match(rf"{NAME} \d", done.stdout)
    return None if known else "is another program of that name"
