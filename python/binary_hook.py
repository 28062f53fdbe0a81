"""Puts the gateway's program into the wheel, as a script, if MCP_GATEWAY_WHEEL_BINARY names it.

Such a wheel is for one kind of machine and says so; without the variable it is for all.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BinaryHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        binary = os.environ.get("MCP_GATEWAY_WHEEL_BINARY")
        if not binary:
            return
        if not Path(binary).is_file():
            raise FileNotFoundError(f"MCP_GATEWAY_WHEEL_BINARY is {binary}, and is no file")
        # No server starts without the launcher, which the gateway looks for beside itself.
        launcher = Path(binary).with_name("mcp-gateway-exec")
        if not launcher.is_file():
            raise FileNotFoundError(f"{launcher} is missing; it belongs beside {binary}")
        build_data["shared_scripts"] = {binary: "mcp-gateway", str(launcher): launcher.name}
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
