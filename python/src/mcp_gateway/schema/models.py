"""Codec of what pydantic knows and we do not: models, its own types and validators.

Imported only for a hint that is pydantic's, so a plugin without models never pays for it, and a
schema does not depend on what else is installed.
"""

from __future__ import annotations

import copy
from typing import Any

from .codec import Budget, Codec, Invalid, Json, Refs, Unsupported, inside


def is_pydantic(hint: Any) -> bool:
    marks = ("__get_pydantic_core_schema__", "__pydantic_core_schema__", "__pydantic_validator__")
    return any(hasattr(hint, mark) for mark in marks)


class Model(Codec):
    """A hint that ``pydantic.TypeAdapter`` takes over whole."""

    expected = "an object"

    def __init__(self, hint: Any) -> None:
        try:
            import pydantic
            import pydantic.errors
        except ImportError:
            raise Unsupported(no_schema(hint)) from None
        try:
            self._adapter: Any = pydantic.TypeAdapter(hint)
        except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation):
            raise Unsupported(no_schema(hint)) from None
        self._errors = (pydantic.ValidationError,)
        try:
            self._schemas = [self._make(output) for output in (False, True)]
        except pydantic.errors.PydanticInvalidForJsonSchema as error:
            raise Unsupported(str(error)) from None
        kind = self._schemas[0]
        if kind.get("type") != "object" and "$ref" not in kind:
            self.expected = getattr(hint, "__name__", None) or str(hint)

    def _make(self, output: bool) -> Json:
        mode = "serialization" if output else "validation"
        return dict(self._adapter.json_schema(mode=mode, ref_template="#/$defs/{model}"))

    def schema(self, refs: Refs) -> Json:
        return refs.adopt(copy.deepcopy(self._schemas[refs.output]))

    def load(self, value: Any, at: str) -> Any:
        try:
            return self._adapter.validate_python(value)
        except self._errors as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = at
            for key in first["loc"]:
                place = inside(place, key)
            raise Invalid(place, first["msg"].removeprefix("Value error, ")) from None

    def dump(self, value: Any, at: str, budget: Budget) -> Any:
        from .plain import plain

        try:
            out = self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        except ValueError as error:  # PydanticSerializationError
            raise Invalid(at, f"got a Python {type(value).__name__}: {error}") from None
        return plain(out, at, budget)


def no_schema(hint: Any) -> str:
    name = getattr(hint, "__qualname__", None) or repr(hint)
    return f"{name} has no JSON Schema; use a dataclass, a TypedDict or a pydantic model"
