"""Calls that wait for a client of 2026-07-28 to come back with answers.

What the client brings is a key that nobody guesses, good once and for the very same call, so there
is nothing in it to seal. Kept under the session's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .call import Call

PLACES = 64
SECONDS = 600.0
"""How long a call waits."""


class Parking:
    """``gone`` is called, without the lock, with the key of a call whose time is over."""

    def __init__(self, gone: Callable[[str], None]) -> None:
        self._gone = gone
        self._calls: dict[str, tuple[Call, Any, threading.Timer]] = {}

    @property
    def is_full(self) -> bool:
        return len(self._calls) >= PLACES

    def put(self, call: Call, asked: Any) -> str:
        """Takes a call in. ``asked`` is what the client must ask again: name and arguments."""
        import secrets

        key = secrets.token_urlsafe(24)
        timer = threading.Timer(SECONDS, self._gone, [key])
        timer.daemon = True
        timer.start()
        self._calls[key] = (call, asked, timer)
        return key

    def find(self, key: str, asked: Any) -> Call | None:
        call, known, _ = self._calls.get(key, (None, None, None))
        return call if known == asked else None

    def take(self, key: str) -> Call | None:
        call, _, timer = self._calls.pop(key, (None, None, None))
        if timer is not None:
            timer.cancel()
        return call

    def clear(self) -> list[Call]:
        calls = [call for call, _, _ in self._calls.values()]
        for key in list(self._calls):
            self.take(key)
        return calls
