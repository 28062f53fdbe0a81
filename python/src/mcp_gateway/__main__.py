"""``python -m mcp_gateway …``: becomes the program ``mcp-gateway`` with these arguments."""

from __future__ import annotations

import os
import sys

from .binary import GatewayError, find

if __name__ == "__main__":
    try:
        program = str(find())
    except GatewayError as error:
        sys.stderr.write(f"mcp-gateway: {error}\n")
        raise SystemExit(69) from None
    os.execv(program, [program, *sys.argv[1:]])
