#!/usr/bin/env python3
"""The launchd plists, key by key: what launchd needs, and none of what would keep a daemon running."""

import plistlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "launchd"
COMMON = {"Label", "ProgramArguments", "Sockets", "ExitTimeOut", "Umask", "ProcessType"}
OF_THE_DAEMON = {"UserName", "GroupName", "EnvironmentVariables", "StandardErrorPath"}
NAME = "mcp-gateway.socket"


def main():
    for path, keys, socket in (
        ("io.github.mcp-gateway.plist", COMMON | OF_THE_DAEMON,
         {"SockPathName": "/var/run/mcp-gateway.sock", "SockPathMode": 0o660}),
        ("io.github.mcp-gateway.agent.plist", COMMON, {"SecureSocketWithKey": "MCP_GATEWAY_SOCKET"}),
    ):
        plist = plistlib.loads((FOLDER / path).read_bytes())
        assert set(plist) == keys, (path, set(plist) ^ keys)
        assert plist["Label"] + ".plist" == path, plist["Label"]
        program, *words = plist["ProgramArguments"]
        assert program == "/usr/local/bin/mcp-gateway", program
        assert words == (["serve", "--system"] if "UserName" in keys else ["serve"]), words
        assert plist["Sockets"] == {NAME: socket}, plist["Sockets"]
        assert plist["Umask"] == 0o077, plist["Umask"]
        # More than the 10 s that a drain takes.
        assert plist["ExitTimeOut"] == 30, plist["ExitTimeOut"]
        assert plist["ProcessType"] == "Adaptive"
        if "UserName" in keys:
            assert plist["UserName"] == plist["GroupName"] == "_mcpgateway"
            for name in ("MCP_GATEWAY_STATE", "MCP_GATEWAY_CACHE"):
                assert plist["EnvironmentVariables"][name].startswith("/var/db/mcp-gateway/")


if __name__ == "__main__":
    sys.exit(main())
