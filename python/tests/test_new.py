"""``python -m mcp_gateway.new``: what it writes works as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_python
from raw import raw

from mcp_gateway.new import create


def test_the_new_plugin_is_served_and_its_test_passes(tmp_path: Path) -> None:
    done = run_python("-m", "mcp_gateway.new", "my_notes", "--dir", str(tmp_path))
    assert done.returncode == 0 and "load it:" in done.stdout, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_notes.py", "test_my_notes.py"]
    tested = run_python("-W", "error", "-m", "unittest", "-v", cwd=tmp_path)
    assert tested.returncode == 0 and "Ran 3 tests" in tested.stderr, tested.stderr
    assert run_python("-m", "pytest", "-q", cwd=tmp_path).returncode == 0
    with raw("--file", str(tmp_path / "my_notes.py")) as server:
        server.open("legacy")
        tools = {t["name"]: t for t in server.request("tools/list")["result"]["tools"]}
        assert list(tools) == ["my_notes_count", "my_notes_greet"]
        count = tools["my_notes_count"]
        assert count["description"] == "Count how often a word is in a text."
        assert count["inputSchema"]["properties"]["word"]["description"] == "what to look for"
        assert server.text("my_notes_greet", name="Ada") == "Hello, Ada!"


@pytest.mark.parametrize("name", ["a b", "1a", "class", "json", "x" * 50, "ü", "", "mcp_gateway"])
def test_names_that_are_no_modules(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be a module|is the name of a module"):
        create(name, tmp_path)
    assert run_python("-m", "mcp_gateway.new", name, "--dir", str(tmp_path)).returncode == 64
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    create("mine", tmp_path)
    (tmp_path / "mine.py").write_text("mine")
    (tmp_path / "test_mine.py").unlink()
    again = run_python("-m", "mcp_gateway.new", "mine", "--dir", str(tmp_path))
    assert again.returncode == 73 and "exists already" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
