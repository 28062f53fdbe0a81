"""The types that programs written for mcp-unify import from here, with their old meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .marks import MARK as _TOOL_MARKER
from .marks import is_tool, tool

__all__ = [
    "GatewayConfig", "PluginConfig", "ServerConfig", "get_tool_meta", "is_tool",
    "signature_to_json_schema", "tool",
]


@dataclass
class ServerConfig:
    """How one server is started. ``options`` are further keys of its entry in the config file."""

    command: str = ""
    args: list[str] = field(default_factory=list)
    env: dict[str, str] | None = None
    enabled: bool = True
    lazy: bool = True
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class PluginConfig:
    """A module with tools."""

    module: str = ""


@dataclass
class GatewayConfig:
    """A whole config, as a program builds it."""

    servers: dict[str, ServerConfig] = field(default_factory=dict)
    plugins: list[PluginConfig] = field(default_factory=list)
    idle_timeout: int = 300
    roles: dict[str, list[str] | None] = field(default_factory=dict)
    registry: str | None = None


def get_tool_meta(fn: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = getattr(fn, _TOOL_MARKER)
    return found


def signature_to_json_schema(fn: Callable[..., Any]) -> dict[str, Any]:
    from .function import Function

    schema: dict[str, Any] = Function(fn, name="tool").definition["inputSchema"]
    return schema
