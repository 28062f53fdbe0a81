"""``Context``: how a running function speaks to the client that called it.

A function gets one by having a parameter of this type. Every method works in plain and in async
functions, on any thread. After the call has ended nothing is sent any more.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from .protocol import LEVELS

if TYPE_CHECKING:
    from .call import Call
    from .questions import Elicited, Reply, Root, Sampled, Unable

__all__ = ["Cancelled", "Context", "Unable"]


def __getattr__(name: str) -> Any:
    if name == "Unable":
        from .questions import Unable

        return Unable
    raise AttributeError(name)


class Cancelled(BaseException):
    """The call was cancelled. No ``Exception``, so that ``except Exception`` lets it through."""


class Sent:
    """What a notice gives back: nothing, which may be awaited."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_SENT = Sent()


class Context:
    """One call, seen from inside."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def tool(self) -> str:
        """The tool's name."""
        return self._call.function.name

    @property
    def client(self) -> dict[str, Any]:
        """What the client says it is: ``name``, ``version``. Not checked by anyone."""
        return dict(self._call.origin.client)

    @property
    def meta(self) -> dict[str, Any]:
        """``_meta`` of the request, such as ``traceparent``."""
        return dict(self._call.origin.meta)

    @property
    def request_id(self) -> str | int:
        return self._call.origin.id

    # ---- cancellation ----

    @property
    def cancelled(self) -> bool:
        """Whether the client no longer wants the result. An async function is cancelled instead."""
        return self._call.cancelled.is_set()

    def check(self) -> None:
        """Raises :class:`Cancelled` if the call was cancelled."""
        if self.cancelled:
            raise Cancelled

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Sleeps in a plain function, at most until the call is cancelled: whether it was."""
        return self._call.cancelled.wait(timeout)

    # ---- notices ----

    def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Sent:
        """Tells how far it is. Only a value above the last one is sent."""
        self._call.progress(progress, total, message)
        return _SENT

    report_progress = progress

    def log(self, level: str, data: Any, logger: str | None = None) -> Sent:
        """Sends a log message to the client, if it asked for this level."""
        if level not in LEVELS:
            raise ValueError(f"{level!r} is no level; there are {', '.join(LEVELS)}")
        self._call.log(level, data, logger or self._call.function.plugin)
        return _SENT

    def debug(self, data: Any) -> Sent:
        return self.log("debug", data)

    def info(self, data: Any) -> Sent:
        return self.log("info", data)

    def warning(self, data: Any) -> Sent:
        return self.log("warning", data)

    def error(self, data: Any) -> Sent:
        return self.log("error", data)

    # ---- questions ----

    def can(self, capability: str) -> bool:
        """Whether the client can be asked: ``elicitation``, ``sampling`` or ``roots``."""
        return capability in self._call.origin.capabilities

    def elicit(self, message: str, schema: Any = None) -> Reply[Elicited]:
        """Asks the user. ``schema`` is a dataclass with flat fields, a type, or a JSON Schema."""
        from .questions import elicitation

        return self._call.ask(elicitation(message, schema), {"elicitation": {"form": {}}})

    def elicit_url(self, message: str, url: str) -> Reply[Elicited]:
        """Asks the user to open a page, for what must not pass through the client."""
        import secrets

        from .questions import elicitation_url

        question = elicitation_url(message, url, secrets.token_urlsafe(12))
        return self._call.ask(question, {"elicitation": {"url": {}}})

    def sample(
        self,
        messages: str | list[Any],
        *,
        max_tokens: int = 1000,
        system: str | None = None,
        **extra: Any,
    ) -> Reply[Sampled]:
        """Asks the client's model. ``extra`` are further parameters as MCP names them."""
        from .questions import sampling

        return self._call.ask(sampling(messages, max_tokens, system, extra), {"sampling": {}})

    def roots(self) -> Reply[list[Root]]:
        """The directories that the client works in."""
        from .questions import roots

        return self._call.ask(roots(), {"roots": {}})
