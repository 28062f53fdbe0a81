"""Codecs of single values: numbers, texts, enums, literals.

A JSON value is never bent to fit: ``"12"`` is no integer. The one exception is JSON's own, where
``12.0`` is an integer.
"""

from __future__ import annotations

import enum
import math
import re
from typing import Any

from . import spelled
from .codec import Budget, Codec, Invalid, Json, Refs, Unsupported, told


class Anything(Codec):
    """``Any``, ``object``, or no hint: as it came."""

    def schema(self, refs: Refs) -> Json:
        return {}

    def load(self, value: Any, at: str) -> Any:
        return value

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        from .plain import plain

        return plain(value, at, budget)


class Null(Codec):
    expected = "null"

    def schema(self, refs: Refs) -> Json:
        return {"type": "null"}

    def load(self, value: Any, at: str) -> Any:
        if value is not None:
            raise self.refuse(value, at)
        return None

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        return self.load(value, at)


class Boolean(Codec):
    expected = "true or false"

    def schema(self, refs: Refs) -> Json:
        return {"type": "boolean"}

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, bool):
            raise self.refuse(value, at)
        return value

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        budget.spend(5)
        return self.load(value, at)


class Integer(Codec):
    expected = "an integer"

    def schema(self, refs: Refs) -> Json:
        return {"type": "integer"}

    def load(self, value: Any, at: str) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(value, at)
        return value

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        value = self.load(value, at)
        budget.spend(1 + value.bit_length() // 3)
        return value


class Number(Codec):
    expected = "a number"

    def schema(self, refs: Refs) -> Json:
        return {"type": "number"}

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.refuse(value, at)
        try:
            return float(value)
        except OverflowError:
            raise Invalid(at, "is too large for a float") from None

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        self.load(value, at)
        if isinstance(value, float) and not math.isfinite(value):
            raise Invalid(at, f"{value} is no JSON number")
        budget.spend(8)
        return value


class Text(Codec):
    expected = "a string"

    def schema(self, refs: Refs) -> Json:
        return {"type": "string"}

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, str):
            raise self.refuse(value, at)
        return value

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        value = self.load(value, at)
        budget.spend(len(value) + 2)
        return str(value)


class DecimalNumber(Codec):
    """A decimal, which a JSON number may not hold exactly: a number or a string, written as one."""

    expected = "a decimal number"
    _pattern = r"^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$"

    def schema(self, refs: Refs) -> Json:
        text = {"type": "string", "pattern": self._pattern}
        return text if refs.output else {"anyOf": [{"type": "number"}, text]}

    def load(self, value: Any, at: str) -> Any:
        from decimal import Decimal

        if isinstance(value, str) and re.search(self._pattern, value):
            return Decimal(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return Decimal(str(value))
        raise self.refuse(value, at)

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        from decimal import Decimal

        if not isinstance(value, Decimal) or not value.is_finite():
            raise self.refuse(value, at)
        budget.spend(32)
        return str(value)


class Choice(Codec):
    """One of a few values: an enum or a literal."""

    def __init__(self, pairs: list[tuple[Any, Any]], description: str | None = None) -> None:
        """``pairs`` are the JSON value and the Python value of each."""
        self.pairs = pairs
        shown = [told(value) for value, _ in pairs]
        self.expected = f"one of {', '.join(shown)}" if len(shown) > 1 else "".join(shown)
        self._description = description

    def schema(self, refs: Refs) -> Json:
        values = [value for value, _ in self.pairs]
        schema: Json = {"const": values[0]} if len(values) == 1 else {"enum": values}
        kinds = {_json_type(value) for value in values}
        if len(kinds) == 1:
            schema = {"type": kinds.pop(), **schema}
        if self._description:
            schema["description"] = self._description
        return schema

    def load(self, value: Any, at: str) -> Any:
        for known, python in self.pairs:
            if _json_type(known) == _json_type(value) and known == value:
                return python
        raise self.refuse(value, at)

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        for known, python in self.pairs:
            if type(python) is type(value) and python == value:
                budget.spend(len(known) + 2 if isinstance(known, str) else 8)
                return known
        raise self.refuse(value, at)


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return "string" if isinstance(value, str) else type(value).__name__


def of_enum(kind: type[enum.Enum]) -> Codec:
    if issubclass(kind, enum.Flag):
        return FlagNumber(kind)
    members = list(kind)
    plain = all(isinstance(m.value, (str, int, float, bool, type(None))) for m in members)
    doc = kind.__doc__ if kind.__doc__ not in (None, "An enumeration.", enum.Enum.__doc__) else None
    # Values that JSON does not have are told apart by their names.
    pairs = [(member.value if plain else member.name, member) for member in members]
    if not pairs:
        raise Unsupported(f"the enum {kind.__name__} has no members")
    return Choice(pairs, doc.strip().split("\n\n")[0] if doc else None)


class FlagNumber(Codec):
    """``enum.Flag``: the sum of its members."""

    def __init__(self, kind: type[enum.Flag]) -> None:
        self.kind = kind
        self.most = sum({member.value for member in kind})
        names = ", ".join(f"{member.value} {member.name}" for member in kind)
        self.expected = f"a sum of {names}"

    def schema(self, refs: Refs) -> Json:
        return {"type": "integer", "minimum": 0, "maximum": self.most, "description": self.expected}

    def load(self, value: Any, at: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= self.most:
            raise self.refuse(value, at)
        try:
            return self.kind(value)
        except ValueError:
            raise self.refuse(value, at) from None

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if not isinstance(value, self.kind):
            raise self.refuse(value, at)
        budget.spend(8)
        return value.value


def of_literal(values: tuple[Any, ...]) -> Codec:
    pairs = []
    for value in values:
        known = value.value if isinstance(value, enum.Enum) else value
        if not isinstance(known, (str, int, bool, type(None))):
            raise Unsupported(f"Literal[{value!r}] is no JSON value; use a string or an integer")
        pairs.append((known, value))
    return Choice(pairs)


_BY_TYPE: dict[Any, Codec] = {
    Any: Anything(), object: Anything(),
    None: Null(), type(None): Null(),
    bool: Boolean(), int: Integer(), float: Number(), str: Text(),
}


def of_type(kind: Any) -> Codec | None:
    """The codec of a type that needs no more than itself, if it is one."""
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if isinstance(kind, type) and (kind.__module__, kind.__name__) == ("decimal", "Decimal"):
        return DecimalNumber()
    return spelled.of_type(kind)
