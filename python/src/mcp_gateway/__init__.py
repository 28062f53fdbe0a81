"""Python functions as MCP tools, and mcp-gateway from a Python program.

    from mcp_gateway import tool

    @tool(description="Add two numbers")
    def add(a: float, b: float) -> float:
        return a + b

Names are imported when they are used: the host, the relay and every plugin import this first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .marks import tool

if TYPE_CHECKING:
    from .content import Audio, File, Image, Text, ToolError
    from .context import Cancelled, Context, Unable
    from .gateway import GatewayError, MCPGateway
    from .schema import Field

__version__ = "0.1.0"

__all__ = [
    "Audio", "Cancelled", "Context", "Field", "File", "GatewayError", "Image", "MCPGateway",
    "Text", "ToolError", "Unable", "__version__", "tool",
]

_WHERE = {
    "Audio": "content", "File": "content", "Image": "content", "Text": "content",
    "ToolError": "content", "Context": "context", "Cancelled": "context", "Unable": "context",
    "MCPGateway": "gateway", "GatewayError": "gateway", "Field": "schema",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
