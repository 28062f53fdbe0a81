"""The host as clients see it: what a plugin may do, and that nothing it does ends the host."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import HERE
from raw import Raw, raw

BEHAVIOURS = ("--file", str(HERE / "plugins/behaviours.py"))


@pytest.fixture
def server(era: str) -> Any:
    with raw(*BEHAVIOURS) as server:
        yield server.open(era)


def test_only_the_protocol_is_on_stdout(server: Raw) -> None:
    # Raw fails on a line that is no JSON.
    assert server.text("prints") == "no input"
    for said in ("while it is imported", "from print", "from fd 1", "from C", "from a child"):
        server.wait_log(said)


def test_plain_functions_run_at_the_same_time(server: Raw) -> None:
    ids = [server.start("tools/call", name="meet") for _ in range(4)]
    values = {server.answer(id)["result"]["structuredContent"]["result"] for id in ids}
    assert values == {0, 1, 2, 3}


def test_async_functions_run_at_the_same_time(server: Raw) -> None:
    waiting = server.start("tools/call", name="wait_gate")
    assert server.text("open_gate") == "open"
    assert server.answer(waiting)["result"]["content"][0]["text"] == "through"


def test_an_endless_loop_holds_up_nobody(server: Raw) -> None:
    ids = [server.start("tools/call", name="forever") for _ in range(3)]
    server.wait_log("forever began")
    assert server.text("add", a=1, b=2) == "3.0"
    assert server.call("later")["result"]["content"][0]["text"] == "7"
    for id in ids:
        server.notify("notifications/cancelled", requestId=id)
    assert server.text("add", a=1, b=2) == "3.0"
    assert server.close() == 0


@pytest.mark.parametrize(("name", "word"), [("until_cancelled", "sync"),
                                            ("async_until_cancelled", "async")])
def test_a_cancellation_reaches_the_function_and_nothing_is_answered(
    server: Raw, name: str, word: str
) -> None:
    id = server.start("tools/call", name=name)
    server.wait_log(f"{word} began")
    server.notify("notifications/cancelled", requestId=id, reason="test")
    server.wait_log(f"{word} cancelled")
    # Whatever it had to say would come before the answer to the next call.
    assert server.text("add", a=1, b=2) == "3.0"
    assert server.others() == []


FAILURES = [
    ("fails", {}, "plugin behaviours, function fails: ValueError: it broke (behaviours.py, line "),
    ("fails", {"message": "x" * 10000}, "ValueError: xxx"),
    ("tells", {}, "the disk is full; free some space"),
    ("exits", {}, "plugin behaviours, function exits called sys.exit(3)"),
    ("async_exits", {}, "plugin behaviours, function async_exits called sys.exit(4)"),
    ("interrupts", {}, "plugin behaviours, function interrupts: KeyboardInterrupt"),
    ("gives", {"what": "nan"}, "function gives returned what cannot be sent: nan is no JSON"),
    ("gives", {"what": "object"}, "function gives returned what cannot be sent: a object has no form"),
    ("gives", {"what": "function"}, "a function has no form in JSON"),
    ("gives", {"what": "half"}, "function gives returned half a character"),
    ("gives", {"what": "deep"}, "nested more than 200 deep"),
    ("gives", {"what": "nope"}, "function gives: KeyError: 'nope'"),
    ("text_of", {"size": 9 << 20}, "function text_of: its result is larger than 8 MiB"),
    ("wrong_result", {}, "function wrong_result returned a result that is not as it says: "
                         'expected an integer, got "three"'),
    ("add", {"a": 1}, "invalid arguments for add: b: is missing"),
    ("add", {"a": 1, "b": 2, "aa": 1}, 'there is no "aa" (did you mean "a"?)'),
    ("add", {"a": "1", "b": True}, 'a: expected a number, got "1"; b: expected a number, got true'),
]


def test_failures_name_plugin_and_function_and_the_host_lives(server: Raw) -> None:
    for name, arguments, message in FAILURES:
        result = server.call(name, **arguments)["result"]
        assert result["isError"] is True, name
        assert message in result["content"][0]["text"]
        assert len(result["content"][0]["text"]) < 5000
    assert server.text("add", a=1, b=2) == "3.0"


def test_endless_and_huge_results() -> None:
    with raw(*BEHAVIOURS, "--max-line", "1M") as server:
        server.open("legacy")
        for name in ("endless", "gibibyte"):
            said = server.text(name)
            assert said == f"plugin behaviours, function {name}: its result is larger than 1 MiB, " \
                           "the most in one message"
        assert server.text("add", a=1, b=2) == "3.0"


def test_what_is_left_behind_ends_nothing(server: Raw) -> None:
    assert server.text("forks") == "0"
    leaving = server.start("tools/call", name="leaves_a_task_that_exits")
    server.wait_log("a task ended with SystemExit(5)")
    assert server.text("later") == "7"
    assert server.call("async_counts")["result"]["content"][0]["text"] == "counted"
    assert server.answer(leaving)["result"]["content"][0]["text"] == "here"


def test_results_of_all_kinds(server: Raw) -> None:
    assert server.call("nothing")["result"]["content"] == []
    assert server.call("picture")["result"]["content"] == [
        {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"}
    ]
    result = server.call("add", a=0.1, b=0.2)["result"]
    assert result["structuredContent"] == {"result": 0.1 + 0.2}
    big = server.text("text_of", size=7 << 20)
    assert len(big) == 7 << 20
    assert server.text("client_name") == "raw False"


def test_a_death_is_the_hosts_own(server: Raw) -> None:
    server.start("tools/call", name="dies")
    assert server.next() is None
    assert server.process.wait(20) == 9


def test_progress_and_log(era: str) -> None:
    with raw(*BEHAVIOURS) as server:
        server.open(era)
        meta: dict[str, Any] = {"progressToken": "p"}
        server.request("tools/call", name="counts", arguments={"n": 3}, _meta=meta)
        seen = server.others()
        progress = [m["params"] for m in seen if m["method"] == "notifications/progress"]
        assert progress == [
            {"progressToken": "p", "progress": i, "total": 3, "message": f"step {i}"}
            for i in (1, 2, 3)
        ]
        logs = [m["params"] for m in seen if m["method"] == "notifications/message"]
        info = {"level": "info", "logger": "behaviours", "data": {"n": 3}}
        error = {"level": "error", "logger": "own", "data": "an error message"}
        # The modern era: only who asks for log messages gets them.
        assert logs == ([info, error] if era == "legacy" else [])
        if era == "legacy":
            server.request("logging/setLevel", level="error")
            server.call("counts", n=0)
        else:
            level = {"io.modelcontextprotocol/logLevel": "error"}
            server.request("tools/call", name="counts", arguments={"n": 0}, _meta=level)
        assert [m["params"] for m in server.others()] == [error]
        server.request("tools/call", name="async_counts", _meta={"progressToken": 7})
        steps = [m["params"].get("progress") for m in server.others()]
        assert steps[:2] == [1, 2]


def test_the_list(server: Raw, era: str) -> None:
    result = server.request("tools/list")["result"]
    by_name = {tool["name"]: tool for tool in result["tools"]}
    assert next(iter(by_name)) == "add", "in the order in which they are written"
    assert by_name["add"] == {
        "name": "add", "title": "Adder", "description": "Add two numbers",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"], "additionalProperties": False,
        },
        "outputSchema": {
            "type": "object", "properties": {"result": {"type": "number"}}, "required": ["result"],
        },
        "annotations": {"readOnlyHint": True},
    }
    assert "ctx" not in json.dumps(result["tools"])
    if era == "legacy":
        assert set(result) == {"tools"}
    else:
        assert result["resultType"] == "complete"
        assert (result["cacheScope"], result["ttlMs"] >= 0) == ("public", True)
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "plugins"
