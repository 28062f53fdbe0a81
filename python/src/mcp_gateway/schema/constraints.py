"""What ``Annotated`` says of a value: a description, and bounds that are checked.

Reads our own :class:`Field`, a plain string, ``annotated_types`` (``Ge``, ``Len`` …),
``pydantic.Field`` and ``typing_extensions.Doc`` by the attributes that they have, so that none of
them has to be installed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .codec import Budget, Codec, Invalid, Json, Refs

BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a parameter means and may be: ``Annotated[int, Field(description="…", ge=0)]``."""

    description: str | None = None
    title: str | None = None
    examples: tuple[Any, ...] | None = None
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None


class Notes:
    """All that the metadata of one ``Annotated`` says, later ones over earlier ones."""

    def __init__(self, metadata: tuple[Any, ...]) -> None:
        self.words: Json = {}
        self.bounds: dict[str, Any] = {}
        self.predicates: list[Callable[[Any], Any]] = []
        for item in _flat(metadata):
            self._read(item)

    def _read(self, item: Any) -> None:
        if isinstance(item, str):
            self.words["description"] = item
            return
        words = {
            "description": getattr(item, "description", None),
            "title": getattr(item, "title", None),
            "examples": getattr(item, "examples", None),
        }
        documentation = getattr(item, "documentation", None)
        if isinstance(documentation, str):
            words["description"] = documentation
        for key, value in words.items():
            if isinstance(value, str) or (key == "examples" and value):
                self.words[key] = value if isinstance(value, str) else list(value)
        extra = getattr(item, "json_schema_extra", None)
        if isinstance(extra, dict):
            self.words.update(extra)
        for bound in BOUNDS:
            value = getattr(item, bound, None)
            if value is not None:
                self.bounds[bound] = getattr(value, "pattern", value)
        if callable(predicate := getattr(item, "func", None)):
            self.predicates.append(predicate)

    def __bool__(self) -> bool:
        return bool(self.words or self.bounds or self.predicates)


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        yield item
        # pydantic's FieldInfo keeps its bounds in a list of `annotated_types`.
        inner = getattr(item, "metadata", None)
        if isinstance(inner, (list, tuple)):
            yield from _flat(tuple(inner))


class Constrained(Codec):
    """A codec with bounds and words."""

    def __init__(self, inner: Codec, notes: Notes) -> None:
        self.inner = inner
        self.notes = notes
        self.expected = inner.expected
        pattern = notes.bounds.get("pattern")
        self._pattern = re.compile(pattern) if pattern is not None else None

    def schema(self, refs: Refs) -> Json:
        schema = dict(self.inner.schema(refs))
        keywords = self._keywords(schema)
        if "anyOf" in schema and keywords:
            # Bounds on `int | None` hold for the member that can have them.
            members = schema["anyOf"]
            schema["anyOf"] = [
                m if m == {"type": "null"} else {**m, **self._keywords(m)} for m in members
            ]
            keywords = {}
        return {**schema, **keywords, **self.notes.words}

    def _keywords(self, schema: Json) -> Json:
        size = {"array": "Items", "object": "Properties"}.get(str(schema.get("type")), "Length")
        names = {
            "gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum",
            "multiple_of": "multipleOf", "pattern": "pattern",
            "min_length": f"min{size}", "max_length": f"max{size}",
        }
        # A bound of another kind, such as a date, has no keyword in JSON Schema; it is checked.
        return {
            names[bound]: limit for bound, limit in self.notes.bounds.items()
            if isinstance(limit, (int, float, str))
        }

    def load(self, value: Any, at: str) -> Any:
        loaded = self.inner.load(value, at)
        if loaded is not None:
            self._check(loaded, at)
        return loaded

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if value is not None:
            self._check(value, at)
        return self.inner.dump(value, at, budget)

    def _check(self, value: Any, at: str) -> None:
        for bound, limit in self.notes.bounds.items():
            try:
                problem = self._broken(bound, limit, value)
            except TypeError:
                continue  # a bound on something that has no such size or order
            if problem:
                raise Invalid(at, problem)
        for predicate in self.notes.predicates:
            if not predicate(value):
                name = getattr(predicate, "__name__", "its rule")
                raise Invalid(at, f"is refused by {name}")

    def _broken(self, bound: str, limit: Any, value: Any) -> str | None:
        if bound == "pattern":
            found = self._pattern is None or not isinstance(value, str) or (
                self._pattern.search(value)
            )
            return None if found else f"must match {limit}"
        if bound == "multiple_of":
            rest = value % limit
            near = min(abs(rest), abs(abs(limit) - abs(rest))) < 1e-9 * max(1, abs(value))
            return None if rest == 0 or (isinstance(value, float) and near) else (
                f"must be a multiple of {limit}"
            )
        if bound in ("min_length", "max_length"):
            size = len(value)
            kept = size >= limit if bound == "min_length" else size <= limit
            word = "at least" if bound == "min_length" else "at most"
            return None if kept else f"must have a length of {word} {limit}, not {size}"
        compare, word = _ORDER[bound]
        if compare(value, limit):
            return None
        # A float that came as an integer is shown as one.
        shown = int(value) if isinstance(value, float) and value.is_integer() else value
        return f"must be {word} {limit}, not {shown}"


_ORDER: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "gt": (operator.gt, "greater than"),
    "ge": (operator.ge, "at least"),
    "lt": (operator.lt, "less than"),
    "le": (operator.le, "at most"),
}
