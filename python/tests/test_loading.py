"""Where plugins come from, and what is told of those that cannot be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, run_python
from raw import raw


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def listed(*arguments: str, status: int | None = None, **options: Any) -> Any:
    done = run_python("-m", "mcp_gateway.host", "--list", *arguments, **options)
    if status is not None:
        assert done.returncode == status, done.stderr
    return {**json.loads(done.stdout), "log": done.stderr}


def names(found: Any) -> list[str]:
    return [tool["definition"]["name"] for tool in found["tools"]]


GOOD = "from mcp_gateway import tool\n@tool\ndef {0}() -> int:\n    return 1\n"


def test_modules_files_and_folders_in_the_order_given(tmp_path: Path) -> None:
    write(tmp_path / "a", pack__inner=GOOD.format("inner"))
    write(tmp_path / "b", one=GOOD.format("one"), two="import one\n" + GOOD.format("two"),
          _private=GOOD.format("private"), test_one=GOOD.format("tested"), conftest="1/0")
    write(tmp_path / "c", alone=GOOD.format("alone"))
    found = listed(
        "--file", str(tmp_path / "c/alone.py"), "--module", "pack.inner",
        "--dir", str(tmp_path / "b"), "--search", str(tmp_path / "a"), status=0,
    )
    assert names(found) == ["alone", "inner", "one", "two"]
    assert [t["plugin"] for t in found["tools"]] == ["alone", "pack.inner", "one", "two"]
    files = [str(Path(file).relative_to(tmp_path)) for file in found["files"]]
    assert files == ["a/pack/inner.py", "b/one.py", "b/two.py", "c/alone.py"]


def test_pythonpath_and_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.format("mine"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert names(listed("--module", "mine", env=environment, cwd="/")) == ["mine"]
    assert names(listed("--module", "mine", cwd=str(tmp_path))) == ["mine"]


def test_files_of_one_name_and_of_a_known_modules_name(tmp_path: Path) -> None:
    write(tmp_path / "a", same=GOOD.format("first"), json=GOOD.format("own_json"))
    write(tmp_path / "b", same=GOOD.format("second"))
    found = listed(
        "--file", str(tmp_path / "a/same.py"), "--file", str(tmp_path / "b/same.py"),
        "--file", str(tmp_path / "a/json.py"), status=0,
    )
    assert names(found) == ["first", "second", "own_json"]


BROKEN = {
    "syntax": ("x = 1\ndef f(:\n    pass\n", 2, "SyntaxError: "),
    "missing": ("import json\nimport no_such_module_at_all\n", 2,
                "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "raises": ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError: division by zero"),
    "leaves": ("import sys\n\nsys.exit(4)\n", 3, "calls sys.exit(4) when it is imported"),
    "interrupts": ("raise SystemExit\n", 1, "calls sys.exit(None) when it is imported"),
    "generator": ("raise GeneratorExit\n", 1, "GeneratorExit: "),
}


def test_what_cannot_be_imported_is_told_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, zz_good=GOOD.format("good"), **{k: text for k, (text, _, _) in BROKEN.items()})
    found = listed("--dir", str(tmp_path), "--module", "nowhere.to_be_found", status=1)
    assert names(found) == ["good"]
    problems = {problem["plugin"]: problem for problem in found["problems"]}
    assert set(problems) == {*BROKEN, "nowhere.to_be_found"}
    for name, (_, line, message) in BROKEN.items():
        problem = problems[name]
        assert (problem["file"], problem["line"]) == (str(tmp_path / f"{name}.py"), line)
        assert problem["message"].startswith(message) and problem["function"] == ""
        place = f"mcp-gateway: {tmp_path / name}.py:{line}: plugin {name}: {message}"
        assert place.strip() in found["log"]
        assert str(tmp_path / f"{name}.py") in found["files"], "watched, so that a repair is seen"
    nowhere = problems["nowhere.to_be_found"]
    assert nowhere["message"].startswith("there is no module nowhere (looked in ")
    assert not Path(tmp_path / "nothing").exists()
    for kind in ("--file", "--dir"):
        missing = listed(kind, str(tmp_path / "nothing"), status=1)["problems"][0]
        assert missing["message"].startswith("there is no such ")


def test_a_function_that_cannot_be_a_tool_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path, mixed="""\
        from __future__ import annotations
        from mcp_gateway import tool

        class Thing: ...

        @tool
        def first(a: int) -> int:
            return a

        @tool
        def unresolved(a: NoSuchName) -> int:
            return 1

        @tool
        def opaque(a: Thing) -> int:
            return 1

        @tool(name="first")
        def clash() -> int:
            return 2

        @tool(name="not a name")
        def misnamed() -> int:
            return 2

        @tool
        def odd_default(a=Thing()) -> int:
            return 3

        @tool
        async def last() -> Thing:
            return 1
        """)
    found = listed("--file", str(tmp_path / "mixed.py"), status=1)
    assert names(found) == ["first", "odd_default"]
    problems = {p["function"]: (p["line"], p["message"]) for p in found["problems"]}
    assert problems == {
        "unresolved": (10, "a type hint cannot be read: name 'NoSuchName' is not defined"),
        "opaque": (14, "parameter a: Thing has no JSON Schema; use a dataclass, a TypedDict or a "
                       "pydantic model"),
        "clash": (18, 'the name "first" is taken by mixed.first; give it another'),
        "misnamed": (22, '"not a name" is no name for a tool; give it one (a tool\'s name is 1 to '
                         "128 of A-Z a-z 0-9 _ . -)"),
        "last": (30, "the result: Thing has no JSON Schema; use a dataclass, a TypedDict or a "
                     "pydantic model, or leave the hint out"),
    }


def test_every_way_to_mark_a_function(tmp_path: Path) -> None:
    write(tmp_path, ways="""\
        import functools
        from mcp_gateway import tool

        @tool
        def bare() -> int:
            "Bare."
            return 1

        @tool()
        def called() -> int:
            return 1

        @tool("Described", "renamed")
        def positional() -> int:
            return 1

        def add(a: int, b: int) -> int:
            "Adds."
            return a + b

        add_one = tool(functools.partial(add, 1), ) if False else tool(name="add_one")(
            functools.partial(add, 1))

        class Counter:
            "Counts."
            def __init__(self): self.n = 0
            def __call__(self, by: int = 1) -> int:
                self.n += by
                return self.n
            def reset(self) -> int:
                "Resets."
                return 0

        counter = tool(name="counter")(Counter())
        reset = tool(Counter().reset)
        length = tool(description="Length")(len)

        def logged(f):
            @functools.wraps(f)
            def inner(*args, **kwargs):
                return f(*args, **kwargs)
            return inner

        @tool
        @logged
        def wrapped(x: int) -> int:
            return x
        twice = wrapped
        """)
    found = listed("--file", str(tmp_path / "ways.py"))
    by_name = {t["definition"]["name"]: t["definition"] for t in found["tools"]}
    assert list(by_name) == [
        "bare", "called", "renamed", "add_one", "counter", "reset", "len", "wrapped",
    ]
    assert by_name["bare"]["description"] == "Bare."
    assert by_name["renamed"]["description"] == "Described"
    assert by_name["add_one"]["description"] == "Adds."
    assert list(by_name["add_one"]["inputSchema"]["properties"]) == ["b"]
    assert by_name["counter"]["inputSchema"]["properties"]["by"] == {"type": "integer", "default": 1}
    assert by_name["reset"]["description"] == "Resets."
    assert by_name["wrapped"]["inputSchema"]["properties"] == {"x": {"type": "integer"}}


def test_problems_are_in_the_list_that_clients_get(tmp_path: Path) -> None:
    write(tmp_path, bad="1 / 0\n", good=GOOD.format("good"))
    with raw("--dir", str(tmp_path)) as server:
        result = server.open("legacy").request("tools/list")["result"]
        assert [tool["name"] for tool in result["tools"]] == ["good"]
        [problem] = result["_meta"]["mcp-gateway/plugins"]["problems"]
        assert problem == {
            "plugin": "bad", "function": "", "file": str(tmp_path / "bad.py"), "line": 1,
            "message": "ZeroDivisionError: division by zero",
        }


def test_the_handshake_waits_for_no_import(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path, slow=f"open({str(tmp_path / 'fifo')!r}).read()\n" + GOOD.format("slow"))
    with raw("--file", str(tmp_path / "slow.py")) as server:
        server.open("legacy")
        assert server.request("ping")["result"] == {}
        listing = server.start("tools/list")
        call = server.start("tools/call", name="slow")
        (tmp_path / "fifo").write_text("go")
        assert [t["name"] for t in server.answer(listing)["result"]["tools"]] == ["slow"]
        assert server.answer(call)["result"]["structuredContent"] == {"result": 1}


def test_a_plugin_that_hangs_while_it_is_imported_ends_with_its_client(tmp_path: Path) -> None:
    write(tmp_path, hangs="import threading\nthreading.Event().wait()\n")
    with raw("--file", str(tmp_path / "hangs.py")) as server:
        server.open("legacy")
        assert server.close() == 0


def test_wrong_use_is_told() -> None:
    for arguments, message in [
        ([], "name at least one --module, --file or --dir"),
        (["--module", "x", "--max-line", "0"], "0 is no size; write a number, 512K, 8M or 1G"),
    ]:
        done = run_python("-m", "mcp_gateway.host", *arguments)
        assert done.returncode == 2 and message in done.stderr


def test_it_starts_without_what_it_does_not_need() -> None:
    """Start-up time: a host without async functions or models loads neither asyncio nor pydantic."""
    script = "import sys, mcp_gateway.host, mcp_gateway.session, mcp_gateway.runner\n" \
             "print(*sorted({'asyncio', 'pydantic', 'logging', 'concurrent'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True,
                          env={"PYTHONPATH": str(HERE.parent / "src")}, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("thing", ["tool", "MCPGateway", "Context", "Image", "Field", "ToolError"])
def test_names_are_where_the_documents_say(thing: str) -> None:
    import mcp_gateway

    assert thing in mcp_gateway.__all__ and getattr(mcp_gateway, thing)
