"""What a type hint becomes: a JSON Schema, and both ways between JSON and Python.

Every kind of hint has a :class:`Codec`. ``load`` takes what a client sent and refuses what the
schema refuses; ``dump`` takes what a function returned and gives plain JSON. Nothing here knows
which hint leads to which codec; that is ``hints``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


class Invalid(ValueError):
    """A value that does not fit, and where in the whole it stands: ``address.street``."""

    def __init__(self, at: str, what: str) -> None:
        super().__init__(f"{at}: {what}" if at else what)
        self.at = at
        self.what = what


class Unsupported(TypeError):
    """A type hint that has no JSON Schema. The text says what to write instead."""


class TooLarge(ValueError):
    """A result that would not fit into one message."""


class Budget:
    """How much a result may still hold, so that a huge one is refused before it is copied."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooLarge


class Refs:
    """``$defs`` of one schema. A class stands where it is used; only one that holds itself is
    defined apart, because not every client follows references."""

    def __init__(self, *, output: bool = False) -> None:
        self.output = output
        self.defs: dict[str, Json] = {}
        self._names: dict[object, str] = {}
        self._open: list[object] = []
        self._wanted: set[object] = set()

    def named(self, key: object, name: str, build: Callable[[], Json]) -> Json:
        if key in self._open:
            self._wanted.add(key)
            return self._ref(key, name)
        if key in self._wanted:
            return self._ref(key, name)
        self._open.append(key)
        schema = build()
        self._open.pop()
        if key not in self._wanted:
            return schema
        self.defs[self._name(key, name)] = schema
        # The root of a schema must say `type: object` itself, so it is written out once more.
        return self._ref(key, name) if self._open else dict(schema)

    def _ref(self, key: object, name: str) -> Json:
        return {"$ref": f"#/$defs/{self._name(key, name)}"}

    def _name(self, key: object, name: str) -> str:
        if key not in self._names:
            taken = set(self._names.values()) | set(self.defs)
            unique, count = name, 1
            while unique in taken:
                count += 1
                unique = f"{name}{count}"
            self._names[key] = unique
        return self._names[key]

    def adopt(self, schema: Json) -> Json:
        """A schema that another library made, its definitions taken over into ours."""
        for name in list(schema.get("$defs", {})):
            unique = name
            while self.defs.get(unique, schema["$defs"][name]) != schema["$defs"][name]:
                unique += "_"
            if unique != name:  # two classes of one name
                text = json.dumps(schema).replace(f'"#/$defs/{name}"', f'"#/$defs/{unique}"')
                schema = json.loads(text)
                schema["$defs"][unique] = schema["$defs"].pop(name)
        defs = schema.pop("$defs", {})
        self.defs.update(defs)
        # The root of a schema must say `type: object` itself.
        if set(schema) == {"$ref"} and not self._open:
            return dict(defs[schema["$ref"].removeprefix("#/$defs/")])
        return schema

    def finish(self, schema: Json) -> Json:
        return {**schema, "$defs": self.defs} if self.defs else schema


class Codec:
    """One kind of value. ``expected`` is how messages name it."""

    expected = "a value"

    def schema(self, refs: Refs) -> Json:
        raise NotImplementedError

    def load(self, value: Any, at: str) -> Any:
        """The Python value for a JSON value, or :class:`Invalid`."""
        raise NotImplementedError

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        """The JSON value for a Python value, or :class:`Invalid` or :class:`TooLarge`."""
        raise NotImplementedError

    def refuse(self, value: Any, at: str) -> Invalid:
        return Invalid(at, f"expected {self.expected}, got {told(value)}")


def told(value: Any) -> str:
    """A value as messages show it: its kind, and itself where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else f'"{value[:37]}…"'
    if isinstance(value, (int, float)):
        # An int of a million digits may not even be shown (`sys.set_int_max_str_digits`).
        short = isinstance(value, float) or value.bit_length() <= 128
        return f"{value}" if short else "a huge number"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}" if value else "an empty array"
    if isinstance(value, dict):
        return "an object"
    return f"a Python {type(value).__name__}"


def inside(at: str, key: str | int) -> str:
    """The place of a member or an item."""
    if isinstance(key, int):
        return f"{at}[{key}]"
    return f"{at}.{key}" if at else key
