"""A plugin that does everything a plugin may do, and what it had better not do."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcp_gateway import Context, Field, Image, ToolError, tool

print("printed while it is imported")

_barrier = threading.Barrier(4)
_gate = asyncio.Event()


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


@tool(description="Add two numbers", read_only=True, title="Adder")
def add(a: float, b: float) -> float:
    return a + b


@tool
def prints() -> str:
    print("from print")
    os.write(1, b"from fd 1\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    subprocess.run(["echo", "from a child"], check=True)
    try:
        input()
    except EOFError:
        return "no input"
    return "input"


@tool
def meet() -> int:
    """Returns once four of it run at the same time."""
    return _barrier.wait(20)


@tool
async def open_gate() -> str:
    _gate.set()
    return "open"


@tool
async def wait_gate() -> str:
    await _gate.wait()
    return "through"


@tool
def forever() -> None:
    say("forever began")
    while True:
        pass


@tool
def until_cancelled(ctx: Context) -> str:
    say("sync began")
    ctx.wait_cancelled()
    say(f"sync cancelled {ctx.cancelled}")
    return "late answer"


@tool
async def async_until_cancelled() -> str:
    say("async began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("async cancelled")
        raise
    return "never"


@tool
def counts(ctx: Context, n: int) -> str:
    for i in range(n):
        ctx.progress(i + 1, n, f"step {i + 1}")
    ctx.progress(1)  # not above the last one: left out
    ctx.debug("a debug message")
    ctx.info({"n": n})
    ctx.log("error", "an error message", logger="own")
    return "counted"


@tool
async def async_counts(ctx: Context) -> str:
    await ctx.progress(1, 2)
    await ctx.report_progress(2, 2)
    await ctx.info("hello")
    return "counted"


@dataclass
class Answer:
    name: Annotated[str, Field(description="your name", min_length=1)]
    colour: Literal["red", "green"] = "red"
    age: int = 0


@tool
def asks(ctx: Context) -> str:
    answer = ctx.elicit("Who are you?", Answer).result()
    return f"{answer.action} {answer.data}"


@tool
async def asks_twice(ctx: Context) -> str:
    first = await ctx.elicit("First?", str)
    second = await ctx.elicit("Second?", int)
    return f"{first.data} {second.data}"


@tool
async def asks_at_once(ctx: Context) -> str:
    one, two = await asyncio.gather(ctx.elicit("One?", str), ctx.elicit("Two?", str))
    return f"{one.data} {two.data}"


@tool
def asks_patiently(ctx: Context) -> str:
    try:
        ctx.elicit("Anyone?").result(timeout=0.05)
    except TimeoutError:
        return "nobody"
    except Exception as error:  # concurrent.futures' own TimeoutError before Python 3.11
        return "nobody" if type(error).__name__ == "TimeoutError" else repr(error)
    return "somebody"


@tool
async def opens(ctx: Context) -> str:
    return (await ctx.elicit_url("Sign in", "https://example.com/")).action


@tool
async def samples(ctx: Context) -> str:
    said = await ctx.sample("Say something", system="be brief", max_tokens=9, temperature=0)
    return f"{said.model}: {said.text}"


@tool
def looks(ctx: Context) -> list[str]:
    return [root.path for root in ctx.roots().result()]


@tool
def client_name(ctx: Context | None = None) -> str:
    return "nobody" if ctx is None else f"{ctx.client.get('name')} {ctx.can('roots')}"


@tool
def fails(message: str = "it broke") -> None:
    raise ValueError(message)


@tool
def tells() -> None:
    raise ToolError("the disk is full; free some space")


@tool
def exits(status: int = 3) -> None:
    sys.exit(status)


@tool
async def async_exits() -> None:
    sys.exit(4)


@tool
async def leaves_a_task_that_exits() -> str:
    async def task() -> None:
        sys.exit(5)

    left = asyncio.get_running_loop().create_task(task())
    await asyncio.wait([left])
    return "here"


@tool
def interrupts() -> None:
    raise KeyboardInterrupt


@tool
def gives(what: str) -> Any:
    return {
        "nan": float("nan"), "object": object(), "set": {1}, "bytes": b"x", "half": "\ud800",
        "deep": _deep(500), "function": gives, "class": Answer,
    }[what]


def _deep(levels: int) -> Any:
    out: Any = []
    for _ in range(levels):
        out = [out]
    return out


@tool
def text_of(size: int) -> str:
    return "x" * size


@tool
def gibibyte() -> str:
    return "x" * (1 << 30)


@tool
def endless() -> Any:
    return iter(int, 1)


@tool
def wrong_result() -> int:
    return "three"  # type: ignore[return-value]


@tool
def picture() -> Image:
    return Image(data=b"\x89PNG\r\n\x1a\n")


@tool
def later() -> Any:
    """An async function behind a plain one."""
    return async_counts_quietly()


async def async_counts_quietly() -> int:
    return 7


@tool
def dies() -> None:
    os._exit(9)


@tool
def forks() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@tool
def nothing() -> None:
    return None
