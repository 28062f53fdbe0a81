"""One ``tools/call`` from its arguments to its answer.

Runs the function on the right thread, and turns whatever comes of it, an exit or an endless
result included, into an answer that names plugin and function. A call outlives its request when
the client of 2026-07-28 is asked something: it waits until that client comes back.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .content import ToolError
from .function import Function, InvalidArguments
from .protocol import NO_CAPABILITY, Id, RpcError, notification
from .schema import Budget, Invalid, TooLarge

if TYPE_CHECKING:
    from .questions import Question, Reply
    from .session import Session

STUCK = 5.0
"""Seconds after which a plain function that ignores its cancellation is stopped from outside."""

_LONGEST_TEXT = 4000
_ENVELOPE = 1024  # what stands around a result in its line


@dataclass
class Request:
    """What the client said with a request that a call belongs to."""

    id: Id
    modern: bool
    capabilities: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    level: str | None = None


class Call:
    """Its books are kept under the session's lock."""

    def __init__(self, session: Session, function: Function, request: Request) -> None:
        self.session = session
        self.function = function
        self.origin = request
        # Whose answer is due now. None while the client of 2026-07-28 gathers answers.
        self.request: Request | None = request
        self.cancelled = threading.Event()
        self.questions: list[Question] = []
        self.outcome: bytes | RpcError | None = None
        self.asked_as: Any = None
        self._asked = 0
        self._progress: float | None = None
        self._task: Any = None
        self._stop: Callable[[], Any] | None = None

    # ---- running ----

    def start(self, arguments: dict[str, Any]) -> None:
        try:
            positional, keywords = self.function.bind(arguments)
        except InvalidArguments as error:
            self.finish_text(f"invalid arguments for {self.function.name}: {error}")
            return
        except Exception as error:  # a class of the plugin's refuses its fields in its own way
            self._failed(error)
            return
        if self.function.context is not None:
            from .context import Context

            keywords[self.function.context] = Context(self)
        if self.function.is_async:
            self._start_async(lambda: self.function.call(*positional, **keywords))
            return

        def job() -> None:
            self._run(positional, keywords)

        worker = self.session.runner.threads.run(job)
        if worker is None:
            count = self.session.runner.threads.limit
            self.finish_text(f"{self._who}: {count} functions are running, which is all at once")
        else:
            self._stop = lambda: worker.stop(job)

    def _run(self, positional: list[Any], keywords: dict[str, Any]) -> None:
        if self.cancelled.is_set():
            return
        try:
            value = self.function.call(*positional, **keywords)
        except BaseException as error:  # SystemExit too: it ends the call, not the host
            self._failed(error)
            return
        if inspect.isawaitable(value):  # an async function behind a plain one
            self._start_async(lambda: value)
            return
        self._returned(value)

    def _start_async(self, begin: Callable[[], Any]) -> None:
        async def run() -> None:
            try:
                value = await begin()
            except BaseException as error:
                self._failed(error)
                return
            self._returned(value)

        def start() -> None:
            if not self.cancelled.is_set():
                self._task = loop.create_task(run())

        loop = self.session.runner.loop
        try:
            loop.call_soon_threadsafe(start)
        except RuntimeError:
            self.finish_text(f"{self._who}: the program's event loop has ended")

    def _returned(self, value: Any) -> None:
        try:
            result = self.function.result(value, self.session.limit)
            self.finish(result)
        except TooLarge:
            self.finish_text(f"{self._who}: {self._too_large}")
        except Invalid as error:
            what = f"returned a result that is not as it says: {error}"
            if self.function.returns is None:
                what = f"returned what cannot be sent: {error}"
            self.finish_text(f"{self._who} {what}")
        except BaseException as error:  # a model or an iterator runs code of its own
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if self.cancelled.is_set():
            return
        if isinstance(error, ToolError):
            self.finish_text(str(error))
            return
        required = getattr(error, "required", None)
        if required is not None:  # the client's lack, and no fault of the plugin's
            text = f"{self._who}: {error}"
            if self.origin.modern:
                data = {"requiredCapabilities": required}
                self.finish_error(RpcError(NO_CAPABILITY, text, data))
            else:
                self.finish_text(text)
            return
        traceback.print_exception(type(error), error, error.__traceback__)
        if isinstance(error, SystemExit):
            self.finish_text(f"{self._who} called sys.exit({error.code!r})")
            return
        self.finish_text(f"{self._who}: {told_error(error)}{_place(error)}")

    # ---- its end ----

    def finish(self, result: dict[str, Any]) -> None:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            body = text.encode()
        except UnicodeEncodeError:
            self.finish_text(f"{self._who} returned half a character (a lone surrogate)")
            return
        if len(body) > self.session.limit - _ENVELOPE:
            self.finish_text(f"{self._who}: {self._too_large}")
            return
        self.session.finished(self, body)

    def finish_text(self, text: str) -> None:
        """An error that the model can read."""
        if len(text) > _LONGEST_TEXT:
            text = f"{text[:_LONGEST_TEXT]}…"
        text = text.encode(errors="replace").decode()
        self.finish({"content": [{"type": "text", "text": text}], "isError": True})

    def finish_error(self, error: RpcError) -> None:
        self.session.finished(self, error)

    def cancel(self) -> None:
        """Reaches the function. Its answer has been given up before."""
        from .context import Cancelled

        self.cancelled.set()
        for question in self.questions:
            question.reply.fail(Cancelled())
        task, stop = self._task, self._stop
        if task is not None:
            try:
                self.session.runner.loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return
        elif stop is not None:
            # It has time to look at `context.cancelled`; an endless loop never does.
            timer = threading.Timer(STUCK, stop)
            timer.daemon = True
            timer.start()

    @property
    def _who(self) -> str:
        return f"plugin {self.function.plugin}, function {self.function.own_name}"

    @property
    def _too_large(self) -> str:
        return f"its result is larger than {self.session.limit >> 20} MiB, the most in one message"

    # ---- what the function says meanwhile ----

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        with self.session.lock:
            request = self.request
            token = request.meta.get("progressToken") if request else None
            if token is None or (self._progress is not None and progress <= self._progress):
                return
            self._progress = progress
            params: dict[str, Any] = {"progressToken": token, "progress": progress}
            if total is not None:
                params["total"] = total
            if message is not None:
                params["message"] = message
            self.session.output.write(notification("notifications/progress", params), notice=True)

    def log(self, level: str, data: Any, logger: str) -> None:
        from .schema.plain import plain

        if not self._is_wanted(level):
            return
        # Not under the lock: what the data is made of may be anybody's code.
        params = {"level": level, "logger": logger, "data": plain(data, "", Budget(1 << 20))}
        line = notification("notifications/message", params)
        with self.session.lock:
            if self._is_wanted(level):
                self.session.output.write(line, notice=True)

    def _is_wanted(self, level: str) -> bool:
        request = self.request
        return request is not None and self.session.wants(request, level)

    def ask(self, question: Question, required: dict[str, Any]) -> Reply[Any]:
        from .context import Cancelled
        from .questions import Unable

        for name, parts in required.items():
            offered = self.origin.capabilities.get(name)
            if name == "elicitation" and offered == {}:
                offered = {"form": {}}  # what it meant before there were two kinds
            missing = [part for part in parts if part not in (offered or {})]
            if offered is None or missing:
                what = " of the kind ".join([name, *missing])
                raise Unable(f"the client does not offer {what}", required)
        with self.session.lock:
            if self.cancelled.is_set() or self.outcome is not None:
                raise Cancelled
            self._asked += 1
            question.key = f"q{self._asked}"
            self.session.ask(self, question)
        return question.reply


def told_error(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Where the plugin's own code failed: the last frame that is not in a library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and f.filename[:1] != "<"
           and not f.filename.startswith((sys.base_prefix, _HERE))]
    if not own:
        return ""
    return f" ({own[-1].filename.rsplit('/', 1)[-1]}, line {own[-1].lineno})"


_HERE = __file__.rsplit("/", 1)[0]
