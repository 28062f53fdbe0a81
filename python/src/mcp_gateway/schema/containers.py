"""Codecs of values that hold others: lists, tuples, sets, maps, unions.

A union takes the first of its members that a value fits, from left to right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .codec import Budget, Codec, Invalid, Json, Refs, inside


class Array(Codec):
    """A list, a set, or any other run of items of one kind."""

    def __init__(
        self, item: Codec, build: Callable[[list[Any]], Any] = list, *, unique: bool = False
    ) -> None:
        self.item = item
        self._build = build
        self._unique = unique
        self.expected = "an array"

    def schema(self, refs: Refs) -> Json:
        schema: Json = {"type": "array"}
        if items := self.item.schema(refs):
            schema["items"] = items
        if self._unique:
            schema["uniqueItems"] = True
        return schema

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, list):
            raise self.refuse(value, at)
        items = [self.item.load(item, inside(at, i)) for i, item in enumerate(value)]
        try:
            built = self._build(items)
        except TypeError:
            raise Invalid(at, "holds an item that a set cannot hold") from None
        if self._unique and len(built) != len(items):
            raise Invalid(at, "holds an item twice")
        return built

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise self.refuse(value, at)
        out = []
        for i, item in enumerate(value):
            budget.spend(2)
            out.append(self.item.dump(item, inside(at, i), budget))
        if self._unique:
            # A set has no order of its own; the same set is always written the same way.
            out.sort(key=repr)
        return out


class FixedTuple(Codec):
    """``tuple[int, str]``: so many items, each of its own kind."""

    def __init__(self, items: list[Codec]) -> None:
        self.items = items
        self.expected = f"an array of {len(items)}"

    def schema(self, refs: Refs) -> Json:
        count = len(self.items)
        schema: Json = {"type": "array", "minItems": count, "maxItems": count}
        if self.items:
            schema["prefixItems"] = [item.schema(refs) for item in self.items]
        return schema

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, list) or len(value) != len(self.items):
            raise self.refuse(value, at)
        pairs = enumerate(zip(self.items, value, strict=True))
        return tuple(codec.load(item, inside(at, i)) for i, (codec, item) in pairs)

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if not isinstance(value, (tuple, list)) or len(value) != len(self.items):
            raise self.refuse(value, at)
        budget.spend(2 * len(value))
        pairs = enumerate(zip(self.items, value, strict=True))
        return [codec.dump(item, inside(at, i), budget) for i, (codec, item) in pairs]


class Map(Codec):
    """A dict. Its keys are strings in JSON; other kinds are written as such."""

    expected = "an object"

    def __init__(self, key: Codec, value: Codec, build: Callable[[Any], Any] = dict) -> None:
        self.key = key
        self.value = value
        self._build = build
        keys = key.schema(Refs())
        # Numbers and booleans are spelled out as keys, everything else is a string already.
        self._number = keys.get("type") in ("integer", "number")
        self._names = {k: v for k, v in keys.items() if k != "type"}
        if self._number:
            self._names = {"pattern": r"^-?\d+$" if keys["type"] == "integer" else r"^-?\d"}

    def schema(self, refs: Refs) -> Json:
        schema: Json = {"type": "object"}
        if values := self.value.schema(refs):
            schema["additionalProperties"] = values
        if self._names:
            schema["propertyNames"] = self._names
        return schema

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise self.refuse(value, at)
        pairs = {}
        for name, item in value.items():
            place = inside(at, name)
            pairs[self._load_key(name, place)] = self.value.load(item, place)
        return self._build(pairs)

    def _load_key(self, name: str, at: str) -> Any:
        if not self._number:
            return self.key.load(name, at)
        if not re.search(r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$", name):
            raise Invalid(at, f'the key "{name[:40]}" is not {self.key.expected}')
        try:
            number = int(name)
        except ValueError:
            number = float(name)  # type: ignore[assignment]
        return self.key.load(number, at)

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if not isinstance(value, Mapping):
            raise self.refuse(value, at)
        out = {}
        for key, item in value.items():
            name = self.key.dump(key, at, budget)
            name = name if isinstance(name, str) else str(name)
            out[name] = self.value.dump(item, inside(at, name), budget)
        return out


class Union(Codec):
    """Any of several kinds."""

    def __init__(self, members: list[Codec]) -> None:
        self.members = members
        names = list(dict.fromkeys(member.expected for member in members))
        self.expected = " or ".join(names)

    def schema(self, refs: Refs) -> Json:
        schemas: list[Json] = []
        for member in self.members:
            schema = member.schema(refs)
            if schema not in schemas:
                schemas.append(schema)
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def load(self, value: Any, at: str) -> Any:
        problems = []
        for member in self.members:
            try:
                return member.load(value, at)
            except Invalid as problem:
                problems.append(problem)
        raise self._nearest(problems, value, at)

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        problems = []
        left = budget.left
        for member in self.members:
            budget.left = left
            try:
                return member.dump(value, at, budget)
            except Invalid as problem:
                problems.append(problem)
        raise self._nearest(problems, value, at)

    def _nearest(self, problems: list[Invalid], value: Any, at: str) -> Invalid:
        """The problem of the member that fitted best: whose fault lies deepest inside."""
        deepest = max(problems, key=lambda problem: len(problem.at))
        return deepest if len(deepest.at) > len(at) else self.refuse(value, at)
