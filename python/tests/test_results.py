"""What functions may return, and how clients get it."""

from __future__ import annotations

import base64
import datetime as dt
import enum
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema
import pydantic
import pytest
from signatures import Box, Colour, Movie, Options, Pair, Point, Tree, User

from mcp_gateway import Audio, Field, File, Image, Text, tool
from mcp_gateway.function import Function
from mcp_gateway.schema import Budget, Invalid, TooLarge, Unsupported

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def typed(hint: Any, value: Any) -> Any:
    def function() -> Any:
        return value

    function.__annotations__["return"] = hint
    return function


STRUCTURED: list[tuple[Any, Any, Any]] = [
    (int, 3, {"result": 3}),
    (float, 3, {"result": 3}),
    (bool, True, {"result": True}),
    (list[int], [1, 2], {"result": [1, 2]}),
    (list[int], (1, 2), {"result": [1, 2]}),
    (Iterator[int], iter([1, 2]), {"result": [1, 2]}),
    (set[str], {"b", "a"}, {"result": ["a", "b"]}),
    (tuple[int, str], (1, "a"), {"result": [1, "a"]}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
    (dict[int, int], {1: 1}, {"1": 1}),
    (dict, {"a": Point(1)}, {"a": {"x": 1, "y": 0.0}}),
    (int | None, None, {"result": None}),
    (Colour, Colour.RED, {"result": "red"}),
    (Literal["a", "b"], "a", {"result": "a"}),
    (Point, Point(1, 2), {"x": 1, "y": 2}),
    (list[Point], [Point(1)], {"result": [{"x": 1, "y": 0.0}]}),
    (Tree, Tree("a", [Tree("b")]), {"name": "a", "children": [{"name": "b", "children": []}]}),
    (Options, Options(tags={"t"}), {"depth": 3, "tags": ["t"]}),
    (Box[int], Box(1), {"item": 1}),
    (Movie, {"title": "t"}, {"title": "t"}),
    (Pair, Pair(1), {"left": 1, "right": "r"}),
    (User, User(name="n"), {"name": "n", "age": 0, "friends": []}),
    (list[User], [User(name="n")], {"result": [{"name": "n", "age": 0, "friends": []}]}),
    (Point | Movie, Point(1), {"result": {"x": 1, "y": 0.0}}),
    (bytes, b"hi", {"result": "aGk="}),
    (dt.datetime, dt.datetime(2026, 1, 2), {"result": "2026-01-02T00:00:00"}),
    (dt.timedelta, dt.timedelta(hours=1.5), {"result": "PT5400S"}),
    (Decimal, Decimal("1.10"), {"result": "1.10"}),
    (Path, Path("/x"), {"result": "/x"}),
    (Annotated[int, Field(ge=0, description="how many")], 3, {"result": 3}),
]


@pytest.mark.parametrize(("hint", "value", "expected"), STRUCTURED, ids=lambda v: str(v)[:40])
def test_a_hint_gives_a_schema_and_data_that_fits(hint: Any, value: Any, expected: Any) -> None:
    function = Function(typed(hint, value))
    schema = function.definition["outputSchema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object", "clients of before 2026-07-28 take nothing else"
    result = function.result(value, 1 << 20)
    assert result["structuredContent"] == expected
    jsonschema.Draft202012Validator(schema).validate(result["structuredContent"])
    data = expected["result"] if function.is_wrapped else expected
    said = result["content"][0]["text"]
    assert said == data if isinstance(data, str) else json.loads(said) == data


PLAIN: list[tuple[Any, Any]] = [
    (None, []),
    ("text", ["text"]),
    ({"a": [1, None]}, ['{"a": [1, null]}']),
    ("ümlaut", ["ümlaut"]),
    ([], ["[]"]),
    (Point(1), ['{"x": 1, "y": 0.0}']),
    (User(name="n"), ['{"name": "n", "age": 0, "friends": []}']),
    ([dt.date(2026, 1, 2), Colour.RED], ['["2026-01-02", "red"]']),
    ({"b", "a"}, ['["a", "b"]']),
    (Pair(1), ['{"left": 1, "right": "r"}']),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=str)
def test_without_a_hint_it_is_text(value: Any, expected: list[str]) -> None:
    function = Function(lambda: value, name="f")
    assert "outputSchema" not in function.definition
    result = function.result(value, 1 << 20)
    assert [block["text"] for block in result["content"]] == expected
    assert "structuredContent" not in result


def test_a_bare_str_is_text_unless_structure_is_asked_for() -> None:
    assert "outputSchema" not in Function(typed(str, "x")).definition
    wanted = Function(tool(structured=True)(typed(str, "x")))
    assert wanted.result("x", 99)["structuredContent"] == {"result": "x"}
    unwanted = Function(tool(structured=False)(typed(int, 1)))
    assert unwanted.result(1, 99) == {"content": [{"type": "text", "text": "1"}]}


class Loop:
    pass


LOOP: list[Any] = []
LOOP.append(LOOP)

REFUSED: list[tuple[Any, Any, str]] = [
    (int, "3", 'expected an integer, got "3"'),
    (float, math.nan, "nan is no JSON number"),
    (list[int], [1, None], r"\[1\]: expected an integer, got null"),
    (Point, {"x": 1}, "expected an object, got an object"),
    (Point, Point("x"), "x: expected a number"),
    (Movie, {}, "title: is missing"),
    (User, {"name": 1}, "got a Python dict"),
    (Annotated[int, Field(ge=0)], -1, "must be at least 0"),
    (dt.date, dt.datetime(2026, 1, 2), "expected a date"),
    (Any, math.inf, "inf is no JSON number"),
    (Any, Loop(), "a Loop has no form in JSON"),
    (Any, {"a": {1: [Loop()]}}, r"a.1\[0\]: a Loop has no form"),
    (Any, {(1, 2): 3}, "a tuple cannot be a key"),
    (Any, LOOP, "nested more than 200 deep, or holds itself"),
    (Any, 3j, "a complex has no form"),
]


@pytest.mark.parametrize(("hint", "value", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_what_does_not_fit_is_refused_with_its_place(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Function(typed(hint, value)).result(value, 1 << 20)


def forever() -> Iterator[int]:
    while True:
        yield 1


@pytest.mark.parametrize(
    ("hint", "value"),
    [(Any, "x" * 2000), (str, "x" * 2000), (list[int], range(2000)), (Any, ["x" * 500] * 4),
     (Iterator[int], forever()), (Any, forever()), (bytes, b"x" * 2000), (Any, 1 << 10000),
     (dict[str, str], {str(i): "" for i in range(2000)})],
    ids=lambda v: str(v)[:20],
)
def test_what_is_too_large_is_refused_while_it_is_read(hint: Any, value: Any) -> None:
    with pytest.raises(TooLarge):
        Function(typed(hint, value)).result(value, 1000)


def blocks(value: Any) -> list[dict[str, Any]]:
    return Function(lambda: value, name="f").result(value, 1 << 20)["content"]


def test_images_audio_and_files(tmp_path: Path) -> None:
    encoded = base64.b64encode(PNG).decode()
    image = {"type": "image", "data": encoded, "mimeType": "image/png"}
    assert blocks(Image(data=PNG)) == [image]
    assert blocks([Image(PNG, format="png"), "and", Text("text")]) == [
        image, {"type": "text", "text": "and"}, {"type": "text", "text": "text"},
    ]
    (tmp_path / "a b.jpg").write_bytes(PNG)
    assert blocks(Image(path=tmp_path / "a b.jpg"))[0]["mimeType"] == "image/jpeg"
    assert blocks(Audio(b"RIFF", format="wav"))[0]["mimeType"] == "audio/wav"
    (tmp_path / "n.txt").write_text("höhö")
    assert blocks(File(path=tmp_path / "n.txt"))[0]["resource"] == {
        "uri": (tmp_path / "n.txt").as_uri(), "mimeType": "text/plain", "text": "höhö",
    }
    assert blocks(File(b"\x00", name="x.bin"))[0]["resource"] == {
        "uri": "attachment:///x.bin", "mimeType": "application/octet-stream", "blob": "AA==",
    }
    assert blocks(File(b"\xff", name="x.txt"))[0]["resource"]["blob"] == "/w=="
    assert blocks(File(path=tmp_path / "a b.jpg", link=True)) == [{
        "type": "resource_link", "uri": (tmp_path / "a b.jpg").as_uri(), "name": "a b.jpg",
        "mimeType": "image/jpeg",
    }]
    with pytest.raises(ValueError, match="needs a name"):
        File(b"x")
    with pytest.raises(ValueError, match="either data or a path"):
        Image()
    with pytest.raises(TooLarge):
        Image(data=PNG).block(Budget(10))


@pytest.mark.parametrize("hint", [Image, list[Image], Image | None, list[str | File]])
def test_hints_of_content_have_no_schema(hint: Any) -> None:
    assert "outputSchema" not in Function(typed(hint, None)).definition


def test_a_recursive_class_is_defined_once_and_others_stand_where_they_are_used() -> None:
    schema = Function(typed(Tree, None)).definition["outputSchema"]
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert "$defs" not in Function(typed(list[Point], None)).definition["outputSchema"]


class Opaque:
    pass


@dataclass
class Holder:
    opaque: Opaque


class Undecided(enum.Enum):
    pass


def hinted(hint: Any) -> Any:
    def function(v: Any) -> None: ...

    function.__annotations__["v"] = hint
    return function


@pytest.mark.parametrize(
    ("hint", "message"),
    [(Opaque, "parameter v: .*Opaque has no JSON Schema; use a dataclass"),
     (Holder, "parameter v: Holder.opaque: .*Opaque has no JSON Schema"),
     (complex, "complex has no JSON Schema"), (Undecided, "has no members"),
     (Literal[b"x"], "is no JSON value"), ("Nowhere", "'Nowhere' is not defined"),
     (list["Nowhere"], "'?Nowhere'? is not defined|name \"Nowhere\""), (type[int], "no JSON Schema"),
     (pydantic.InstanceOf[Opaque], "v: ")],
    ids=str,
)
def test_a_hint_without_a_schema_is_an_error_that_names_it(hint: Any, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        Function(hinted(hint))


class Twin(NamedTuple):
    a: int


@dataclass
class Deep:
    twins: list[Twin] = field(default_factory=list)


def test_defaults_and_kinds_of_parameters() -> None:
    def function(
        a: int, /, b: int = 2, *rest: int, c: Deep = Deep([Twin(1)]), d: Any = object(), **more: int
    ) -> list[Any]:
        return [a, b, rest, c, more]

    made = Function(function)
    schema = made.definition["inputSchema"]
    assert schema["required"] == ["a"]
    assert schema["properties"]["c"]["default"] == {"twins": [{"a": 1}]}
    assert "default" not in schema["properties"]["d"], "JSON has no such value"
    assert schema["additionalProperties"] == {"type": "integer"}
    positional, keywords = made.bind({"a": 1, "rest": [3, 4], "z": 5})
    assert function(*positional, **keywords) == [1, 2, (3, 4), Deep([Twin(1)]), {"z": 5}]


def test_two_models_of_one_name_keep_apart() -> None:
    def make(kind: Any) -> Any:
        class Item(pydantic.BaseModel):
            v: kind
            inner: list[Item] = []

        Item.model_rebuild(_types_namespace={"Item": Item, "kind": kind})
        return Item

    one, two = make(int), make(str)

    def function(a: Any, b: Any) -> None: ...

    function.__annotations__ |= {"a": one, "b": two}
    schema = Function(function).definition["inputSchema"]
    judge = jsonschema.Draft202012Validator(schema)
    assert judge.is_valid({"a": {"v": 1}, "b": {"v": "x", "inner": [{"v": "y"}]}})
    assert not judge.is_valid({"a": {"v": 1}, "b": {"v": "x", "inner": [{"v": 1}]}})
