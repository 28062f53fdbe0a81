"""Functions with every kind of type hint, and what each takes and refuses.

A row is a function, then pairs of JSON in and what the function saw (its ``repr``), then JSON that
must be refused. The table is served by ``signature_plugin`` and read by ``test_signatures``.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import re
import typing
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import annotated_types as at
import pydantic
from typing_extensions import Doc, NotRequired, Required, TypedDict

from mcp_gateway import Field


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    PAIR = (1, 2)
    OTHER = (3, 4)


class Perm(enum.Flag):
    R = 1
    W = 2


@dataclass
class Point:
    """A place.

    Attributes:
        x: to the right
        y: up
    """

    x: float
    y: float = 0.0


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


@dataclass(kw_only=True, frozen=True)
class Options:
    depth: Annotated[int, Field(ge=1, le=9)] = 3
    tags: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.depth == 7:
            raise ValueError("7 is not a depth")


T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)


@dataclass
class Box(Generic[T]):
    item: T


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: str


class Pair(NamedTuple):
    left: int
    right: str = "r"


class User(pydantic.BaseModel):
    name: str
    age: Annotated[int, pydantic.Field(ge=0)] = 0
    friends: list[User] = []


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    url: pydantic.HttpUrl


UserId = NewType("UserId", int)
Json = dict[str, Any]
Upper = Annotated[str, pydantic.AfterValidator(lambda s: s.upper())]


def f01(v: str): ...
def f02(v: int): ...
def f03(v: float): ...
def f04(v: bool): ...
def f05(v: list): ...
def f06(v: dict): ...
def f07(v: None): ...
def f08(v: Any): ...
def f09(v): ...
def f10(v: object): ...
def f11(v: list[int]): ...
def f12(v: dict[str, float]): ...
def f13(v: dict[int, str]): ...
def f14(v: Optional[int]): ...
def f15(v: int | None = None): ...
def f16(v: Union[int, str]): ...
def f17(v: Literal["a", "b", 1, None]): ...
def f18(v: Literal[True]): ...
def f19(v: Colour): ...
def f20(v: Level = Level.LOW): ...
def f21(v: Odd): ...
def f22(v: Perm): ...
def f23(v: Point): ...
def f24(v: Tree): ...
def f25(v: Options = Options()): ...
def f26(v: Box[int]): ...
def f27(v: Movie): ...
def f28(v: Partial): ...
def f29(v: Pair): ...
def f30(v: User): ...
def f31(v: Strict): ...
def f32(v: tuple[int, str]): ...
def f33(v: tuple[int, ...]): ...
def f34(v: tuple): ...
def f35(v: set[int]): ...
def f36(v: frozenset[str]): ...
def f37(v: bytes): ...
def f38(v: dt.datetime): ...
def f39(v: dt.date): ...
def f40(v: dt.time): ...
def f41(v: dt.timedelta): ...
def f42(v: pathlib.Path): ...
def f43(v: uuid.UUID): ...
def f44(v: decimal.Decimal): ...
def f45(v: ipaddress.IPv4Address): ...
def f46(v: re.Pattern[str]): ...
def f47(v: Annotated[int, "how many"]): ...
def f48(v: Annotated[int, Field(ge=1, le=10, description="from 1 to 10")]): ...
def f49(v: Annotated[str, Field(min_length=2, max_length=3, pattern="^[a-z]+$")]): ...
def f50(v: Annotated[list[int], at.Len(1, 2)]): ...
def f51(v: Annotated[float, at.Interval(gt=0, lt=1)]): ...
def f52(v: Annotated[int, at.MultipleOf(5)]): ...
def f53(v: Annotated[str, Doc("a documented one")]): ...
def f54(v: Annotated[int, pydantic.Field(gt=0, description="positive")]): ...
def f55(v: int = pydantic.Field(default=5, le=5)): ...
def f56(v: UserId): ...
def f57(v: Bound): ...
def f58(v: abc.Sequence[str]): ...
def f59(v: abc.Mapping[str, int]): ...
def f60(v: collections.deque[int]): ...
def f61(v: collections.Counter[str]): ...
def f62(v: collections.defaultdict[str, list[int]]): ...
def f63(v: list[Point | None]): ...
def f64(v: dict[Colour, list[tuple[int, Movie]]]): ...
def f65(v: Union[Point, Movie, str]): ...
def f66(v: dt.datetime | dt.date): ...
def f67(v: list[User]): ...
def f68(v: Upper): ...
def f69(v: Annotated[Optional[int], Field(ge=3)] = None): ...
def f70(v: Json): ...
def f71(*, v: int): ...
def f72(v: int, /): ...
def f73(v: typing.List[typing.Dict[str, int]]): ...  # noqa: UP006
def f74(v: abc.Iterable[int]): ...
def f75(v: int = None): ...
def f76(v="text"): ...
def f77(v: Annotated[Annotated[int, Field(ge=0)], Field(le=5)]): ...
def f78(v: dict[dt.date, int]): ...
def f79(v: Annotated[dt.date, at.Ge(dt.date(2026, 1, 1))]): ...
def f80(v: bytearray): ...


ABSENT = object()

UTC = dt.timezone.utc
TABLE: list[tuple[Any, list[tuple[Any, Any]], list[Any]]] = [
    (f01, [("x", "x"), ("", "")], [1, None, True, ["x"], ABSENT]),
    (f02, [(3, 3), (3.0, 3), (10**30, 10**30)], ["3", 3.5, True, None]),
    (f03, [(3.5, 3.5), (3, 3.0)], ["3", False, None]),
    (f04, [(True, True)], [1, "true", None]),
    (f05, [([1, "a"], [1, "a"])], ["ab", {}, None]),
    (f06, [({"a": 1}, {"a": 1})], [[], "x", None]),
    (f07, [(None, None)], [0, ""]),
    (f08, [(None, None), ([1], [1])], [ABSENT]),
    (f09, [("x", "x"), (1, 1)], [ABSENT]),
    (f10, [({"a": []}, {"a": []})], [ABSENT]),
    (f11, [([1, 2], [1, 2]), ([], [])], [[1, "2"], "12", {}]),
    (f12, [({"a": 1}, {"a": 1.0})], [{"a": "1"}, [1]]),
    (f13, [({"1": "a"}, {1: "a"})], [{"x": "a"}, {"1": 2}]),
    (f14, [(1, 1), (None, None)], ["1", ABSENT]),
    (f15, [(1, 1), (None, None), (ABSENT, None)], ["1"]),
    (f16, [(1, 1), ("1", "1")], [1.5, None, True]),
    (f17, [("a", "a"), (1, 1), (None, None)], ["c", True, 2]),
    (f18, [(True, True)], [1, False]),
    (f19, [("red", Colour.RED)], ["RED", 1]),
    (f20, [(2, Level.HIGH), (ABSENT, Level.LOW)], [3, "2", True]),
    (f21, [("PAIR", Odd.PAIR)], [[1, 2], "x"]),
    (f22, [(3, Perm.R | Perm.W), (0, Perm(0))], [4, -1, "1"]),
    (f23, [({"x": 1}, Point(1.0)), ({"x": 1, "y": 2}, Point(1.0, 2.0))],
     [{}, {"x": "1"}, {"x": 1, "z": 2}, [1, 2]]),
    (f24, [({"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")]))],
     [{"name": "a", "children": [{"nom": "b"}]}, {"name": "a", "children": [{"name": 1}]}]),
    (f25, [({}, Options()), ({"depth": 1, "tags": ["a"]}, Options(depth=1, tags={"a"})),
           (ABSENT, Options())],
     [{"depth": 0}, {"depth": 10}, {"tags": ["a", "a"]}]),
    (f26, [({"item": 1}, Box(1))], [{"item": "1"}]),
    (f27, [({"title": "t"}, {"title": "t"}), ({"title": "t", "year": 1}, {"title": "t", "year": 1})],
     [{}, {"title": "t", "year": "1"}, {"title": "t", "x": 1}]),
    (f28, [({"a": 1}, {"a": 1})], [{"b": "x"}, {"a": 1, "b": 1}]),
    (f29, [({"left": 1}, Pair(1)), ({"left": 1, "right": "x"}, Pair(1, "x"))], [{}, {"left": "1"}]),
    (f30, [({"name": "n"}, User(name="n")),
           ({"name": "n", "friends": [{"name": "m"}]}, User(name="n", friends=[User(name="m")]))],
     [{}, {"name": "n", "age": -1}, {"name": "n", "friends": [{}]}]),
    (f31, [({"url": "http://x.example/"}, Strict(url="http://x.example/"))],
     [{}, {"url": "http://x.example/", "y": 1}]),
    (f32, [([1, "a"], (1, "a"))], [[1], [1, "a", 2], ["a", 1], "1a"]),
    (f33, [([1, 2], (1, 2)), ([], ())], [["1"], 1]),
    (f34, [([1, "x"], (1, "x"))], ["x"]),
    (f35, [([1, 2], {1, 2})], [[1, 1], ["1"]]),
    (f36, [(["a"], frozenset({"a"}))], [["a", "a"], "a"]),
    (f37, [("aGk=", b"hi"), ("", b"")], [1, None]),
    (f38, [("2026-01-31T12:30:00Z", dt.datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
           ("2026-01-31T12:30:00.5+01:00",
            dt.datetime(2026, 1, 31, 12, 30, 0, 500000, dt.timezone(dt.timedelta(hours=1))))],
     [1, None]),
    (f39, [("2026-01-31", dt.date(2026, 1, 31))], [20260131]),
    (f40, [("12:30:00", dt.time(12, 30))], [12]),
    (f41, [("PT1H30M", dt.timedelta(hours=1, minutes=30)), ("P1DT0.5S", dt.timedelta(1, 0.5)),
           ("-P1D", dt.timedelta(-1))], [90, None]),
    (f42, [("/tmp/x", pathlib.Path("/tmp/x"))], [1]),
    (f43, [("12345678-1234-5678-1234-567812345678",
            uuid.UUID("12345678-1234-5678-1234-567812345678"))], [5]),
    (f44, [("1.10", decimal.Decimal("1.10")), (2, decimal.Decimal(2))], ["x", True, None]),
    (f45, [("10.0.0.1", ipaddress.IPv4Address("10.0.0.1"))], [1]),
    (f46, [("^a+$", re.compile("^a+$"))], [1]),
    (f47, [(1, 1)], ["1"]),
    (f48, [(1, 1), (10, 10)], [0, 11, "5"]),
    (f49, [("ab", "ab")], ["a", "abcd", "AB"]),
    (f50, [([1], [1])], [[], [1, 2, 3], ["1"]]),
    (f51, [(0.5, 0.5)], [0, 1, 2]),
    (f52, [(10, 10)], [11]),
    (f53, [("x", "x")], [1]),
    (f54, [(1, 1)], [0]),
    (f55, [(ABSENT, 5), (1, 1)], [6, None]),
    (f56, [(7, 7)], ["7"]),
    (f57, [(7, 7)], ["7"]),
    (f58, [(["a"], ["a"])], ["a", [1]]),
    (f59, [({"a": 1}, {"a": 1})], [{"a": "1"}]),
    (f60, [([1, 2], collections.deque([1, 2]))], [["1"]]),
    (f61, [({"a": 2}, collections.Counter(a=2))], [{"a": "2"}]),
    (f62, [({"a": [1]}, collections.defaultdict(None, {"a": [1]}))], [{"a": 1}]),
    (f63, [([{"x": 1}, None], [Point(1.0), None])], [[1], [{"y": 1}]]),
    (f64, [({"red": [[1, {"title": "t"}]]}, {Colour.RED: [(1, {"title": "t"})]})],
     [{"blue": []}, {"red": [[1, {}]]}]),
    (f65, [({"x": 1}, Point(1.0)), ({"title": "t"}, {"title": "t"}), ("s", "s")], [1, {"z": 1}]),
    (f66, [("2026-01-31", dt.date(2026, 1, 31)),
           ("2026-01-31T00:00:00", dt.datetime(2026, 1, 31))], [1]),
    (f67, [([{"name": "n"}], [User(name="n")])], [[{}], {}]),
    (f68, [("x", "X")], [1]),
    (f69, [(3, 3), (None, None), (ABSENT, None)], [2, "3"]),
    (f70, [({"a": [1]}, {"a": [1]})], [[1]]),
    (f71, [(1, 1)], ["1", ABSENT]),
    (f72, [(1, 1)], ["1", ABSENT]),
    (f73, [([{"a": 1}], [{"a": 1}])], [[{"a": "1"}]]),
    (f74, [([1], [1])], [["1"], 1]),
    (f75, [(1, 1), (ABSENT, None), (None, None)], ["1"]),
    (f76, [("x", "x"), (ABSENT, "text")], [1]),
    (f77, [(0, 0), (5, 5)], [-1, 6]),
    (f78, [({"2026-01-31": 1}, {dt.date(2026, 1, 31): 1})], [{"2026-01-31": "1"}]),
    (f79, [("2026-01-31", dt.date(2026, 1, 31))], [1]),
    (f80, [("aGk=", bytearray(b"hi"))], [1]),
]

# What a JSON Schema cannot say (`format` and `contentEncoding` are notes), and we check.
BEYOND_SCHEMA: list[tuple[Any, Any]] = [
    (f37, "no base64!"), (f38, "2026-01-31"), (f38, "soon"), (f39, "2026-13-01"), (f39, "20260131"),
    (f40, "noon"), (f41, "P"), (f41, "1h"), (f43, "x"), (f45, "10.0.0.256"), (f46, "("),
    (f25, {"depth": 7}), (f66, "yesterday"), (f78, {"x": 1}), (f79, "2025-12-31"),
    (f31, {"url": "nope"}),
]
