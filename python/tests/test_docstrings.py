"""Docstrings in three styles. griffe, the reference parser, is asked what the parameters are."""

from __future__ import annotations

import griffe
import pytest

from mcp_gateway.docstring import parse
from mcp_gateway.function import Function

GOOGLE = """Copy a file.

Longer text,
over two lines.

Args:
    source: where from
    target (str): where to,
        in a second line
    *more: others
    **options: how
        to do it

Returns:
    int: how many bytes

Raises:
    OSError: when it fails

Example:
    >>> copy("a", "b")
"""

NUMPY = """Copy a file.

Parameters
----------
source : str
    where from
target : str, optional
    where to,
    in a second line
a, b : int
    both

Returns
-------
int
    how many bytes

Notes
-----
Slow.
"""

SPHINX = """Copy a file.

:param source: where from
:param str target: where to,
    in a second line
:type source: str
:returns: how many bytes
:rtype: int
:raises OSError: when it fails
"""

PARAMETERS = {"source": "where from", "target": "where to, in a second line"}


def test_google() -> None:
    doc = parse(GOOGLE)
    assert doc.parameters == {**PARAMETERS, "more": "others", "options": "how to do it"}
    assert doc.returns == "how many bytes"
    assert doc.text.startswith("Copy a file.\n\nLonger text,\nover two lines.\n\nRaises:")
    assert doc.summary == "Copy a file."


def test_numpy() -> None:
    doc = parse(NUMPY)
    assert doc.parameters == {**PARAMETERS, "a": "both", "b": "both"}
    assert doc.returns == "how many bytes"
    assert doc.text == "Copy a file.\n\nNotes\n-----\nSlow."


def test_sphinx() -> None:
    doc = parse(SPHINX)
    assert doc.parameters == PARAMETERS
    assert doc.returns == "how many bytes"
    assert doc.text == "Copy a file.\n\n:raises OSError: when it fails"


@pytest.mark.parametrize(
    ("text", "style"), [(GOOGLE, "google"), (NUMPY, "numpy"), (SPHINX, "sphinx")], ids=str.strip
)
def test_griffe_finds_the_same(text: str, style: griffe.DocstringStyle) -> None:
    found = {}
    for section in griffe.Docstring(text).parse(style):
        if section.kind is griffe.DocstringSectionKind.parameters:
            for parameter in section.value:
                described = " ".join(parameter.description.split())
                for name in parameter.name.split(","):
                    found[name.strip().lstrip("*")] = described
    assert found == parse(text).parameters


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""), ("   ", ""), ("One line.", "One line."),
        ("Args:\n", "Args:"), ("Args: in the text", "Args: in the text"),
        ("Note: this.\n\nArgs are good.", "Note: this.\n\nArgs are good."),
        ("T.\n\nArgs:\nnot indented", "T.\n\nArgs:\nnot indented"),
        ("T.\n\nTable\n-----\nx", "T.\n\nTable\n-----\nx"),
        (":param", ":param"), (":param x", ":param x"),
    ],
)
def test_what_is_not_understood_stays(text: str, kept: str) -> None:
    doc = parse(text)
    assert (doc.text, doc.parameters) == (kept, {})


def test_descriptions_reach_the_schema() -> None:
    def copy(source: str, target: str = "x") -> int:
        return 0

    copy.__doc__ = GOOGLE
    definition = Function(copy).definition
    assert definition["description"].startswith("Copy a file.")
    properties = definition["inputSchema"]["properties"]
    assert properties["target"] == {
        "type": "string", "description": PARAMETERS["target"], "default": "x",
    }
    assert definition["outputSchema"]["properties"]["result"]["description"] == "how many bytes"
