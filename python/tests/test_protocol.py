"""The protocol itself: openings, versions, malformed messages, limits, subscriptions, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, host
from raw import META, MODERN, Raw, raw

BEHAVIOURS = ("--file", str(HERE / "plugins/behaviours.py"))


@pytest.fixture
def server() -> Any:
    with raw(*BEHAVIOURS) as server:
        yield server


@pytest.mark.parametrize(
    ("asked", "given"),
    [(v, v) for v in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")]
    + [("2026-07-28", "2025-11-25"), ("1999-01-01", "2025-11-25"), (None, "2025-11-25")],
)
def test_initialize(server: Raw, asked: str | None, given: str) -> None:
    result = server.request("initialize", protocolVersion=asked, capabilities={})["result"]
    assert result["protocolVersion"] == given
    assert result["capabilities"] == {"tools": {"listChanged": True}, "logging": {}}
    assert result["serverInfo"]["name"] == "plugins"
    assert "resultType" not in result
    assert server.request("ping")["result"] == {}


def test_discover(server: Raw) -> None:
    result = server.request("server/discover", _meta=MODERN)["result"]
    assert result["supportedVersions"] == ["2026-07-28"]
    assert (result["resultType"], result["cacheScope"]) == ("complete", "public")
    assert result["_meta"][f"{META}serverInfo"]["name"] == "plugins"


def test_both_eras_on_one_pipe(server: Raw) -> None:
    server.request("server/discover", _meta=MODERN)
    server.open("legacy")
    assert "resultType" not in server.request("tools/list")["result"]
    assert server.request("tools/list", _meta=MODERN)["result"]["resultType"] == "complete"


OLD = {**MODERN, f"{META}protocolVersion": "2025-11-25"}
NO_CAPABILITIES = {f"{META}protocolVersion": "2026-07-28"}
BAD_LEVEL = {**MODERN, f"{META}logLevel": "loud"}

REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("tools/list", {}, -32602),
    ("server/discover", {}, -32602),
    ("tools/list", {"_meta": OLD}, -32022),
    ("tools/list", {"_meta": NO_CAPABILITIES}, -32602),
    ("tools/list", {"_meta": BAD_LEVEL}, -32602),
    ("tools/list", {"_meta": MODERN, "cursor": "x"}, -32602),
    ("tools/call", {"_meta": MODERN, "name": "nope"}, -32602),
    ("tools/call", {"_meta": MODERN, "name": 7}, -32602),
    ("tools/call", {"_meta": MODERN, "name": "add", "arguments": [1, 2]}, -32602),
    ("ping", {"_meta": MODERN}, -32601),
    ("logging/setLevel", {"_meta": MODERN, "level": "info"}, -32601),
    ("resources/list", {"_meta": MODERN}, -32601),
    ("no/such", {"_meta": MODERN}, -32601),
]


@pytest.mark.parametrize(("method", "params", "code"), REFUSED, ids=str)
def test_requests_that_are_refused(server: Raw, method: str, params: Any, code: int) -> None:
    error = server.request(method, **params)["error"]
    assert error["code"] == code, error
    if code == -32022:
        assert error["data"] == {"supported": ["2026-07-28"], "requested": "2025-11-25"}


LINES: list[tuple[bytes, Any, int]] = [
    (b"no json", None, -32700),
    (b"\xff\xfe", None, -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', None, -32700),
    (b"[" * 100000, None, -32700),
    (b"[]", None, -32600),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None, -32600),
    (b"7", None, -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, -32600),
    (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, -32600),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None, -32600),
    (b'{"jsonrpc":"2.0","id":"s","method":7}', "s", -32600),
    (b'{"jsonrpc":"2.0","id":"s","method":"ping","params":[]}', "s", -32600),
    (b'{"jsonrpc":"2.0","id":"s"}', "s", -32600),
    (b'{"jsonrpc":"2.0","id":1' + b" " * (9 << 20) + b"}", None, -32600),
]


@pytest.mark.parametrize(("line", "id", "code"), LINES, ids=lambda v: str(v)[:40])
def test_lines_that_are_no_requests(server: Raw, line: bytes, id: Any, code: int) -> None:
    server.send(line)
    answer = server.next()
    assert answer.get("id") == id and answer["error"]["code"] == code
    assert server.open("legacy").text("add", a=1, b=2) == "3.0"


IGNORED = [
    {"jsonrpc": "2.0", "method": "notifications/unknown"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": [1]}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": []},
    {"jsonrpc": "2.0", "id": 99, "result": {}},
    {"jsonrpc": "2.0", "id": "x", "error": {}},
    {"jsonrpc": "2.0", "id": {}, "result": {}},
]


def test_what_is_ignored(server: Raw) -> None:
    server.open("legacy")
    for message in IGNORED:
        server.send(message)
    server.send(b"")
    assert server.text("add", a=1, b=2) == "3.0" and server.others() == []


def test_ids_of_every_kind_come_back_as_they_were(server: Raw) -> None:
    server.open("legacy")
    for id in ("1", 1, 0, -5, "", 2**63, "ü\n"):
        server.send({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                     "params": {"name": "add", "arguments": {"a": 1, "b": 1}}})
        answer = server.next()
        assert (answer["id"], type(answer["id"])) == (id, type(id))


def test_an_id_in_use_is_refused(server: Raw) -> None:
    server.open("legacy")
    id = server.start("tools/call", name="until_cancelled")
    server.wait_log("sync began")
    server.send({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "add"}})
    assert server.next()["error"]["code"] == -32600


def test_calls_beyond_the_threads_are_refused() -> None:
    with raw(*BEHAVIOURS, "--threads", "2") as server:
        server.open("legacy")
        ids = [server.start("tools/call", name="until_cancelled") for _ in range(2)]
        said = server.text("add", a=1, b=2)
        assert said == "plugin behaviours, function add: 2 functions are running, which is all at once"
        for id in ids:
            server.notify("notifications/cancelled", requestId=id)
        while "all at once" in server.text("add", a=1, b=2):
            pass
        assert server.text("add", a=1, b=2) == "3.0"


def test_a_subscription_is_acknowledged_and_ends_with_its_cancellation(server: Raw) -> None:
    server.open("2026-07-28")
    id = server.start("subscriptions/listen", notifications={
        "toolsListChanged": True, "promptsListChanged": True,
    })
    message = server.next()
    assert message["method"] == "notifications/subscriptions/acknowledged"
    assert message["params"] == {
        "_meta": {f"{META}subscriptionId": id}, "notifications": {"toolsListChanged": True},
    }
    server.notify("notifications/cancelled", requestId=id)
    assert server.text("add", a=1, b=2) == "3.0" and server.others() == []


def test_a_client_that_reads_late_gets_everything(server: Raw) -> None:
    """A pipe holds 64 KiB; what does not fit waits, and no function waits with it."""
    server.open("legacy")
    ids = [server.start("tools/call", name="text_of", arguments={"size": 1 << 20}) for _ in range(20)]
    assert all(len(server.answer(id)["result"]["content"][0]["text"]) == 1 << 20 for id in ids)


def test_it_ends_with_its_input_whatever_still_runs(server: Raw) -> None:
    server.open("legacy")
    server.start("tools/call", name="forever")
    server.start("tools/call", name="async_until_cancelled")
    server.start("tools/call", name="until_cancelled")
    for said in ("forever began", "async began", "sync began"):
        server.wait_log(said)
    began = time.monotonic()
    assert server.close() == 0
    assert time.monotonic() - began < 3
    assert "async cancelled" in server.log and "sync cancelled" in server.log


def test_it_ends_with_its_parent_though_its_input_stays_open(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    out_reader, out_writer = os.pipe()
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({host(*BEHAVIOURS)!r}, stdin={reader}, stdout={out_writer}, "
        f"pass_fds=({reader},))\nprint(child.pid, flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=(reader, out_writer),
    )
    os.close(out_writer)
    pid = int(parent.stdout.readline())  # type: ignore[union-attr]
    os.write(writer, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode() + b"\n")
    assert b'"result":{}' in os.read(out_reader, 1000)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    # The end of its output is the end of the host: nobody else holds it.
    assert os.read(out_reader, 1000) == b""
    for fd in (reader, writer, out_reader):
        os.close(fd)
    assert pid > 0
