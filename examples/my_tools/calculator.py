"""The plugin of mcp-unify's README."""

from mcp_gateway import tool


@tool(description="Add two numbers")
def add(a: float, b: float) -> float:
    return a + b
