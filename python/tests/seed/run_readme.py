"""Runs the Python of mcp-unify's README as it stands, one block after another, in one program.

Added from outside is only what a README leaves out: the function and the file that it names, and
somebody who ends `serve_sse`, which is given a free port.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from mcp_gateway import MCPGateway

README = Path(__file__).with_name("README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


async def end_what_listens(seen: list[str]) -> None:
    class Watched(MCPGateway):
        async def serve_sse(self, *args: Any, **kwargs: Any) -> None:
            serving = asyncio.create_task(super().serve_sse(*args, **kwargs))
            seen.append(await self.listening())
            await self.close()
            await serving

    MCPGateway.serve_sse.__defaults__ = ("127.0.0.1", 0)
    sys.modules["mcp_gateway"].MCPGateway = Watched  # type: ignore[misc]


async def main() -> None:
    seen: list[str] = []
    await end_what_listens(seen)
    names: dict[str, Any] = {"__name__": "readme", "my_function": lambda: 1}
    for number, block in enumerate(BLOCKS):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(block, f"README block {number}", "exec", flags)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
        print(f"ran block {number}", file=sys.stderr)
    assert seen and seen[0].startswith("http://127.0.0.1:")


asyncio.run(main())
