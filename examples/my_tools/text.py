"""A plugin with a docstring instead of a description."""

from mcp_gateway import tool


@tool
def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())
