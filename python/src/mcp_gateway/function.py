"""A Python function as a tool: its definition for clients, its arguments, its result.

Made once, when a plugin is loaded. Does not run anything and knows no client.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

from . import marks
from .content import Content, Text
from .docstring import Docstring, parse
from .schema import Budget, Codec, Compiler, Invalid, Json, Refs, Unsupported
from .schema.constraints import Constrained, Notes
from .schema.containers import Array
from .schema.hints import resolve
from .schema.objects import MISSING, Member, default_of, properties, unknown

_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,128}$")


class Function:
    """One tool. ``plugin`` is where it comes from, for messages."""

    def __init__(
        self,
        call: Callable[..., Any],
        *,
        plugin: str = "",
        name: str | None = None,
        description: str | None = None,
        names: dict[str, Any] | None = None,
    ) -> None:
        """``names`` are those that hints may use besides the globals of the function's module."""
        mark = getattr(call, marks.MARK, None) or {}
        self.call = call
        self.plugin = plugin or getattr(call, "__module__", None) or "python"
        self.own_name = marks.default_name(call)
        self.name = name or mark.get("name") or self.own_name
        if not _NAME.match(self.name):
            rule = "a tool's name is 1 to 128 of A-Z a-z 0-9 _ . -"
            raise Unsupported(f'"{self.name}" is no name for a tool; give it one ({rule})')
        plain = _unwrapped(call)
        self.is_async = inspect.iscoroutinefunction(plain)
        doc = parse(_doc(call))
        self._signature = _signature(call)
        hints = _hints(plain, names)
        compiler = Compiler()
        self.context: str | None = None
        self._members: dict[str, Member] = {}
        self._kinds: dict[str, Any] = {}
        self._extra: tuple[str, Codec] | None = None
        # Defaults that Python would not fill in right by itself: those in a `pydantic.Field`.
        self._fill: dict[str, Any] = {}
        for parameter in self._signature.parameters.values():
            self._add(parameter, hints.get(parameter.name, parameter.annotation), compiler, doc)
        self.description = description or mark.get("given") or doc.text or self.name
        self.returns = self._result(hints.get("return", MISSING), mark, compiler)
        self.definition = self._define(mark, doc)

    @property
    def label(self) -> str:
        """How messages name it: plugin and function."""
        return f"{self.plugin}.{self.own_name}"

    # ---- its parameters ----

    def _add(
        self, parameter: inspect.Parameter, hint: Any, compiler: Compiler, doc: Docstring
    ) -> None:
        name = parameter.name
        if is_context(hint):
            self.context = name
            return
        default, notes = _given_default(parameter.default)
        try:
            if hint is inspect.Parameter.empty and default is not MISSING:
                hint = _kind_of(default)
            if default is None:
                hint = hint | None if isinstance(hint, type) else _or_none(hint)
            codec = compiler.codec(hint)
        except Unsupported as error:
            raise Unsupported(f"parameter {name}: {error}") from None
        if notes:
            codec = Constrained(codec, notes)
            if default is not MISSING:
                self._fill[name] = default
        described = doc.parameters.get(name)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            self._extra = (name, codec)
            return
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            self._members[name] = Member(Array(codec), False, None, described)
        else:
            word = None if default is MISSING else default_of(codec, default)
            self._members[name] = Member(codec, default is MISSING, word, described)
        self._kinds[name] = parameter.kind

    def bind(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with. All that is wrong with the arguments is told at once."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        for name, member in self._members.items():
            if name in arguments:
                try:
                    values[name] = member.codec.load(arguments[name], name)
                except Invalid as error:
                    problems.append(str(error))
            elif member.required:
                problems.append(f"{name}: is missing")
            elif name in self._fill:
                values[name] = self._fill[name]
        extra = self._bind_extra(arguments, problems)
        if problems:
            raise InvalidArguments(problems)
        return self._placed(values, extra)

    def _bind_extra(self, arguments: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        strangers = [name for name in arguments if name not in self._members]
        if not strangers or self._extra is None:
            problems.extend(unknown([name], self._members) for name in strangers)
            return {}
        extra = {}
        for name in strangers:
            try:
                extra[name] = self._extra[1].load(arguments[name], name)
            except Invalid as error:
                problems.append(str(error))
        return extra

    def _placed(
        self, values: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        # Before `*args` everything is given by position, or the items would go to the wrong names.
        by_place = any(kind is inspect.Parameter.VAR_POSITIONAL for kind in self._kinds.values())
        in_row = True
        for name, kind in self._kinds.items():
            if kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(values.get(name, ()) if in_row else ())
            elif kind is inspect.Parameter.POSITIONAL_ONLY or (
                by_place and kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            ):
                if name in values and in_row:
                    positional.append(values[name])
                elif default := self._default(name):
                    positional.append(default[0])
                else:
                    in_row = False
            elif name in values:
                keywords[name] = values[name]
        return positional, keywords

    def _default(self, name: str) -> list[Any]:
        default = self._signature.parameters[name].default
        return [] if default is inspect.Parameter.empty else [default]

    # ---- its result ----

    def _result(self, hint: Any, mark: Mapping[str, Any], compiler: Compiler) -> Codec | None:
        wanted = mark.get("structured")
        if wanted is False or hint in (MISSING, Any, object, None, type(None)):
            return None
        if _holds_content(hint) or (hint is str and not wanted):
            # A text is its own best form: as JSON it would be said twice, once with escapes.
            return None
        try:
            return compiler.codec(hint)
        except Unsupported as error:
            if wanted is None and not isinstance(hint, type):
                raise Unsupported(f"the result: {error}") from None
            raise Unsupported(f"the result: {error}, or leave the hint out") from None

    def result(self, value: Any, limit: int) -> Json:
        """The result of a call as clients get it. Raises `Invalid` or `TooLarge`."""
        budget = Budget(limit)
        if self.returns is None or isinstance(value, Content):
            return {"content": _blocks(value, budget)}
        data = self.returns.dump(value, "", budget)
        structured = {"result": data} if self.is_wrapped else data
        text = data if isinstance(data, str) else _json(data)
        return {"content": [{"type": "text", "text": text}], "structuredContent": structured}

    # ---- its definition ----

    def _define(self, mark: Mapping[str, Any], doc: Docstring) -> Json:
        refs = Refs()
        schema = properties(self._members, refs)
        if self._extra is not None:
            schema["additionalProperties"] = self._extra[1].schema(refs) or True
        definition: Json = {"name": self.name}
        if mark.get("title"):
            definition["title"] = mark["title"]
        definition["description"] = self.description
        definition["inputSchema"] = refs.finish(schema)
        self.is_wrapped = False
        if self.returns is not None:
            refs = Refs(output=True)
            output = self.returns.schema(refs)
            # Before 2026-07-28 a result had to be an object, so others are put into one.
            self.is_wrapped = output.get("type") != "object"
            if self.is_wrapped:
                described = {"description": doc.returns} if doc.returns else {}
                output = {
                    "type": "object",
                    "properties": {"result": {**described, **output}},
                    "required": ["result"],
                }
            definition["outputSchema"] = refs.finish(output)
        if mark.get("annotations"):
            definition["annotations"] = mark["annotations"]
        if mark.get("meta"):
            definition["_meta"] = mark["meta"]
        return definition


class InvalidArguments(ValueError):
    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


def is_context(hint: Any) -> bool:
    from .context import Context

    if isinstance(hint, type):
        return issubclass(hint, Context)
    return any(is_context(arg) for arg in get_args(hint) if isinstance(arg, type))


def _unwrapped(call: Callable[..., Any]) -> Any:
    """The function itself behind ``partial``, bound methods and objects that can be called."""
    plain: Any = call
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not (inspect.isroutine(plain) or isinstance(plain, type)):
        plain = type(plain).__call__
    return plain


def _doc(call: Callable[..., Any]) -> str | None:
    plain: Any = call
    while isinstance(plain, functools.partial):
        plain = plain.func
    return inspect.getdoc(plain)


def _signature(call: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(call)
    except (ValueError, TypeError):
        raise Unsupported("its parameters cannot be found out; wrap it in a def") from None


def _hints(plain: Any, names: dict[str, Any] | None) -> dict[str, Any]:
    target = vars(plain).get("__init__", plain) if isinstance(plain, type) else plain
    try:
        return resolve(target, names)
    except NameError as error:
        raise Unsupported(f"a type hint cannot be read: {error}") from None
    except TypeError:  # a built-in: it has none
        return {}


def _given_default(default: Any) -> tuple[Any, Notes | None]:
    """A parameter's default, and what ``pydantic.Field`` as a default says besides."""
    if default is inspect.Parameter.empty:
        return MISSING, None
    kind = type(default)
    if kind.__name__ == "FieldInfo" and kind.__module__.startswith("pydantic"):
        value = MISSING if default.is_required() else default.get_default(call_default_factory=True)
        return value, Notes((default,))
    return default, None


def _kind_of(default: Any) -> Any:
    """The hint that a default stands for where there is none."""
    for kind in (bool, int, float, str, list, dict):
        if type(default) is kind:
            return kind
    return Any


def _or_none(hint: Any) -> Any:
    if hint is Any or hint is inspect.Parameter.empty:
        return Any
    from typing import Optional

    return Optional[hint]  # noqa: UP045 (a hint of any form)


def _holds_content(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = hint.__origin__
    if isinstance(hint, type) and issubclass(hint, Content):
        return True
    return any(_holds_content(arg) for arg in get_args(hint))


def _blocks(value: Any, budget: Budget) -> list[Json]:
    if value is None:
        return []
    if isinstance(value, Content):
        return [value.block(budget)]
    if isinstance(value, str):
        return [Text(value).block(budget)]
    if isinstance(value, (list, tuple)) and any(isinstance(item, Content) for item in value):
        return [block for item in value for block in _blocks(item, budget)]
    from .schema.plain import plain

    data = plain(value, "", budget)
    return [Text(data if isinstance(data, str) else _json(data)).block(budget)]


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
