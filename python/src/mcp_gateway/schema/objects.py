"""Codecs of objects with named fields: dataclasses, typed dicts, named tuples.

A field that the class does not have is refused, so that a misspelt one is not lost in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .codec import Budget, Codec, Invalid, Json, Refs, inside


@dataclass
class Member:
    """One field: its codec, whether it must be there, and its default as JSON if it has one."""

    codec: Codec
    required: bool
    default: Json | None = None
    description: str | None = None

    def schema(self, refs: Refs) -> Json:
        schema = dict(self.codec.schema(refs))
        if self.description:
            schema.setdefault("description", self.description)
        return {**schema, **(self.default or {})}


def properties(members: Mapping[str, Member], refs: Refs) -> Json:
    """The keywords of an object with these fields."""
    schema: Json = {
        "type": "object",
        "properties": {name: member.schema(refs) for name, member in members.items()},
    }
    required = [name for name, member in members.items() if member.required]
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return schema


def default_of(codec: Codec, value: Any) -> Json | None:
    """The ``default`` keyword, or nothing for a default that JSON does not have."""
    try:
        return {"default": codec.dump(value, "", Budget(4096))}
    except Exception:  # a default may be any object at all
        return None


def unknown(names: list[str], known: Mapping[str, Any]) -> str:
    """What to say of fields that there are not."""
    import difflib

    name = names[0]
    near = difflib.get_close_matches(name, list(known), n=1)
    if near:
        return f'there is no "{name}" (did you mean "{near[0]}"?)'
    there = ", ".join(known) or "none"
    return f'there is no "{name}" (there are: {there})'


class Object(Codec):
    """A class with fields, made by ``build`` and read by ``read``."""

    expected = "an object"

    def __init__(
        self,
        kind: type,
        build: Callable[[dict[str, Any]], Any],
        read: Callable[[Any, str], Any],
        fits: Callable[[Any], bool],
        description: str | None = None,
    ) -> None:
        self.kind = kind
        # Filled in by `hints` once the class is known, since its fields may lead back to it.
        self.members: dict[str, Member] = {}
        self._build = build
        self._read = read
        self._fits = fits
        self._description = description

    def schema(self, refs: Refs) -> Json:
        return refs.named(self, self.kind.__name__, lambda: self._schema(refs))

    def _schema(self, refs: Refs) -> Json:
        schema = properties(self.members, refs)
        return {"description": self._description, **schema} if self._description else schema

    def load(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise self.refuse(value, at)
        strangers = [name for name in value if name not in self.members]
        if strangers:
            raise Invalid(at, unknown(strangers, self.members))
        fields = {}
        for name, member in self.members.items():
            if name in value:
                fields[name] = member.codec.load(value[name], inside(at, name))
            elif member.required:
                raise Invalid(inside(at, name), "is missing")
        try:
            return self._build(fields)
        except (ValueError, TypeError) as error:  # the class has rules of its own
            raise Invalid(at, str(error) or type(error).__name__) from error

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        if not self._fits(value):
            raise self.refuse(value, at)
        out: Json = {}
        for name, member in self.members.items():
            found = self._read(value, name)
            if found is MISSING:
                if member.required:
                    raise Invalid(inside(at, name), "is missing")
                continue
            budget.spend(len(name) + 4)
            out[name] = member.codec.dump(found, inside(at, name), budget)
        return out


MISSING = object()
