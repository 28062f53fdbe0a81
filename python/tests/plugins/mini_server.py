"""A tiny MCP server without an SDK: one tool, which tells its environment and its folder."""

import json
import os
import sys

for line in sys.stdin:
    message = json.loads(line)
    result: dict = {}
    if message.get("method") == "initialize":
        result = {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "mini", "version": "1"},
        }
    elif message.get("method") == "tools/list":
        result = {"tools": [{"name": "env", "inputSchema": {"type": "object"}}]}
    elif message.get("method") == "tools/call":
        told = {"price": os.environ.get("PRICE"), "cwd": os.getcwd()}
        result = {"content": [{"type": "text", "text": json.dumps(told)}]}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
