"""Every row of ``signatures``: judged by a validator, then called by the official client."""

from __future__ import annotations

import json
from typing import Any

import anyio
import jsonschema
import pytest
import signatures
from conftest import client, host, text
from signatures import ABSENT, BEYOND_SCHEMA, TABLE

from mcp_gateway.function import Function, InvalidArguments

FUNCTIONS = {row[0].__name__: Function(row[0]) for row in TABLE}


def arguments(value: Any) -> dict[str, Any]:
    return {} if value is ABSENT else {"v": value}


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema.Draft202012Validator(schema)


def test_there_are_enough() -> None:
    assert len(TABLE) >= 60
    named = {name for name in vars(signatures) if name[:1] == "f" and name[1:].isdigit()}
    assert named == set(FUNCTIONS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].__name__)
def test_the_schema_says_what_is_taken(row: Any) -> None:
    function = FUNCTIONS[row[0].__name__]
    schema = function.definition["inputSchema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False)
    for value, expected in row[1]:
        validator(schema).validate(arguments(value))
        positional, keywords = function.bind(arguments(value))
        seen = positional[0] if positional else keywords.get("v", ABSENT)
        if seen is not ABSENT:
            assert (seen, type(seen)) == (expected, type(expected))
    for value in row[2]:
        assert not validator(schema).is_valid(arguments(value)), f"the schema takes {value!r}"
        with pytest.raises(InvalidArguments, match=r"^v"):
            function.bind(arguments(value))


@pytest.mark.parametrize("row", BEYOND_SCHEMA, ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_what_a_schema_cannot_say_is_checked_too(row: Any) -> None:
    function = FUNCTIONS[row[0].__name__]
    with pytest.raises(InvalidArguments, match=r"^v"):
        function.bind({"v": row[1]})


def shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def test_the_official_client_calls_every_one(era: str) -> None:
    async def main() -> int:
        calls = 0
        async with client(host("--module", "signature_plugin"), era) as connected:
            tools = {t.name: t for t in (await connected.list_tools()).tools}
            assert set(tools) == set(FUNCTIONS)
            for function, good, bad in TABLE:
                name = function.__name__
                assert tools[name].input_schema == FUNCTIONS[name].definition["inputSchema"]
                for value, expected in good:
                    result = await connected.call_tool(name, arguments(value))
                    assert not result.is_error, text(result)
                    if not isinstance(expected, (set, frozenset)):  # whose repr has no order
                        assert text(result) == shown(expected)
                    calls += 1
                for value in bad:
                    result = await connected.call_tool(name, arguments(value))
                    assert result.is_error, (name, value, text(result))
                    assert text(result).startswith(f"invalid arguments for {name}: v"), text(result)
                    calls += 1
        return calls

    assert anyio.run(main) > 200
