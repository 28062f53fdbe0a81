"""JSON-RPC and MCP as words: versions, codes, messages as bytes. Does no I/O."""

from __future__ import annotations

import json
from typing import Any

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = ("2026-07-28",)

PARSE = -32700
INVALID_REQUEST = -32600
NO_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
NO_CAPABILITY = -32021
NO_VERSION = -32022

META = "io.modelcontextprotocol/"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

Id = str | int
Params = dict[str, Any]


class RpcError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    @property
    def body(self) -> Params:
        body: Params = {"code": self.code, "message": str(self)}
        if self.data is not None:
            body["data"] = self.data
        return body


def parse(line: bytes) -> Any:
    """The message in a line. Raises :class:`RpcError`."""
    try:
        return json.loads(line.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise RpcError(PARSE, f"Parse error: {reason}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def encode(message: Any) -> bytes:
    """One line. Raises ValueError for what has no form in JSON."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def request(id: Id, method: str, params: Params | None) -> bytes:
    message: Params = {"jsonrpc": "2.0", "id": id, "method": method}
    if params is not None:
        message["params"] = params
    return encode(message)


def notification(method: str, params: Params) -> bytes:
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def response(id: Id, result: Params) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id, "result": result})


def failure(id: Id | None, error: RpcError) -> bytes:
    message: Params = {"jsonrpc": "2.0"}
    # MCP has no null id: an answer to what could not be read has none.
    if id is not None:
        message["id"] = id
    return encode({**message, "error": error.body})


def is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)
