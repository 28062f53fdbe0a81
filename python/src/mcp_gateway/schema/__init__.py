"""JSON Schemas from type hints, and values both ways.

Stands apart: knows neither MCP nor plugins.
"""

from .codec import Budget, Codec, Invalid, Json, Refs, TooLarge, Unsupported
from .constraints import Field
from .hints import Compiler

__all__ = [
    "Budget", "Codec", "Compiler", "Field", "Invalid", "Json", "Refs", "TooLarge", "Unsupported",
]
