"""Questions to the client and their answers: elicitation, sampling, roots.

Says what a question is and what an answer means. How it travels differs between the eras and is
the session's.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from .schema import Budget, Compiler, Invalid, Refs

T = TypeVar("T")


class Unable(Exception):
    """The client cannot be asked, or did not answer. ``required`` is the capability it lacks."""

    def __init__(self, message: str, required: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.required = required


class Reply(Generic[T]):
    """An answer to come: ``await reply``, or ``reply.result()`` in a plain function."""

    def __init__(self) -> None:
        self._future: Future[T] = Future()

    def result(self, timeout: float | None = None) -> T:
        """Waits for the answer. Raises TimeoutError, :class:`Unable`, or ``Cancelled``."""
        if (asyncio := sys.modules.get("asyncio")) is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop()
                raise TypeError("in an async function write `await`, not `.result()`")
        return self._future.result(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self._future).__await__()

    def settle(self, value: T) -> None:
        with contextlib.suppress(InvalidStateError):  # whoever asked has given up
            self._future.set_result(value)

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):
            self._future.set_exception(error)


@dataclass
class Question:
    """One question, and where its answer goes."""

    method: str
    params: dict[str, Any] | None
    read: Callable[[dict[str, Any]], Any]
    reply: Reply[Any] = field(default_factory=Reply)
    key: str = ""

    @property
    def message(self) -> dict[str, Any]:
        params = {} if self.params is None else {"params": self.params}
        return {"method": self.method, **params}

    def answer(self, result: Any) -> None:
        try:
            if not isinstance(result, dict):
                raise Unable(f"the client's answer to {self.method} is no object")
            self.reply.settle(self.read(result))
        except Exception as error:  # whatever the client sent, the function is told
            self.reply.fail(error)


@dataclass(frozen=True)
class Elicited:
    """What the user said: ``action`` is accept, decline or cancel; ``data`` only with accept."""

    action: str
    data: Any = None

    @property
    def accepted(self) -> bool:
        return self.action == "accept"

    def __bool__(self) -> bool:
        return self.accepted


@dataclass(frozen=True)
class Sampled:
    """What the client's model said."""

    text: str
    model: str | None
    stop_reason: str | None
    raw: dict[str, Any]


@dataclass(frozen=True)
class Root:
    """A directory that the client works in."""

    uri: str
    name: str | None = None

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.uri).path)


def elicitation(message: str, schema: Any) -> Question:
    """``schema`` is a class with flat fields, a type such as ``str``, a JSON Schema, or nothing."""
    wrapped = False
    codec = None
    if schema is None:
        requested: dict[str, Any] = {"type": "object", "properties": {}}
    elif isinstance(schema, dict):
        requested = schema
    else:
        codec = Compiler().codec(schema)
        requested = codec.schema(Refs())
        wrapped = requested.get("type") != "object"
        if wrapped:
            requested = {
                "type": "object", "properties": {"value": requested}, "required": ["value"],
            }
        requested = {k: v for k, v in requested.items() if k in ("type", "properties", "required")}
        _check_flat(requested)

    def read(result: dict[str, Any]) -> Elicited:
        action = result.get("action")
        if action not in ("accept", "decline", "cancel"):
            raise Unable(f"the client answered with the action {action!r}")
        if action != "accept":
            return Elicited(action)
        data = result.get("content") or {}
        if wrapped and isinstance(data, dict):
            data = data.get("value")
        try:
            return Elicited(action, codec.load(data, "") if codec else data)
        except Invalid as error:
            raise Unable(f"the client's answer does not fit: {error}") from None

    return Question("elicitation/create", {"message": message, "requestedSchema": requested}, read)


_FLAT = {"string", "number", "integer", "boolean"}


def _check_flat(schema: dict[str, Any]) -> None:
    for name, prop in schema["properties"].items():
        if prop.get("type") == "array" and "enum" in prop.get("items", {}):
            continue
        if prop.get("type") not in _FLAT:
            raise TypeError(f"a form has flat fields only, and {name} is none: {prop}")


def elicitation_url(message: str, url: str, id: str) -> Question:
    params = {"mode": "url", "message": message, "url": url, "elicitationId": id}
    return Question("elicitation/create", params, lambda r: Elicited(str(r.get("action"))))


def sampling(
    messages: str | list[Any], max_tokens: int, system: str | None, extra: dict[str, Any]
) -> Question:
    from .schema.plain import plain

    if isinstance(messages, str):
        messages = [messages]
    turns = [
        {"role": "user", "content": {"type": "text", "text": m}} if isinstance(m, str) else m
        for m in messages
    ]
    params: dict[str, Any] = {"messages": turns, "maxTokens": max_tokens, **extra}
    if system is not None:
        params["systemPrompt"] = system

    def read(result: dict[str, Any]) -> Sampled:
        content = result.get("content")
        blocks = content if isinstance(content, list) else [content]
        texts = [b["text"] for b in blocks if isinstance(b, dict) and b.get("type") == "text"]
        return Sampled("\n".join(texts), result.get("model"), result.get("stopReason"), result)

    return Question("sampling/createMessage", plain(params, "", Budget(4 << 20)), read)


def roots() -> Question:
    def read(result: dict[str, Any]) -> list[Root]:
        found = result.get("roots")
        if not isinstance(found, list):
            raise Unable("the client's answer holds no roots")
        return [Root(str(root["uri"]), root.get("name")) for root in found]

    return Question("roots/list", None, read)
