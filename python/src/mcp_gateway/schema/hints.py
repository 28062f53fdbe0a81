"""From a type hint to its codec.

The table of what is understood is in docs/plugins.md. A hint that is not understood is an error
of the one function that has it, not of its plugin.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from . import containers, objects, scalars
from .codec import Codec, Unsupported
from .constraints import Constrained, Notes
from .models import Model, is_pydantic, no_schema

_LISTS: tuple[Any, ...] = (
    list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Reversible,
)
_ITERATORS: tuple[Any, ...] = (abc.Iterator, abc.Generator)
_SETS: tuple[Any, ...] = (set, abc.Set, abc.MutableSet)
_MAPS: tuple[Any, ...] = (dict, abc.Mapping, abc.MutableMapping)
_OTHER_MAPS: tuple[Any, ...] = (collections.OrderedDict, collections.Counter)


def same_as(hint: Any, *names: str) -> bool:
    """Whether it is ``typing``'s or ``typing_extensions``' special form of one of these names."""
    for module in ("typing", "typing_extensions"):
        loaded = sys.modules.get(module)
        if any(hint is getattr(loaded, name, object()) for name in names):
            return True
    return False


class Compiler:
    """Makes codecs, one for each class however often it is used."""

    def __init__(self) -> None:
        self._classes: dict[Any, objects.Object] = {}
        self._variables: list[dict[Any, Any]] = []

    def codec(self, hint: Any) -> Codec:
        if isinstance(hint, str):
            raise Unsupported(f'the name "{hint}" is not defined where the function is')
        if hint is inspect.Parameter.empty:
            hint = Any
        try:
            known = scalars.of_type(hint)
        except TypeError:  # a hint with something unhashable in it
            known = None
        if known is not None:
            return known
        if isinstance(hint, TypeVar):
            return self.codec(self._variable(hint))
        if hasattr(hint, "__supertype__"):  # NewType
            return self.codec(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":  # `type X = …`
            return self.codec(hint.__value__)
        origin = get_origin(hint)
        if type(origin).__name__ == "TypeAliasType":
            with_variables = dict(zip(origin.__type_params__, get_args(hint), strict=False))
            return self._within(with_variables, origin.__value__)
        if origin is None:
            return self._bare(hint)
        return self._generic(hint, origin, get_args(hint))

    def _bare(self, hint: Any) -> Codec:
        if same_as(hint, "LiteralString"):
            return self.codec(str)
        if not isinstance(hint, type):
            raise Unsupported(no_schema(hint))
        if issubclass(hint, enum.Enum):
            return scalars.of_enum(hint)
        if is_pydantic(hint):
            return Model(hint)
        if dataclasses.is_dataclass(hint):
            return self._dataclass(hint, {})
        if is_typed_dict(hint):
            return self._typed_dict(hint, {})
        if issubclass(hint, tuple) and hasattr(hint, "_fields"):
            return self._named_tuple(hint)
        if hint is tuple:
            return containers.Array(self.codec(Any), tuple)
        if hint in (*_LISTS, *_ITERATORS, *_SETS, *_MAPS, *_OTHER_MAPS, collections.deque,
                    frozenset, collections.defaultdict):
            counter = (str, int) if hint is collections.Counter else (str, Any)
            args = counter if issubclass(hint, abc.Mapping) else (Any,)
            return self._generic(hint, hint, args)
        raise Unsupported(no_schema(hint))

    def _generic(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Codec:
        if origin is Annotated:
            return self._annotated(hint)
        if origin is typing.Union or origin is types.UnionType:
            return containers.Union([self.codec(arg) for arg in args])
        if origin is Literal or same_as(origin, "Literal"):
            return scalars.of_literal(args)
        if origin is typing.Final or same_as(origin, "Required", "NotRequired", "ReadOnly"):
            return self.codec(args[0])
        if origin is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                return containers.Array(self.codec(args[0]), tuple)
            return containers.FixedTuple([self.codec(arg) for arg in args if arg != ()])
        if origin is collections.Counter:
            return containers.Map(self.codec(args[0]), self.codec(int), collections.Counter)
        if origin is collections.defaultdict:
            return containers.Map(
                self.codec(args[0]), self.codec(args[-1]),
                lambda pairs: collections.defaultdict(None, pairs),
            )
        if origin in _MAPS or origin in _OTHER_MAPS:
            build = origin if origin in _OTHER_MAPS else dict
            return containers.Map(self.codec(args[0]), self.codec(args[-1]), build)
        if origin in _SETS or origin is frozenset:
            build = frozenset if origin is frozenset else set
            return containers.Array(self.codec(args[0]), build, unique=True)
        if origin is collections.deque:
            return containers.Array(self.codec(args[0]), collections.deque)
        if origin in _LISTS:
            return containers.Array(self.codec(args[0]))
        if origin in _ITERATORS:
            return containers.Array(self.codec(args[0]), iter)
        if isinstance(origin, type) and not is_pydantic(origin):
            variables = dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
            if dataclasses.is_dataclass(origin):
                return self._dataclass(origin, variables)
            if is_typed_dict(origin):
                return self._typed_dict(origin, variables)
            if (known := scalars.of_type(origin)) is not None:  # re.Pattern[str]
                return known
        if is_pydantic(origin) or is_pydantic(hint):
            return Model(hint)
        raise Unsupported(no_schema(hint))

    def _annotated(self, hint: Any) -> Codec:
        metadata = hint.__metadata__
        # A validator of pydantic's changes what is accepted, so pydantic has the whole hint.
        if any(is_pydantic(item) for item in metadata if not isinstance(item, str)):
            return Model(hint)
        inner = self.codec(hint.__origin__)
        notes = Notes(metadata)
        return Constrained(inner, notes) if notes else inner

    def _variable(self, variable: Any) -> Any:
        for scope in reversed(self._variables):
            if variable in scope:
                return scope[variable]
        if variable.__bound__ is not None:
            return variable.__bound__
        if variable.__constraints__:
            return typing.Union[variable.__constraints__]  # noqa: UP007 (made from a tuple)
        return Any

    def _within(self, variables: dict[Any, Any], hint: Any) -> Codec:
        self._variables.append(variables)
        try:
            return self.codec(hint)
        finally:
            self._variables.pop()

    def _dataclass(self, kind: Any, variables: dict[Any, Any]) -> Codec:
        def fits(value: Any) -> bool:
            return isinstance(value, kind)

        def read(value: Any, name: str) -> Any:
            return getattr(value, name, objects.MISSING)

        def build(fields: dict[str, Any]) -> Any:
            return kind(**fields)

        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}

        def default(name: str) -> Any:
            field = fields[name]
            if field.default is not dataclasses.MISSING:
                return field.default
            if field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
            return objects.MISSING

        return self._object(kind, variables, build, read, fits, default, list(fields))

    def _named_tuple(self, kind: Any) -> Codec:
        def read(value: Any, name: str) -> Any:
            return getattr(value, name)

        def default(name: str) -> Any:
            return kind._field_defaults.get(name, objects.MISSING)

        return self._object(
            kind, {}, lambda fields: kind(**fields), read,
            lambda value: isinstance(value, kind), default, list(kind._fields),
        )

    def _typed_dict(self, kind: Any, variables: dict[Any, Any]) -> Codec:
        def read(value: Any, name: str) -> Any:
            return value.get(name, objects.MISSING)

        codec = self._object(
            kind, variables, dict, read, lambda value: isinstance(value, abc.Mapping),
            lambda name: objects.MISSING, None,
        )
        for name, hint in _own_hints(kind).items():
            codec.members[name].required = is_required(kind, name, hint)
        return codec

    def _object(
        self, kind: Any, variables: dict[Any, Any], build: Any, read: Any, fits: Any,
        default: Any, names: list[str] | None,
    ) -> objects.Object:
        key = (kind, tuple(map(repr, variables.values())))
        if key in self._classes:
            return self._classes[key]
        from ..docstring import parse

        doc = parse(_own_doc(kind))
        codec = objects.Object(kind, build, read, fits, doc.summary or None)
        self._classes[key] = codec
        self._variables.append(variables)
        try:
            hints = _own_hints(kind)
            for name in hints if names is None else names:
                try:
                    inner = self.codec(hints.get(name, Any))
                except Unsupported as error:
                    raise Unsupported(f"{kind.__name__}.{name}: {error}") from None
                value = default(name)
                missing = value is objects.MISSING
                word = None if missing else objects.default_of(inner, value)
                described = doc.parameters.get(name)
                codec.members[name] = objects.Member(inner, missing, word, described)
        except Unsupported:
            del self._classes[key]
            raise
        finally:
            self._variables.pop()
        return codec


def is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def is_required(kind: Any, name: str, hint: Any) -> bool:
    """``__required_keys__`` is wrong where annotations are strings, so the hints are asked."""
    while (origin := get_origin(hint)) is not None:
        if same_as(origin, "Required"):
            return True
        if same_as(origin, "NotRequired"):
            return False
        if origin is not Annotated and not same_as(origin, "ReadOnly"):
            break
        hint = hint.__origin__ if origin is Annotated else get_args(hint)[0]
    return name in kind.__required_keys__ or name not in kind.__optional_keys__


def _own_hints(kind: Any) -> dict[str, Any]:
    try:
        return resolve(kind, {kind.__name__: kind})
    except NameError as error:
        raise Unsupported(f"{kind.__name__}: {error}") from None


def _own_doc(kind: Any) -> str:
    doc = kind.__doc__ or ""
    # dataclasses and named tuples without a docstring are given their signature for one.
    return "" if doc.startswith(f"{kind.__name__}(") or kind.__doc__ == dict.__doc__ else doc


def resolve(thing: Any, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """The hints of a class or a function, with what ``Annotated`` says."""
    get_type_hints: Any = typing.get_type_hints
    if sys.version_info < (3, 11) and "typing_extensions" in sys.modules:
        # Only that one knows its own `Required` there.
        get_type_hints = sys.modules["typing_extensions"].get_type_hints
    return dict(get_type_hints(thing, localns=names, include_extras=True))
