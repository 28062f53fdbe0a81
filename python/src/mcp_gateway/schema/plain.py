"""Plain JSON from a value whose function says nothing of its result.

What the value itself tells is used: dataclasses, enums, dates, models. What has no form in JSON
is refused with its place, not turned into ``repr``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from .codec import Budget, Invalid, inside
from .scalars import Integer, Number, of_type

_DEEPEST = 200


def plain(value: Any, at: str, budget: Budget, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise Invalid(at, f"is nested more than {_DEEPEST} deep, or holds itself")
    if value is None or isinstance(value, bool):
        budget.spend(5)
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, at, budget, depth + 1)
    if isinstance(value, str):
        budget.spend(len(value) + 2)
        return str(value)
    if isinstance(value, int):
        return Integer().dump(int(value), at, budget)
    if isinstance(value, float):
        return Number().dump(float(value), at, budget)
    if isinstance(value, Mapping):
        return _mapping(value, at, budget, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return _mapping({f.name: getattr(value, f.name) for f in fields}, at, budget, depth)
    if callable(dump := getattr(value, "model_dump", None)):  # a pydantic model
        return plain(dump(mode="json"), at, budget, depth + 1)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _mapping(value._asdict(), at, budget, depth)
    for kind in type(value).__mro__[:-1]:  # the last is `object`, which says nothing
        if (codec := of_type(kind)) is not None:
            return codec.dump(value, at, budget)
    if isinstance(value, Iterable):
        items = []
        for i, item in enumerate(value):
            budget.spend(2)
            items.append(plain(item, inside(at, i), budget, depth + 1))
        return sorted(items, key=repr) if isinstance(value, (set, frozenset)) else items
    kind_name = type(value).__name__
    raise Invalid(at, f"a {kind_name} has no form in JSON; return a dict or a dataclass")


def _mapping(value: Mapping[Any, Any], at: str, budget: Budget, depth: int) -> Any:
    out = {}
    for key, item in value.items():
        name = plain(key, at, budget, depth + 1)
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise Invalid(at, f"a {type(key).__name__} cannot be a key in JSON")
        name = str(name)
        out[name] = plain(item, inside(at, name), budget, depth + 1)
    return out
