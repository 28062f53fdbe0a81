#!/usr/bin/env python3
"""Drives the official Python SDK: stdio, Streamable HTTP on TCP and on a Unix socket, HTTP+SSE.

The handshake era unless --era says auto. As in harness.mjs, what is reported is read off the
wire, below the SDK; beside it, under `seen`, what the SDK's user got. Python keeps what
JavaScript's numbers lose (1 is not 1.0, big integers stay whole), so of the drivers this is the
strictest. The contract is in README.md.
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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated, Subscription
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.message import SessionMessage
from pydantic import TypeAdapter

# Roots, sampling and logging are deprecated in 2026-07-28 and very much alive in our clients.
warnings.simplefilter("ignore", MCPDeprecationWarning)

# What every driver's client says and answers. The same in harness.mjs.
CLIENT_INFO = types.Implementation(name="gateway-test-client", version="1.0.0")
ROOTS = [types.Root(uri="file:///tmp/mcp-gateway-root", name="fixed root")]
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
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


class Seen:
    """What the SDK's user got: results and exceptions by step, questions, notifications."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}
        self.questions: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.during: str | None = None
        self._consumed: dict[str, int] = {}
        self._arrived = anyio.Event()

    def answering(self, method: str, answer: Any) -> Any:
        async def callback(context: Any, params: Any = None) -> Any:
            result = await answer(context) if params is None else await answer(context, params)
            asked = {} if params is None else dumped(params)
            self.questions.append({"during": self.during, "method": method, "params": asked, "answer": dumped(result)})
            return result

        return callback

    def hear(self, method: str, params: Any) -> None:
        self.heard.append({"during": self.during, "method": method, "params": params})
        self._arrived.set()
        self._arrived = anyio.Event()

    async def on_message(self, message: Any) -> None:
        """Changes are heard from the subscription in the modern era, and here in the legacy one."""
        if isinstance(message, types.ServerNotification):
            params = getattr(message, "params", None)
            meta = getattr(params, "meta", None) or {}
            if SUBSCRIPTION_ID not in meta:
                self.hear(message.method, dumped(params) if params is not None else {})

    async def wait(self, method: str, count: int, seconds: float) -> int | None:
        """As the tap's, of what the user heard."""
        due = self._consumed.get(method, 0) + count

        def there() -> int:
            return sum(one["method"] == method for one in self.heard)

        with anyio.move_on_after(seconds):
            while there() < due:
                await self._arrived.wait()
        if there() < due:
            return there() - (due - count)
        self._consumed[method] = due
        return None

    def document(self) -> dict[str, Any]:
        return {"steps": self.steps, "questions": self.questions, "heard": self.heard}


def dumped(model: Any) -> Any:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(model, "model_dump") else model


def raised(error: BaseException) -> dict[str, Any]:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    report = {"name": type(error).__name__, "code": None, "message": str(error)}
    if isinstance(error, MCPError):
        report |= {"code": error.error.code, "message": error.error.message}
        report |= {} if error.error.data is None else {"data": error.error.data}
    return report


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


class CreatedTask(types.Result):
    """What a call answers that goes on as a task, at the top level of its result."""

    result_type: Literal["task"]
    task_id: str
    status: str
    poll_interval_ms: int | None = None


class TaskRequest(types.Request[Any, str]):
    name_param = "taskId"
    method: str
    params: Any


class Tasks(ClientExtension):
    """The tasks extension as this SDK means extensions to be written: a call is polled to its end."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.created: list[str] = []

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self.finish)]

    async def finish(self, task: CreatedTask, context: ClaimContext) -> types.CallToolResult:
        self.created.append(task.task_id)
        while True:
            asked = TaskRequest(method="tasks/get", params={"taskId": task.task_id})
            seen = await context.session.send_request(asked, ANY)
            if seen["status"] == "completed":
                return types.CallToolResult.model_validate(seen["result"])
            if seen["status"] != "working":
                raise RuntimeError(f"the task is {seen['status']}")
            await anyio.sleep((task.poll_interval_ms or 100) / 1000)


class Sdk:
    """How each step is asked of this SDK. What is reported of it is the tap's, and `Seen`'s."""

    def __init__(self, client: Client, seen: Seen, tasks: Tasks) -> None:
        self.client, self.session, self.seen, self.tasks = client, client.session, seen, tasks
        self.modern = client.protocol_version >= "2026-07-28"
        self.level: str | None = None
        self.watching = AsyncExitStack()
        self.watched: list[str] = []

    async def log_level(self, step: dict[str, Any]) -> Any:
        """From now on: by request in the modern era, by a request of its own before."""
        if self.modern:
            self.level = step["level"]
        elif step["level"]:
            await self.client.set_logging_level(step["level"])

    async def watch(self, step: dict[str, Any], group: anyio.abc.TaskGroup) -> Any:
        """To hear of changes: by a subscription in the modern era; before, lists are told unasked."""
        if not self.modern:
            for uri in step.get("uris", []):
                await self.client.subscribe_resource(uri)
                self.watched.append(uri)
            return None
        subscription = await self.watching.enter_async_context(
            self.client.listen(
                tools_list_changed=step.get("tools", False),
                prompts_list_changed=step.get("prompts", False),
                resources_list_changed=step.get("resources", False),
                resource_subscriptions=step.get("uris", []),
            )
        )
        group.start_soon(self.listen, subscription)
        return {"honored": dumped(subscription.honored)}

    async def listen(self, subscription: Subscription) -> None:
        names = {
            "ToolsListChanged": "notifications/tools/list_changed",
            "PromptsListChanged": "notifications/prompts/list_changed",
            "ResourcesListChanged": "notifications/resources/list_changed",
            "ResourceUpdated": "notifications/resources/updated",
        }
        try:
            async for event in subscription:
                params = {"uri": event.uri} if isinstance(event, ResourceUpdated) else {}
                self.seen.hear(names[type(event).__name__], params)
        except Exception as error:
            self.seen.hear("(subscription lost)", raised(error))

    async def unwatch(self) -> None:
        await self.watching.aclose()
        while self.watched:
            await self.client.unsubscribe_resource(self.watched.pop())

    async def ask(self, step: dict[str, Any], cursor: str | None, progress: Any) -> Any:
        client, op = self.client, step["op"]
        fresh: Any = {"cursor": cursor, "cache_mode": "bypass"}
        if op == "tools/list":
            return await client.list_tools(**fresh)
        elif op == "resources/list":
            return await client.list_resources(**fresh)
        elif op == "resources/templates/list":
            return await client.list_resource_templates(**fresh)
        elif op == "prompts/list":
            return await client.list_prompts(**fresh)
        elif op == "call":
            return await client.call_tool(
                step["name"],
                step.get("arguments"),
                read_timeout_seconds=step.get("timeout", 60),
                progress_callback=progress,
                meta=(step.get("_meta") or {}) | {LOG_LEVEL: self.level} if self.level else step.get("_meta"),
            )
        elif op == "resources/read":
            return await client.read_resource(step["uri"], cache_mode="bypass")
        elif op == "subscribe":
            return await client.subscribe_resource(step["uri"])
        elif op == "unsubscribe":
            return await client.unsubscribe_resource(step["uri"])
        elif op == "prompts/get":
            return await client.get_prompt(step["name"], step.get("arguments"))
        elif op == "complete":
            kinds = {"ref/prompt": types.PromptReference, "ref/resource": types.ResourceTemplateReference}
            ref = kinds[step["ref"]["type"]].model_validate(step["ref"])
            return await client.complete(ref, step["argument"], (step.get("context") or {}).get("arguments"))
        elif op == "setLevel":
            return await client.set_logging_level(step["level"])
        elif op == "ping":
            return await client.send_ping()
        elif op == "raw":
            request = AnyRequest(method=step["method"], params=step.get("params"))
            return await self.session.send_request(request, ANY, step.get("timeout", 60))
        else:
            raise LookupError(f"no such step: {op}")

    async def notify(self, step: dict[str, Any]) -> None:
        notification = AnyNotification(method=step["method"], params=step.get("params"))
        await self.session.send_notification(notification)  # type: ignore[arg-type]


class Script:
    """Runs steps against one client."""

    def __init__(
        self, sdk: Sdk, tap: Tap, seen: Seen, variables: dict[str, Any], group: anyio.abc.TaskGroup, bare: Any
    ) -> None:
        self.sdk, self.tap, self.seen, self.group, self.bare = sdk, tap, seen, group, bare
        self.variables: dict[str, Any] = dict(variables)
        self.saved: dict[str, Any] = {}
        self.done: list[dict[str, Any]] = []

    async def run(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            self.done.append(await self.step(step))

    async def step(self, template: dict[str, Any]) -> dict[str, Any]:
        step = self.fill(template)
        head = {key: step[key] for key in ("op", "id") if key in step}
        op = step["op"]
        self.seen.during = step.get("id", self.seen.during)
        if op == "parallel":
            reports: list[Any] = [None] * len(template["steps"])

            async def one(place: int) -> None:
                reports[place] = await self.step(template["steps"][place])

            async with anyio.create_task_group() as group:
                for place in range(len(reports)):
                    group.start_soon(one, place)
            return head | {"ok": all(report["ok"] for report in reports), "steps": reports}
        if op == "bare":
            async with self.bare() as (client, tap):
                sdk = Sdk(client, self.seen, Tasks())
                script = Script(sdk, tap, self.seen, self.variables, self.group, self.bare)
                await script.run(template["steps"])
            return head | {"ok": all(report["ok"] for report in script.done), "steps": script.done}
        if op == "sleep":
            await anyio.sleep(step["seconds"])
            return head | {"ok": True}
        if op == "notify":
            await self.sdk.notify(step)
            return head | {"ok": True}
        if op in ("watch", "unwatch", "logLevel"):
            try:
                with anyio.fail_after(step.get("timeout", 60)):
                    if op == "watch":
                        returned = await self.sdk.watch(step, self.group)
                    else:
                        returned = await (self.sdk.unwatch() if op == "unwatch" else self.sdk.log_level(step))
                self.seen.steps[step.get("id", op)] = {"returned": returned}
                return head | {"ok": True}
            except Exception as error:
                self.seen.steps[step.get("id", op)] = {"raised": raised(error)}
                return head | {"ok": False, "error": {"code": None, "message": str(error)}}
        if op == "wait":
            kind = next(kind for kind in ("request", "notification", "heard") if kind in step)
            method, count, seconds = step[kind], step.get("count", 1), step.get("seconds", 5)
            if kind == "heard":
                come = await self.seen.wait(method, count, seconds)
            else:
                come = await self.tap.wait(kind, method, count, seconds)
            if come is None:
                return head | {"ok": True}
            message = f"{come} of {count} {method} came in {seconds} s"
            return head | {"ok": False, "error": {"code": None, "message": message}}
        deadline = time.monotonic() + step.get("seconds", 10)
        while True:
            report = head | await self.ask(step)
            if time.monotonic() > deadline or self.reached(report, step):
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
        progress: list[dict[str, Any]] = []
        pages: list[Any] = []
        with anyio.move_on_after(step.get("cancel_after_ms", 1e9) / 1000) as scope:

            async def on_progress(done: float, total: float | None, message: str | None) -> None:
                progress.append({"progress": done, "total": total, "message": message})
                if step.get("cancel_on_progress"):
                    scope.cancel()

            try:
                while True:
                    with anyio.fail_after(step.get("timeout", 60) + 1):
                        callback = on_progress if step.get("progress") else None
                        pages.append(dumped(await self.sdk.ask(step, cursor, callback)))
                    last = mine()[-1].response if mine() else None
                    cursor = ((last or {}).get("result") or {}).get("nextCursor") if joint else None
                    if cursor is None:
                        break
            except Exception as error:  # whatever the SDK raises is part of the report
                complaint = error
        if "id" in step:
            outcome: dict[str, Any] = {"pages": len(mine())} if joint else {}
            if complaint:
                outcome["raised"] = raised(complaint)
            elif scope.cancelled_caught:
                outcome["cancelled"] = True
            else:
                whole = pages[0]
                if joint:
                    whole = whole | {joint: [item for page in pages for item in page[joint]]}
                outcome["returned"] = whole
            if step.get("progress"):
                outcome["progress"] = progress
            self.seen.steps[step["id"]] = outcome
        return account(mine(), joint, step, complaint)

    def reached(self, report: dict[str, Any], step: dict[str, Any]) -> bool:
        result = report.get("result")
        return all(lookup(result, path) in values for path, values in step.get("until", {}).items()) and step.get(
            "until_has", ""
        ) in json.dumps(result)

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
    elif last and last.cancelled and ("cancel_after_ms" in step or "cancel_on_progress" in step):
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


async def drive(
    endpoint: dict[str, Any], steps: list[Any], variables: dict[str, str], era: str, deadline: float
) -> dict[str, Any]:
    @asynccontextmanager
    async def bare():
        tap = Tap()
        async with Client(tap.over(transport_for(endpoint)), mode=era, client_info=CLIENT_INFO) as client:  # type: ignore[arg-type]
            yield client, tap

    tap, seen, tasks = Tap(), Seen(), Tasks()
    client = Client(
        tap.over(transport_for(endpoint)),
        mode=era,  # type: ignore[arg-type]
        client_info=CLIENT_INFO,
        sampling_callback=seen.answering("sampling/createMessage", answer_sampling),
        elicitation_callback=seen.answering("elicitation/create", answer_elicitation),
        list_roots_callback=seen.answering("roots/list", answer_roots),
        message_handler=seen.on_message,
        extensions=[tasks],
    )
    async with client, anyio.create_task_group() as group:
        sdk = Sdk(client, seen, tasks)
        script = Script(sdk, tap, seen, variables, group, bare)
        with anyio.move_on_after(deadline) as scope:
            await script.run(steps)
            await sdk.watching.aclose()
        group.cancel_scope.cancel()
        settle(script.done)
        return {
            "server": introduction(tap),
            "negotiated": client.session.protocol_version,
            "steps": script.done,
            "requests": list(tap.requests),
            "notifications": list(tap.notifications),
            "saved": script.saved,
            "seen": seen.document() | {"tasks": tasks.created},
            "finished": not scope.cancelled_caught,
        }


def read_json(text: str) -> Any:
    return json.loads(text if re.match(r"\s*[\[{]", text) else Path(text).read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--era", default="legacy", help="legacy (default), auto, or modern: no discover, no fallback")
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
        with anyio.fail_after(given.deadline + 5):
            return await drive(read_json(given.endpoint), steps, variables, era, given.deadline)

    try:
        document = anyio.run(run)
    except TimeoutError:
        print(f"python_sdk: not finished after {given.deadline:g} s", file=sys.stderr)
        return 3
    finished = document.pop("finished")
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
    print()
    if not finished:
        print(f"python_sdk: not finished after {given.deadline:g} s", file=sys.stderr)
    return 0 if finished else 3


if __name__ == "__main__":
    sys.exit(main())
