"""For tests of plugins: calls a function as a client would, without a client or a process.

    from mcp_gateway.testing import call

    def test_add() -> None:
        assert call(add, a=1, b=2) == 3
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

from .function import Function
from .wire import LINE


class Refused(AssertionError):
    """The arguments do not fit the function's hints."""


def definition(function: Callable[..., Any]) -> dict[str, Any]:
    """The tool as clients see it: name, description, schemas."""
    return Function(function).definition


def result(function: Callable[..., Any], /, **arguments: Any) -> dict[str, Any]:
    """What a client gets from a call with these JSON arguments."""
    made = Function(function)
    if made.context is not None:
        raise TypeError(f"{made.own_name} takes a Context, which only a client's call has")
    try:
        positional, keywords = made.bind(json.loads(json.dumps(arguments)))
    except ValueError as error:
        raise Refused(str(error)) from None
    value = made.call(*positional, **keywords)
    if inspect.isawaitable(value):
        value = asyncio.run(_await(value))
    return made.result(value, LINE)


def call(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """The data of a call's result; its text if it has no schema; its blocks if it is no text."""
    got = result(function, **arguments)
    if "structuredContent" in got:
        data = got["structuredContent"]
        return data["result"] if Function(function).is_wrapped else data
    blocks = got["content"]
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks or None


async def _await(value: Any) -> Any:
    return await value
