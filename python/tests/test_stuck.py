"""What happens after a while: stuck functions, clients that do not come back. In this process,
where the while can be made short."""

from __future__ import annotations

import functools
import json
import os
import queue
import threading
from typing import Any

import pytest
from raw import META, PATIENCE

from mcp_gateway import Context, call, parking
from mcp_gateway.function import Function
from mcp_gateway.runner import Runner, Threads
from mcp_gateway.session import Session
from mcp_gateway.toolset import ToolSet
from mcp_gateway.wire import Output, TooLong, lines


class Fake:
    """An output that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: queue.Queue[Any] = queue.Queue()

    def write(self, line: bytes, *, notice: bool = False) -> None:
        self.sent.put(json.loads(line))

    def next(self) -> Any:
        return self.sent.get(timeout=PATIENCE)


class Here:
    def __init__(self, *functions: Any) -> None:
        tools = ToolSet()
        for function in functions:
            tools.add(Function(function, plugin="here"))
        self.output = Fake()
        self.runner = Runner(limit=4)
        self.session = Session(
            tools, self.runner, self.output,  # type: ignore[arg-type]
            name="t", version="1", limit=1 << 20,
        )

    def send(self, method: str, id: Any = None, **params: Any) -> None:
        meta = {
            f"{META}protocolVersion": "2026-07-28",
            f"{META}clientCapabilities": {"elicitation": {}},
        }
        message = {"jsonrpc": "2.0", "method": method, "params": {"_meta": meta, **params}}
        if id is not None:
            message["id"] = id
        self.session.receive(json.dumps(message).encode())


def test_a_loop_that_ignores_its_cancellation_is_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(call, "STUCK", 0.02)
    ended = threading.Event()
    began = threading.Event()

    def loop() -> None:
        began.set()
        try:
            while True:
                pass
        finally:
            ended.set()

    def fine() -> int:
        return 1

    here = Here(loop, fine)
    here.send("tools/call", id=1, name="loop")
    assert began.wait(PATIENCE)
    here.send("notifications/cancelled", requestId=1)
    assert ended.wait(PATIENCE)
    here.send("tools/call", id=2, name="fine")
    assert here.output.next()["id"] == 2 and here.output.sent.empty()


def test_a_function_that_ends_in_time_is_not_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(call, "STUCK", 0.0)
    for _ in range(50):
        release = threading.Event()

        here = Here(functools.partial(release.wait, PATIENCE))
        here.send("tools/call", id=1, name="wait")
        here.send("notifications/cancelled", requestId=1)
        release.set()
        here.send("tools/call", id=2, name="wait")
        assert here.output.next()["id"] == 2


def test_a_client_that_does_not_come_back_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(parking, "SECONDS", 0.02)
    gone = threading.Event()

    def asks(ctx: Context) -> str:
        try:
            return str(ctx.elicit("Anyone?").result())
        finally:
            assert ctx.cancelled
            gone.set()

    here = Here(asks)
    here.send("tools/call", id=1, name="asks")
    question = here.output.next()["result"]
    assert gone.wait(PATIENCE)
    here.send("tools/call", id=2, name="asks", requestState=question["requestState"],
              inputResponses={})
    assert here.output.next()["error"]["code"] == -32602


def test_only_so_many_calls_wait_for_answers(monkeypatch: Any) -> None:
    monkeypatch.setattr(parking, "PLACES", 1)

    async def asks(ctx: Context) -> str:
        return str(await ctx.elicit("Anyone?"))

    here = Here(asks)
    here.send("tools/call", id=1, name="asks")
    assert here.output.next()["result"]["resultType"] == "input_required"
    here.send("tools/call", id=2, name="asks")
    said = here.output.next()["result"]
    assert said["isError"] and "too many calls wait for answers" in said["content"][0]["text"]
    here.session.close()


def test_a_function_that_ends_while_its_client_gathers_answers() -> None:
    go = threading.Event()

    def asks(ctx: Context) -> str:
        ctx.elicit("Anyone?")  # and does not wait
        go.wait(PATIENCE)
        return "done anyway"

    here = Here(asks)
    here.send("tools/call", id=1, name="asks")
    question = here.output.next()["result"]
    go.set()
    here.send("tools/call", id=2, name="asks", requestState=question["requestState"],
              inputResponses={key: {"action": "cancel"} for key in question["inputRequests"]})
    assert here.output.next()["result"]["content"][0]["text"] == "done anyway"


def test_threads_are_reused_and_bounded() -> None:
    threads = Threads(limit=2)
    seen: queue.Queue[int] = queue.Queue()

    def note() -> None:
        seen.put(threading.get_ident())

    idents = set()
    for _ in range(20):
        while threads.run(note) is None:
            pass
        idents.add(seen.get(timeout=PATIENCE))
    assert len(idents) <= 2
    gate = threading.Event()
    started = threading.Barrier(3)

    def hold() -> None:
        started.wait(PATIENCE)
        gate.wait(PATIENCE)

    held = 0
    while held < 2:
        held += threads.run(hold) is not None
    started.wait(PATIENCE)
    assert threads.run(note) is None and threads.busy == 2
    gate.set()


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_lines_come_whole_and_long_ones_are_skipped(size: int) -> None:
    reader, writer = os.pipe()
    data = b"one\n\n  \ntwo\r\n" + b"x" * 100 + b"\n" + b"y" * 5000 + b"\nthree\nhalf"

    def feed() -> None:
        for at in range(0, len(data), size):
            os.write(writer, data[at : at + size])
        os.close(writer)

    thread = threading.Thread(target=feed)
    thread.start()
    got = [line if isinstance(line, bytes) else "long" for line in lines(reader, 50)]
    thread.join()
    os.close(reader)
    assert got == [b"one", b"two\r", "long", "long", b"three"]
    assert TooLong is not None


def test_output_waits_for_a_slow_reader_and_leaves_notices_out() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    big = b"b" * (3 << 20) + b"\n"
    output.write(big)
    output.write(b"notice\n", notice=True)
    output.write(b"answer\n")
    got = b""
    while not got.endswith(b"answer\n"):
        got += os.read(reader, 1 << 16)
    assert got == big + b"answer\n"
    output.flush(PATIENCE)
    output.write(b"notice\n", notice=True)
    assert os.read(reader, 100) == b"notice\n"
    os.close(reader)
    output.write(b"x" * 100000 + b"\n")
    output.flush(PATIENCE)
    assert output.broken
    os.close(writer)
