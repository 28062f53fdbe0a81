"""Codecs of types that JSON writes as strings: bytes, dates, paths, UUIDs, addresses.

What is written is read back: ``load(dump(x)) == x``.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import pathlib
import re
from collections.abc import Callable
from typing import Any

from .codec import Budget, Codec, Json, Refs


class Spelled(Codec):
    """A type that JSON writes as a string: a date, a path, bytes."""

    def __init__(
        self,
        kind: type,
        expected: str,
        keywords: Json,
        parse: Callable[[str], Any],
        write: Callable[[Any], str] = str,
    ) -> None:
        self.kind = kind
        self.expected = expected
        self._keywords = keywords
        self._parse = parse
        self._write = write

    def schema(self, refs: Refs) -> Json:
        return {"type": "string", **self._keywords}

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, str):
            raise self.refuse(value, at)
        try:
            return self._parse(value)
        except (ValueError, ArithmeticError, re.error):
            raise self.refuse(value, at) from None

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        # A datetime is a date to Python, and would lose its time.
        same = isinstance(value, self.kind)
        if not same or (self.kind is dt.date and isinstance(value, dt.datetime)):
            raise self.refuse(value, at)
        if isinstance(value, (bytes, bytearray)):
            budget.spend(len(value))
        text = self._write(value)
        budget.spend(len(text) + 2)
        return text


def _datetime(text: str) -> dt.datetime:
    # A date alone is no point in time, though Python reads it as midnight.
    if not re.match(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
        raise ValueError
    # Python 3.10 reads neither `Z` nor a fraction that has not 3 or 6 digits.
    text = re.sub(r"[zZ]$", "+00:00", text)
    text = re.sub(r"\.(\d+)", lambda m: "." + m[1][:6].ljust(6, "0"), text)
    return dt.datetime.fromisoformat(text)


def _date(text: str) -> dt.date:
    if not re.match(r"^\d{4}-\d\d-\d\d$", text):
        raise ValueError
    return dt.date.fromisoformat(text)


def _time(text: str) -> dt.time:
    if not re.match(r"^\d\d:\d\d", text):
        raise ValueError
    text = re.sub(r"[zZ]$", "+00:00", text)
    text = re.sub(r"\.(\d+)", lambda m: "." + m[1][:6].ljust(6, "0"), text)
    return dt.time.fromisoformat(text)


_DURATION = re.compile(
    r"^([-+]?)P(?=.)(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$"
)


def _timedelta(text: str) -> dt.timedelta:
    match = _DURATION.match(text)
    if not match:
        raise ValueError
    sign, *parts = match.groups(default="0")
    weeks, days, hours, minutes, seconds = (float(part) for part in parts)
    delta = dt.timedelta(days=days, weeks=weeks, hours=hours, minutes=minutes, seconds=seconds)
    return -delta if sign == "-" else delta


def _duration(delta: dt.timedelta) -> str:
    sign, delta = ("-", -delta) if delta < dt.timedelta(0) else ("", delta)
    seconds = f"{delta.seconds}.{delta.microseconds:06}".rstrip("0").rstrip(".")
    days = f"{delta.days}D" if delta.days else ""
    return f"{sign}P{days}T{seconds}S" if delta.seconds or delta.microseconds else (
        f"{sign}P{delta.days}D"
    )


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def _table() -> list[Spelled]:
    encoded = {"contentEncoding": "base64"}
    moment = "a date and time such as 2026-01-31T12:30:00Z"
    return [
        Spelled(bytes, "base64 text", encoded, _bytes, _base64),
        Spelled(
            bytearray, "base64 text", encoded, lambda text: bytearray(_bytes(text)), _base64
        ),
        Spelled(
            dt.datetime, moment, {"format": "date-time"}, _datetime, dt.datetime.isoformat
        ),
        Spelled(
            dt.date, "a date such as 2026-01-31", {"format": "date"}, _date, dt.date.isoformat
        ),
        Spelled(
            dt.time, "a time such as 12:30:00", {"format": "time"}, _time, dt.time.isoformat
        ),
        Spelled(
            dt.timedelta, "a duration such as PT1H30M", {"format": "duration"}, _timedelta,
            _duration,
        ),
        Spelled(
            re.Pattern, "a regular expression", {"format": "regex"}, re.compile,
            lambda pattern: str(pattern.pattern),
        ),
        *(Spelled(kind, "a path", {"format": "path"}, kind) for kind in _PATHS),
    ]


_PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.PurePosixPath)

BY_TYPE: dict[Any, Codec] = {codec.kind: codec for codec in _table()}

# Types of modules that are not loaded for their sake: whoever has such a hint has loaded them.
_OTHERS = {
    ("uuid", "UUID"): ("a UUID", "uuid"),
    ("ipaddress", "IPv4Address"): ("an IPv4 address", "ipv4"),
    ("ipaddress", "IPv6Address"): ("an IPv6 address", "ipv6"),
}


def of_type(kind: Any) -> Codec | None:
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    key = (getattr(kind, "__module__", ""), getattr(kind, "__name__", ""))
    if key not in _OTHERS or not isinstance(kind, type):
        return None
    expected, name = _OTHERS[key]
    BY_TYPE[kind] = Spelled(kind, expected, {"format": name}, kind)
    return BY_TYPE[kind]
