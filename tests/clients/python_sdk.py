#!/usr/bin/env python3
"""Drives the official Python SDK: stdio, Streamable HTTP on TCP and on a Unix socket, HTTP+SSE.

The handshake era unless --era says auto. As in harness.mjs, what is reported is read off the
wire, below the SDK. Python keeps what JavaScript's numbers lose (1 is not 1.0, big integers stay
whole), so of the drivers this is the strictest. The contract is in README.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The cache directory of tests/setup/setup.sh, by the same rule."""
    if given := os.environ.get("MCP_GATEWAY_TEST_CACHE"):
        return Path(given)
    shared = Path("/var/cache/mcp-gateway-tests")
    if (shared / "python").exists() or os.access(shared, os.W_OK) or os.access("/var/cache", os.W_OK):
        return shared
    return Path.home() / ".cache/mcp-gateway-tests"


try:
    import mcp
except ImportError:  # not the pinned venv's interpreter: start over in that one
    interpreter = cache_dir() / "python/bin/python"
    if not interpreter.exists() or Path(sys.executable).parent == interpreter.parent:
        sys.exit(f"python_sdk: no pinned SDK in {interpreter.parent}; run tests/setup/setup.sh")
    os.execv(interpreter, [str(interpreter), *sys.argv])

import argparse
import contextvars
import json
import re
import time
import warnings
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.message import SessionMessage
from pydantic import TypeAdapter

# Roots, sampling and logging are deprecated in 2026-07-28 and very much alive in our clients.
warnings.simplefilter("ignore", MCPDeprecationWarning)

# What every driver's client says and answers. The same in harness.mjs.
CLIENT_INFO = types.Implementation(name="gateway-test-client", version="1.0.0")
ROOTS = [types.Root(uri="file:///tmp/mcp-gateway-root", name="fixed root")]
FORMATS = {"email": "ada@example.com", "uri": "https://example.com/", "date": "2026-01-02"}


async def answer_sampling(_context: Any, _params: Any) -> types.CreateMessageResult:
    text = types.TextContent(type="text", text="a fixed answer")
    return types.CreateMessageResult(role="assistant", content=text, model="fixed-model", stop_reason="endTurn")


async def answer_elicitation(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    if params.mode == "url":
        return types.ElicitResult(action="accept")
    properties = params.requested_schema["properties"]
    return types.ElicitResult(action="accept", content={name: fixed(schema) for name, schema in properties.items()})


def fixed(schema: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        return [fixed(schema["items"])]
    if choice := schema.get("oneOf") or schema.get("anyOf"):
        return choice[0]["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "boolean":
        return True
    if schema.get("type") in ("integer", "number"):
        return schema.get("minimum", 7)
    return FORMATS.get(schema.get("format", ""), "Ada")


async def answer_roots(_context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=ROOTS)


@dataclass(eq=False)
class Exchange:
    """One request of ours, and what came back for it."""

    method: str
    params: Any
    step: object
    response: dict[str, Any] | None = None
    progress: list[Any] = field(default_factory=list)
    late: int = 0
    cancelled: bool = False


# Which step a message belongs to: whatever was running when the SDK sent it.
current_step: contextvars.ContextVar[object] = contextvars.ContextVar("current_step", default=None)


class Tap:
    """Records every message of a transport, as it went over the wire."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.requests: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self._open: dict[Any, Exchange] = {}
        self._tokens: dict[Any, Exchange] = {}
        self._asked: dict[Any, dict[str, Any]] = {}
        self._consumed: dict[tuple[str, str], int] = {}
        self._arrived = anyio.Event()

    @asynccontextmanager
    async def over(self, transport: Any):
        async with transport as (read, write):
            yield TappedRead(read, self), TappedWrite(write, self)

    def sent(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params")
        if method == "notifications/cancelled":
            if exchange := self._open.get(params.get("requestId")):
                exchange.cancelled = True
        elif method is not None and "id" in message:
            exchange = Exchange(method, params, current_step.get())
            self.exchanges.append(exchange)
            self._open[message["id"]] = exchange
            token = ((params or {}).get("_meta") or {}).get("progressToken")
            if token is not None:
                self._tokens[token] = exchange
        elif method is None:
            if request := self._asked.get(message.get("id")):
                kind = "error" if "error" in message else "result"
                request["answer"] = {kind: message[kind]}

    def received(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params")
        if method is None:
            exchange = self._open.get(message.get("id"))
            if exchange is None:
                self.notifications.append({"method": "(response nobody asked for)", "params": message})
            elif exchange.response is not None:
                self.notifications.append({"method": "(second response)", "params": message})
            else:
                exchange.response = message
            return
        report = {"method": method} if params is None else {"method": method, "params": params}
        if "id" in message:
            request = report | {"answer": None}
            self._asked[message["id"]] = request
            self.requests.append(request)
        else:
            token = (params or {}).get("progressToken")
            exchange = self._tokens.get(token) if method == "notifications/progress" else None
            if exchange is not None:
                exchange.progress.append({key: value for key, value in params.items() if key != "progressToken"})
                exchange.late += exchange.response is not None
            else:
                self.notifications.append(report)
        self._arrived.set()
        self._arrived = anyio.Event()

    async def wait(self, kind: str, method: str, count: int, seconds: float) -> int | None:
        """Waits until `count` more messages of this kind have come than earlier waits took."""
        messages = self.requests if kind == "request" else self.notifications
        due = self._consumed.get((kind, method), 0) + count

        def there() -> int:
            return sum(message["method"] == method for message in messages)

        with anyio.move_on_after(seconds):
            while there() < due:
                await self._arrived.wait()
        if there() < due:
            return there() - (due - count)
        self._consumed[kind, method] = due
        return None


def plain(message: Any) -> dict[str, Any]:
    return message.model_dump(by_alias=True, mode="json", exclude_unset=True)


class Tapped:
    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner, self._tap = inner, tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *what: Any) -> Any:
        return await self._inner.__aexit__(*what)


class TappedRead(Tapped):
    async def receive(self) -> Any:
        return self._note(await self._inner.receive())

    def __aiter__(self) -> TappedRead:
        return self

    async def __anext__(self) -> Any:
        return self._note(await self._inner.__anext__())

    def _note(self, item: Any) -> Any:
        if isinstance(item, SessionMessage):
            self._tap.received(plain(item.message))
        else:
            print(f"client: {item!r}", file=sys.stderr)
        return item


class TappedWrite(Tapped):
    async def send(self, item: SessionMessage) -> None:
        self._tap.sent(plain(item.message))
        await self._inner.send(item)


class AnyRequest(types.Request[Any, str]):
    """A request that the SDK need not have heard of."""

    method: str
    params: Any = None


class AnyNotification(types.Notification[Any, str]):
    method: str
    params: Any = None


ANY = TypeAdapter(dict[str, Any])

# op: (the method its answer is read from, the list that pages are joined on)
METHODS: dict[str, tuple[str, str | None]] = {
    "tools/list": ("tools/list", "tools"),
    "resources/list": ("resources/list", "resources"),
    "resources/templates/list": ("resources/templates/list", "resourceTemplates"),
    "prompts/list": ("prompts/list", "prompts"),
    "call": ("tools/call", None),
    "resources/read": ("resources/read", None),
    "subscribe": ("resources/subscribe", None),
    "unsubscribe": ("resources/unsubscribe", None),
    "prompts/get": ("prompts/get", None),
    "complete": ("completion/complete", None),
    "setLevel": ("logging/setLevel", None),
    "ping": ("ping", None),
}


class Sdk:
    """How each step is asked of this SDK. The answer is the tap's."""

    def __init__(self, client: Client) -> None:
        self.client, self.session = client, client.session

    async def ask(self, step: dict[str, Any], cursor: str | None) -> None:
        client, op = self.client, step["op"]
        fresh: Any = {"cursor": cursor, "cache_mode": "bypass"}
        if op == "tools/list":
            await client.list_tools(**fresh)
        elif op == "resources/list":
            await client.list_resources(**fresh)
        elif op == "resources/templates/list":
            await client.list_resource_templates(**fresh)
        elif op == "prompts/list":
            await client.list_prompts(**fresh)
        elif op == "call":
            await client.call_tool(
                step["name"],
                step.get("arguments"),
                read_timeout_seconds=step.get("timeout", 60),
                progress_callback=ignore_progress if step.get("progress") else None,
                meta=step.get("_meta"),
            )
        elif op == "resources/read":
            await client.read_resource(step["uri"], cache_mode="bypass")
        elif op == "subscribe":
            await client.subscribe_resource(step["uri"])
        elif op == "unsubscribe":
            await client.unsubscribe_resource(step["uri"])
        elif op == "prompts/get":
            await client.get_prompt(step["name"], step.get("arguments"))
        elif op == "complete":
            kinds = {"ref/prompt": types.PromptReference, "ref/resource": types.ResourceTemplateReference}
            ref = kinds[step["ref"]["type"]].model_validate(step["ref"])
            await client.complete(ref, step["argument"], (step.get("context") or {}).get("arguments"))
        elif op == "setLevel":
            await client.set_logging_level(step["level"])
        elif op == "ping":
            await client.send_ping()
        elif op == "raw":
            request = AnyRequest(method=step["method"], params=step.get("params"))
            await self.session.send_request(request, ANY, step.get("timeout", 60))
        else:
            raise LookupError(f"no such step: {op}")

    async def notify(self, step: dict[str, Any]) -> None:
        notification = AnyNotification(method=step["method"], params=step.get("params"))
        await self.session.send_notification(notification)  # type: ignore[arg-type]


async def ignore_progress(*_: Any) -> None:
    pass


class Script:
    """Runs steps against one client."""

    def __init__(self, sdk: Sdk, tap: Tap, variables: dict[str, str]) -> None:
        self.sdk, self.tap = sdk, tap
        self.variables: dict[str, Any] = dict(variables)
        self.saved: dict[str, Any] = {}

    async def run(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [await self.step(step) for step in steps]

    async def step(self, template: dict[str, Any]) -> dict[str, Any]:
        step = self.fill(template)
        head = {key: step[key] for key in ("op", "id") if key in step}
        op = step["op"]
        if op == "parallel":
            reports: list[Any] = [None] * len(template["steps"])

            async def one(place: int) -> None:
                reports[place] = await self.step(template["steps"][place])

            async with anyio.create_task_group() as group:
                for place in range(len(reports)):
                    group.start_soon(one, place)
            return head | {"ok": all(report["ok"] for report in reports), "steps": reports}
        if op == "sleep":
            await anyio.sleep(step["seconds"])
            return head | {"ok": True}
        if op == "notify":
            await self.sdk.notify(step)
            return head | {"ok": True}
        if op == "wait":
            kind = "request" if "request" in step else "notification"
            method, count, seconds = step[kind], step.get("count", 1), step.get("seconds", 5)
            come = await self.tap.wait(kind, method, count, seconds)
            if come is None:
                return head | {"ok": True}
            message = f"{come} of {count} {method} came in {seconds} s"
            return head | {"ok": False, "error": {"code": None, "message": message}}
        deadline = time.monotonic() + step.get("seconds", 10)
        while True:
            report = head | await self.ask(step)
            if "until" not in step or time.monotonic() > deadline or self.reached(report, step["until"]):
                return self.keep(step, report)
            await anyio.sleep(step.get("every", 0.3))

    async def ask(self, step: dict[str, Any]) -> dict[str, Any]:
        method, joint = (step["method"], None) if step["op"] == "raw" else METHODS[step["op"]]
        mark = object()
        current_step.set(mark)

        def mine() -> list[Exchange]:
            return [one for one in self.tap.exchanges if one.step is mark and one.method == method]

        complaint: BaseException | None = None
        cursor = None
        with anyio.move_on_after(step.get("cancel_after_ms", 1e9) / 1000):
            try:
                while True:
                    with anyio.fail_after(step.get("timeout", 60) + 1):
                        await self.sdk.ask(step, cursor)
                    last = mine()[-1].response if mine() else None
                    cursor = ((last or {}).get("result") or {}).get("nextCursor") if joint else None
                    if cursor is None:
                        break
            except Exception as error:  # whatever the SDK raises is part of the report
                complaint = error
        return account(mine(), joint, step, complaint)

    def reached(self, report: dict[str, Any], until: dict[str, list[Any]]) -> bool:
        return all(lookup(report.get("result"), path) in values for path, values in until.items())

    def keep(self, step: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
        for name, path in step.get("save", {}).items():
            value = lookup(report.get("result"), path)
            if value is not None:
                self.variables[name] = self.saved[name] = value
        return report

    def fill(self, value: Any) -> Any:
        if isinstance(value, str):
            if whole := re.fullmatch(r"\$\{(\w+)\}", value):
                return self.variables.get(whole[1], value)
            return re.sub(r"\$\{(\w+)\}", lambda found: str(self.variables.get(found[1], found[0])), value)
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if isinstance(value, dict):
            return {key: self.fill(one) for key, one in value.items()}
        return value


def lookup(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def account(exchanges: list[Exchange], joint: str | None, step: dict[str, Any], complaint: Any) -> dict[str, Any]:
    """One step's report, from what its exchanges showed on the wire."""
    report: dict[str, Any] = {"ok": False}
    last = exchanges[-1] if exchanges else None
    if last and last.response and not last.cancelled:
        if "error" in last.response:
            report["error"] = last.response["error"]
        else:
            report["ok"] = True
            report["result"] = joined(exchanges, joint) if joint else last.response["result"]
            if complaint:  # the wire carried a result and the SDK would not have it
                report["client_error"] = type(complaint).__name__
    elif last and last.cancelled and "cancel_after_ms" in step:
        report["error"] = {"code": None, "message": "cancelled by the client"}
        report["answered_after_cancel"] = last  # settled at the end of the run
    else:
        why = complaint or "the SDK answered by itself"
        report["error"] = {"code": None, "message": f"{'client' if last else 'not sent'}: {why}"}
    if step.get("progress"):
        report["progress"] = last.progress if last else []
    if last and last.late:
        report["progress_after_answer"] = last.late
    return report


def joined(exchanges: list[Exchange], joint: str) -> dict[str, Any]:
    results = [one.response["result"] for one in exchanges if one.response and "result" in one.response]
    first = {key: value for key, value in results[0].items() if key != "nextCursor"}
    if len(results) > 1:
        first[joint] = [item for result in results for item in result.get(joint, [])]
    return first


def settle(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        settle(step.get("steps", []))
        if isinstance(exchange := step.get("answered_after_cancel"), Exchange):
            step["answered_after_cancel"] = exchange.response is not None


def introduction(tap: Tap) -> dict[str, Any] | None:
    """What the server said of itself, off the wire, in either era."""
    said = {one.method: one.response["result"] for one in tap.exchanges if one.response and "result" in one.response}
    if legacy := said.get("initialize"):
        keys = ("serverInfo", "protocolVersion", "capabilities", "instructions")
        return {"era": "legacy"} | {key: legacy[key] for key in keys if key in legacy}
    if modern := said.get("server/discover"):
        keys = ("supportedVersions", "capabilities", "instructions")
        info = (modern.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo")
        return {"era": "modern", "serverInfo": info} | {key: modern[key] for key in keys if key in modern}
    return None


@asynccontextmanager
async def http_transport(url: str, socket: str | None):
    uds = httpx2.AsyncHTTPTransport(uds=socket) if socket else None
    # Streams stay open as long as they like; only connecting and writing have a limit.
    timeout = httpx2.Timeout(30, read=None)
    async with httpx2.AsyncClient(transport=uds, timeout=timeout, trust_env=False) as client:
        async with streamable_http_client(url, http_client=client) as streams:
            yield streams


def transport_for(endpoint: dict[str, Any]) -> Any:
    if command := endpoint.get("stdio"):
        env, cwd = endpoint.get("env"), endpoint.get("cwd")
        return stdio_client(StdioServerParameters(command=command[0], args=command[1:], env=env, cwd=cwd))
    if url := endpoint.get("http"):
        return http_transport(url, None)
    if url := endpoint.get("sse"):
        return sse_client(url)
    return http_transport("http://localhost" + endpoint.get("path", "/mcp"), endpoint["unix"])


async def drive(endpoint: dict[str, Any], steps: list[Any], variables: dict[str, str], era: str) -> dict[str, Any]:
    tap = Tap()
    client = Client(
        tap.over(transport_for(endpoint)),
        mode=era,  # type: ignore[arg-type]
        client_info=CLIENT_INFO,
        sampling_callback=answer_sampling,
        elicitation_callback=answer_elicitation,
        list_roots_callback=answer_roots,
    )
    async with client:
        script = Script(Sdk(client), tap, variables)
        done = await script.run(steps)
        settle(done)
        return {
            "server": introduction(tap),
            "negotiated": client.session.protocol_version,
            "steps": done,
            "requests": list(tap.requests),
            "notifications": list(tap.notifications),
            "saved": script.saved,
        }


def read_json(text: str) -> Any:
    return json.loads(text if re.match(r"\s*[\[{]", text) else Path(text).read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--era", default="legacy", help="legacy (default), auto, or 2026-07-28")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--deadline", type=float, default=120, metavar="SECONDS")
    parser.add_argument("endpoint", help="JSON or a file: {stdio, env} | {http} | {unix, path} | {sse}")
    parser.add_argument("script", help="JSON or a file: a list of steps, or an object with them")
    given = parser.parse_args()
    script = read_json(given.script)
    steps = script["steps"] if isinstance(script, dict) else script
    variables = dict(item.split("=", 1) for item in given.var)
    era = {"modern": "2026-07-28"}.get(given.era, given.era)

    async def run() -> dict[str, Any]:
        with anyio.fail_after(given.deadline):
            return await drive(read_json(given.endpoint), steps, variables, era)

    try:
        document = anyio.run(run)
    except TimeoutError:
        print(f"python_sdk: not finished after {given.deadline:g} s", file=sys.stderr)
        return 3
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
