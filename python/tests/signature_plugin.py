"""Serves the functions of ``signatures``: each as a tool that gives the ``repr`` of what it saw."""

from __future__ import annotations

import functools
from typing import Any

import signatures

from mcp_gateway import tool


def echoing(function: Any) -> Any:
    @functools.wraps(function)
    def seen(*args: Any, **kwargs: Any) -> Any:
        # A frozen dict of what came in, however it was given.
        import inspect

        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        value = bound.arguments["v"]
        return f"{type(value).__name__} {value!r}"

    return tool(seen)


for _function, _, _ in signatures.TABLE:
    globals()[_function.__name__] = echoing(_function)
