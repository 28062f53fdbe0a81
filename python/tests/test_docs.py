"""The code in docs/plugins.md and README.md, as it stands there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, host, run_python
from raw import raw

DOCS = HERE.parents[1] / "docs/plugins.md"
README = HERE.parent / "README.md"


def code(path: Path) -> dict[str, str]:
    """Blocks by the file name in their first line."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    return {re.match(r"# (\S+)\n", block)[1]: block for block in blocks}  # type: ignore[index]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in code(DOCS).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_notes(folder: Path) -> None:
    notes = folder / "kept"
    with raw("--file", str(folder / "notes.py"), env={"NOTES": str(notes)}) as server:
        server.open("legacy")
        assert "there is no folder" in server.text("notes_add", note="a", text="x")
        notes.mkdir()
        assert server.text("notes_add", note="a", text="Buy green tea") == "added to a"
        found = server.call("notes_search", words="TEA green")["result"]["structuredContent"]
        assert found == {"result": [{"note": "a", "line": 1, "text": "Buy green tea"}]}
        assert server.call("notes_search", words="tea", since="2999-01-01")["result"][
            "structuredContent"] == {"result": []}
        refused = server.text("notes_add", note="../x", text="x")
        assert refused.startswith("invalid arguments for notes_add: note: must match")


def test_checksums(folder: Path) -> None:
    (folder / "few").mkdir()
    (folder / "few/a").write_text("a")
    with raw("--file", str(folder / "checksums.py")) as server:
        server.open("legacy", {"elicitation": {}})
        arguments: Any = {"folder": str(folder / "few")}
        answer = server.request(
            "tools/call", name="checksums", arguments=arguments, _meta={"progressToken": 1}
        )
        assert answer["result"]["structuredContent"] == {"a": hashlib.sha256(b"a").hexdigest()}
        assert [m["params"]["message"] for m in server.others()] == ["a"]
        (folder / "many").mkdir()
        for number in range(1001):
            (folder / f"many/{number}").touch()
        call = server.start("tools/call", name="checksums", arguments={"folder": str(folder / "many")})
        question = server.next()
        assert question["params"]["message"] == "Read 1001 files?"
        server.send({"jsonrpc": "2.0", "id": question["id"],
                     "result": {"action": "accept", "content": {"value": False}}})
        assert server.answer(call)["result"]["structuredContent"] == {}


def test_chart(folder: Path) -> None:
    with raw("--file", str(folder / "chart.py")) as server:
        server.open("legacy")
        [block] = server.call("bar_chart", values=[1, 2], height=20)["result"]["content"]
        data = base64.b64decode(block["data"])
        assert data.startswith(b"\x89PNG") and data[16:24] == (24).to_bytes(4, "big") + (20).to_bytes(4, "big")
        size = int.from_bytes(data[33:37], "big")
        assert len(zlib.decompress(data[41 : 41 + size])) == 20 * (1 + 24 * 3)
        assert "must be at least 20" in server.text("bar_chart", values=[1], height=1)
    assert run_python("-m", "pytest", "-q", "test_chart.py", cwd=folder).returncode == 0


def test_program(folder: Path, gateway_binary: str) -> None:
    with raw(command=[sys.executable, str(folder / "program.py")]) as server:
        server.open("legacy")
        assert server.text("word_count", text="a b c") == "3"


def test_all_of_them_are_tested() -> None:
    assert set(code(DOCS)) == {"notes.py", "checksums.py", "chart.py", "program.py", "test_chart.py"}


def test_the_readmes_example(tmp_path: Path) -> None:
    block = re.search(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "my_tools.py").write_text(block[1])  # type: ignore[index]
    done = run_python(*host("--list", "--file", str(tmp_path / "my_tools.py"))[1:])
    assert [t["definition"]["name"] for t in json.loads(done.stdout)["tools"]] == ["add"]
