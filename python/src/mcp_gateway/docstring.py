"""What a docstring says of a function and of its parameters: Google, NumPy and Sphinx styles.

Gives the text without the parts about parameters, which go into the schema, and never fails: what
is not understood stays text. Not a renderer of markup.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_PARAMETERS = {
    "args", "arguments", "parameters", "params", "keyword args", "keyword arguments",
    "other parameters", "attributes",
}
_RETURNS = {"returns", "return", "yields"}
_OTHER = {
    "raises", "warns", "examples", "example", "notes", "note", "see also", "references",
    "warnings", "warning", "todo", "receives", "tip", "hint",
}
_SECTIONS = _PARAMETERS | _RETURNS | _OTHER

_GOOGLE = re.compile(r"^([A-Za-z][A-Za-z ]*):\s*$")
_GOOGLE_ITEM = re.compile(r"^(\*{0,2}\w+)\s*(?:\(.*?\))?\s*:(?:\s+|$)(.*)$")
_NUMPY_ITEM = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX = re.compile(
    r"^:(param|parameter|arg|argument|key|keyword|ivar|var|attr)\s+(?:[^:]*?\s)?(\*{0,2}\w+)\s*:\s*(.*)$"
)
_SPHINX_RETURNS = re.compile(r"^:returns?\s*:\s*(.*)$")
_SPHINX_OTHER = re.compile(r"^:(type|rtype|vartype)\b[^:]*:")


@dataclass
class Docstring:
    text: str = ""
    """All of it but what says something of parameters and the result."""
    parameters: dict[str, str] = field(default_factory=dict)
    returns: str = ""

    @property
    def summary(self) -> str:
        return self.text.split("\n\n")[0].replace("\n", " ").strip()


def parse(raw: str | None) -> Docstring:
    lines = inspect.cleandoc(raw or "").split("\n")
    doc = Docstring()
    kept: list[str] = []
    i = 0
    while i < len(lines):
        line = lines[i]
        if (google := _GOOGLE.match(line)) and google[1].lower() in _SECTIONS:
            body, after = _indented(lines, i + 1)
            if _take_google(google[1].lower(), body, doc):
                i = after
                continue
        elif _is_underlined(lines, i) and line.strip().lower() in _SECTIONS:
            body, after = _until_section(lines, i + 2)
            if _take_numpy(line.strip().lower(), body, doc):
                i = after
                continue
        elif line.startswith(":"):
            after = _take_sphinx(lines, i, doc)
            if after > i:
                i = after
                continue
        kept.append(line)
        i += 1
    doc.text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return doc


def _joined(lines: list[str]) -> str:
    """A description over several lines as one, its paragraphs kept apart."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc("\n".join(lines)))
    return "\n\n".join(" ".join(part.split()) for part in paragraphs).strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _indented(lines: list[str], start: int) -> tuple[list[str], int]:
    """The lines from ``start`` on that are indented or empty."""
    end = start
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end])):
        end += 1
    return lines[start:end], end


def _is_underlined(lines: list[str], i: int) -> bool:
    return bool(lines[i].strip()) and i + 1 < len(lines) and bool(
        re.match(r"^-{3,}\s*$", lines[i + 1])
    )


def _until_section(lines: list[str], start: int) -> tuple[list[str], int]:
    end = start
    while end < len(lines) and not _is_underlined(lines, end):
        end += 1
    return lines[start:end], end


def _items(body: list[str], pattern: re.Pattern[str]) -> list[tuple[str, list[str]]]:
    """The entries of a section: each its name, and the lines that describe it."""
    filled = [line for line in body if line.strip()]
    least = min((_indent(line) for line in filled), default=0)
    items: list[tuple[str, list[str]]] = []
    for line in body:
        match = pattern.match(line.strip()) if line.strip() and _indent(line) == least else None
        if match:
            first = match[2] if pattern is _GOOGLE_ITEM else ""
            items.append((match[1], [first] if first else []))
        elif items:
            items[-1][1].append(line)
    return items


def _put(doc: Docstring, names: str, lines: list[str]) -> None:
    head, rest = lines[:1], lines[1:]
    text = _joined([*(line.strip() for line in head), "\n".join(rest)]) if rest else _joined(head)
    text = " ".join(text.split("\n")) if "\n\n" not in text else text
    for name in names.split(","):
        if text:
            doc.parameters[name.strip().lstrip("*")] = text


def _take_google(section: str, body: list[str], doc: Docstring) -> bool:
    if section in _PARAMETERS:
        items = _items(body, _GOOGLE_ITEM)
        for name, lines in items:
            _put(doc, name, lines)
        return bool(items)
    if section in _RETURNS:
        text = _joined(body)
        # `int: the sum` names the type, which the hint says already.
        doc.returns = re.sub(r"^[\w.\[\], |]+:\s+", "", text) if text else ""
        return bool(text)
    return False


def _take_numpy(section: str, body: list[str], doc: Docstring) -> bool:
    if section in _PARAMETERS:
        items = _items(body, _NUMPY_ITEM)
        for names, lines in items:
            _put(doc, names, lines)
        return bool(items)
    if section in _RETURNS:
        described = [line for line in body if _indent(line)]
        doc.returns = _joined(described or body)
        return True
    return False


def _take_sphinx(lines: list[str], i: int, doc: Docstring) -> int:
    """Takes the field at ``i``; where it ends, or ``i`` if it is none of ours."""
    end = i + 1
    while end < len(lines) and lines[end].strip() and _indent(lines[end]):
        end += 1
    if match := _SPHINX.match(lines[i]):
        _put(doc, match[2], [match[3], *lines[i + 1 : end]])
        return end
    if match := _SPHINX_RETURNS.match(lines[i]):
        doc.returns = _joined([match[1], *(line.strip() for line in lines[i + 1 : end])])
        return end
    return end if _SPHINX_OTHER.match(lines[i]) else i
