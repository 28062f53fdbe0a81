"""``@tool``: marks a function as a tool, and leaves it as it is.

Imports next to nothing: every plugin imports it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

MARK = "__mcp_gateway_tool__"

F = TypeVar("F", bound=Callable[..., Any])


@overload
def tool(description: F, /) -> F: ...


@overload
def tool(
    description: str = "",
    name: str | None = None,
    *,
    title: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    open_world: bool | None = None,
    structured: bool | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Callable[[F], F]: ...


def tool(
    description: str | Callable[..., Any] = "",
    name: str | None = None,
    *,
    title: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    open_world: bool | None = None,
    structured: bool | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Any:
    """Makes a function a tool: ``@tool``, or ``@tool(description="…", name="…")``.

    Args:
        description: What it does, for the model; default: the docstring.
        name: What clients call it; default: the function's name.
        title: Its name for people.
        read_only: It changes nothing. A hint, as are the next three.
        destructive: It may destroy what was there.
        idempotent: Calling it twice is as calling it once.
        open_world: It reaches beyond this machine.
        structured: Whether its result has a schema; default: if the return hint is no bare ``str``.
        meta: ``_meta`` of the tool.
    """
    hints = {
        "readOnlyHint": read_only, "destructiveHint": destructive,
        "idempotentHint": idempotent, "openWorldHint": open_world,
    }
    annotations = {key: value for key, value in hints.items() if value is not None}

    def mark(function: Any) -> Any:
        if not callable(function):
            raise TypeError(f"@tool marks functions, not a {type(function).__name__}")
        given = description if isinstance(description, str) else ""
        called = name or default_name(function)
        told = {
            "name": called,
            "description": given or getattr(function, "__doc__", None) or called,
            # What was written here, as against what the function says of itself.
            "given": given,
            "title": title, "annotations": annotations, "structured": structured,
            "meta": dict(meta) if meta else None,
        }
        try:
            setattr(function, MARK, told)
        except AttributeError:
            # A bound method or a built-in takes no attributes; what stands in for it does.
            import functools

            function = functools.partial(function)
            setattr(function, MARK, told)
        return function

    return mark(description) if callable(description) else mark


def is_tool(thing: Any) -> bool:
    # A class with a mark on its instances, or a mock that has every attribute, is no tool.
    return callable(thing) and isinstance(getattr(thing, MARK, None), dict)


def default_name(function: Any) -> str:
    """A function's own name; that of what a ``partial`` calls, or of an object's class."""
    while hasattr(function, "func") and not hasattr(function, "__name__"):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)
