"""A program with a gateway of its own: what the tests of ``MCPGateway`` run."""

from __future__ import annotations

import asyncio
import os
import sys

from mcp_gateway import Context, Image, MCPGateway, tool

gate: asyncio.Event


@tool(description="Add two numbers", name="plus")
def add(a: float, b: float) -> float:
    return a + b


def where() -> dict[str, int]:
    """Which process it runs in."""
    return {"pid": os.getpid()}


def asks(ctx: Context) -> str:
    print("noise on stdout")
    return f"{ctx.elicit('Name?', str).result().data} {ctx.roots().result()[0].path}"


async def counts(ctx: Context, n: int) -> str:
    for i in range(n):
        ctx.progress(i + 1, n)
    return "counted"


async def waits(ctx: Context) -> str:
    print("waiting", file=sys.stderr, flush=True)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        print("cancelled in the program", file=sys.stderr, flush=True)
        raise
    return "never"


def picture() -> Image:
    return Image(data=b"\x89PNG\r\n\x1a\n")


def adds_a_tool() -> str:
    gateway.register_tool(lambda: "new", name="brand_new", description="New")
    return "added"


gateway: MCPGateway


async def main() -> None:
    global gate, gateway
    gate = asyncio.Event()  # of this loop, which async functions run on
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    config = arguments.get("config")
    gateway = MCPGateway.from_config(config) if config else MCPGateway(name="program")
    for function in (add, where, asks, counts, waits, picture, adds_a_tool):
        gateway.register_tool(function)
    gateway.register_tool(lambda text: len(text.split()), name="word_count", description="Words")
    if server := arguments.get("server"):
        gateway.add_server("other", sys.executable, [server], env={"PRICE": "$HOME ${X} 5$"})
    if "http" in arguments:
        serving = asyncio.create_task(gateway.serve_http(port=0))
        print(f"url {await gateway.listening()}", file=sys.stderr, flush=True)
        await serving
    else:
        print(f"Registered {len(gateway._plugin_tools)} tools, pid {os.getpid()}")
        await gateway.serve_stdio()
        print("served")


if __name__ == "__main__":
    asyncio.run(main())
