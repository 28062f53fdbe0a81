"""The tools there are, what could not be loaded, and who wants to hear of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .function import Function


@dataclass(frozen=True)
class Problem:
    """Why a plugin is not there, or with ``function`` only that one of its functions."""

    plugin: str
    function: str
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        what = f"plugin {self.plugin}" + (f", function {self.function}" if self.function else "")
        place = f"{self.file}:{self.line}: " if self.file else ""
        return f"{place}{what}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class ToolSet:
    """Tools by name, in the order in which they came. Safe on any thread."""

    def __init__(self, *, ready: bool = True) -> None:
        self._lock = threading.Lock()
        self._functions: dict[str, Function] = {}
        self._ready = ready
        self._waiting: list[Callable[[], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self.problems: list[Problem] = []

    def __len__(self) -> int:
        return len(self._functions)

    def get(self, name: str) -> Function | None:
        with self._lock:
            return self._functions.get(name)

    def all(self) -> list[Function]:
        with self._lock:
            return list(self._functions.values())

    def add(self, function: Function, *, replace: bool = False) -> Function | None:
        """Adds a tool. If its name is taken and not to be replaced, gives who has it."""
        with self._lock:
            other = self._functions.get(function.name)
            if other is not None and not replace:
                return other
            self._functions[function.name] = function
            # What is still being loaded nobody has seen, so it is no change.
            listeners = list(self._listeners) if self._ready else []
        for listener in listeners:
            listener()
        return None

    def when_ready(self, action: Callable[[], None]) -> None:
        """Runs ``action`` now, or once everything is loaded."""
        with self._lock:
            if not self._ready:
                self._waiting.append(action)
                return
        action()

    def ready(self) -> None:
        with self._lock:
            self._ready = True
            waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Hears of every change until the function that this gives is called."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return stop
