"""What a client can do with an MCP server: for each feature the steps, and what its user has to see.

Steps are a driver's (README.md) against `tests/backends/reference`. What is expected is what the
official client's user gets, whichever era the backend speaks; where the client's own era decides
(an error's code, a method that is no more), it says so here. `matrix.py` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MODERN = "2026-07-28"
WATCHED = "test://watched-resource"
ASKING = "test://asking-resource"
NOT_FOUND = {"legacy": -32002, "modern": -32602}
TIMEOUT = 10
EXACT = 9_007_199_254_740_993  # what a double cannot hold
UNUSUAL = "grüße ☃ 😀 \u2028 \\u0041 \"quoted\"\n\ttab"

Step = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """Where a feature is looked at. `layer` is "direct" when no gateway is between."""

    client: str  # python, python-pinned, python-legacy, ts_v1, ts_v2
    backend: str  # legacy, modern
    transport: str  # stdio, tcp, unix
    layer: str  # server, aggregate, direct
    share: str  # session, user

    @property
    def era(self) -> str:
        """What the client speaks. One that may choose takes the modern era where it is offered."""
        if self.client in ("python-legacy", "ts_v1"):
            return "legacy"
        return self.backend if self.layer == "direct" else "modern"

    @property
    def modern(self) -> bool:
        return self.era == "modern"

    @property
    def exact(self) -> bool:
        """JavaScript's numbers are doubles, whatever the wire had."""
        return self.client.startswith("python")

    @property
    def takes_tasks(self) -> bool:
        """Only Python's SDK lets a client take part in the tasks extension, which is modern."""
        return self.client in ("python", "python-pinned") and self.modern and self.backend == "modern"

    @property
    def knows_roots(self) -> bool:
        """A legacy child that several clients share is told of no roots: whose would they be?"""
        return self.layer == "direct" or self.backend == "modern" or self.share == "session"

    def __str__(self) -> str:
        return f"{self.client} × {self.backend} × {self.transport} × {self.layer}" + (
            "" if self.layer == "direct" else f" × {self.share}"
        )


class Wrong(Exception):
    """What was seen is not what was to be seen."""


class Seen:
    """What one feature's steps showed to the user of the client."""

    def __init__(self, cell: Cell, prefix: str, name: str, document: dict[str, Any]) -> None:
        self.cell, self.prefix, self.document = cell, prefix, document
        seen, here = document["seen"], f"{name}/"
        self.steps = {key.removeprefix(here): one for key, one in seen["steps"].items() if key.startswith(here)}
        self.questions = [one for one in seen["questions"] if one["during"].startswith(here)]
        self.heard = [one for one in seen["heard"] if (one["during"] or "").startswith(here)]
        self.failures = failures(document["steps"], here)
        self.wire = {key.removeprefix(here): one for key, one in by_id(document["steps"]) if key.startswith(here)}

    def step(self, name: str) -> dict[str, Any]:
        if name not in self.steps:
            raise Wrong("; ".join([f"{name}: not made, or not finished", *self.failures]))
        return self.steps[name]

    def returned(self, name: str = "it") -> Any:
        step = self.step(name)
        if "returned" not in step:
            raise Wrong(f"{name}: nothing came back: {brief(step)}")
        return step["returned"]

    def text(self, name: str = "it") -> str:
        result = self.returned(name)
        if result.get("isError") or result["content"][0]["type"] != "text":
            raise Wrong(f"{name}: no text: {brief(result)}")
        return result["content"][0]["text"]

    def json(self, name: str = "it") -> Any:
        return json.loads(self.text(name))

    def raised(self, name: str, code: int | None = None, message: str = "") -> dict[str, Any]:
        step = self.step(name)
        error = step.get("raised")
        if error is None:
            raise Wrong(f"{name}: no exception: {brief(step)}")
        if code is not None and error["code"] != code:
            raise Wrong(f"{name}: code {error['code']} for {code}: {brief(error)}")
        if message not in error["message"]:
            raise Wrong(f"{name}: “{message}” is not in {brief(error)}")
        return error

    def asked(self, *methods: str) -> list[dict[str, Any]]:
        """The params of the questions that came, which have to be these in this order."""
        equal("questions", [one["method"] for one in self.questions], list(methods))
        return [one["params"] for one in self.questions]

    def told(self, method: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self.heard if one["method"] == method]

    def progress(self, name: str = "it") -> list[dict[str, Any]]:
        """TypeScript's SDKs forget whose progress it is as soon as the answer is there, and so lose
        what came in one piece with it: what their users see is the beginning."""
        user, wire = self.step(name)["progress"], self.wire[name]["progress"]
        if self.cell.client.startswith("ts"):
            if not user or user != wire[: len(user)]:
                raise Wrong(f"{name}: progress {brief(user)}, on the wire {brief(wire)}")
            return wire
        return user

    def waited(self) -> None:
        if self.failures:
            raise Wrong("; ".join(self.failures))

    def names(self, name: str, kind: str) -> list[str]:
        """The names in a list, less the prefix and less what is another backend's."""
        named = [item["name"] for item in self.returned(name)[kind]]
        return [one.removeprefix(self.prefix) for one in named if one.startswith(self.prefix)]

    def item(self, name: str, kind: str, item: str) -> dict[str, Any]:
        found = [one for one in self.returned(name)[kind] if one["name"] == self.prefix + item]
        if len(found) != 1:
            raise Wrong(f"{name}: {len(found)} × {item}")
        return found[0]

    def number(self, value: int) -> int:
        return value if self.cell.exact else int(float(value))


def by_id(steps: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    inner = [one for step in steps for one in by_id(step.get("steps", []))]
    return [(one["id"], one) for one in steps if "id" in one] + inner


def failures(steps: list[dict[str, Any]], here: str) -> list[str]:
    """Waits, subscriptions and levels that did not come to pass."""
    return [
        f"{one['id'].removeprefix(here)}: {one['error']['message']}"
        for one in steps
        if one.get("id", "").startswith(here) and one["op"] in ("wait", "watch", "unwatch", "logLevel") and not one["ok"]
    ]


def equal(what: str, seen: Any, expected: Any) -> None:
    if seen != expected or type(seen) is not type(expected):
        raise Wrong(f"{what}: {brief(seen)}, not {brief(expected)}")


def brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-80:]} ({len(text)} characters)"


@dataclass(frozen=True)
class Feature:
    name: str
    make: Callable[[Cell], list[Step]]
    check: Callable[[Seen], None]

    def steps(self, cell: Cell) -> list[Step]:
        """Each under its feature's name, so that what is seen meanwhile is known to be its."""

        def under(step: Step, place: str) -> Step:
            named = {"timeout": TIMEOUT} | step | {"id": f"{self.name}/{step.get('id', place)}"}
            if "steps" in step:
                named["steps"] = [under(one, f"{place}.{number}") for number, one in enumerate(step["steps"])]
            return named

        steps = self.make(cell)
        only = len(steps) == 1
        return [under(step, "it" if only else str(number)) for number, step in enumerate(steps)]


FEATURES: list[Feature] = []


def feature(name: str, *steps: Step, make: Callable[[Cell], list[Step]] | None = None) -> Any:
    def register(check: Callable[[Seen], None]) -> Callable[[Seen], None]:
        FEATURES.append(Feature(name, make or (lambda _: list(steps)), check))
        return check

    return register


def call(name: str, arguments: dict[str, Any] | None = None, **more: Any) -> Step:
    return {"op": "call", "name": name, "arguments": arguments or {}} | more


def hear(method: str, **more: Any) -> Step:
    return {"op": "wait", "heard": method, "seconds": 10} | more


# --- opening


@feature("opening", call("whoami_meta"))
def _(seen: Seen) -> None:
    version = MODERN if seen.cell.modern else "2025-11-25"
    equal("the client's version", seen.document["negotiated"], version)
    # That the backend really is of the era that this cell is about, by its own word.
    version = MODERN if seen.cell.backend == "modern" else "2025-11-25"
    equal("the backend's version", seen.json()["protocolVersion"], version)
    # A pinned client has not asked.
    if seen.cell.client != "python-pinned":
        said = seen.document["server"]
        equal("era", said["era"], seen.cell.era)
        for name in ("tools", "resources", "prompts", "completions", "logging"):
            if name not in said["capabilities"]:
                raise Wrong(f"no {name} in {brief(said['capabilities'])}")


# --- tools


@feature("tools list", {"op": "tools/list"})
def _(seen: Seen) -> None:
    names = seen.names("it", "tools")
    equal("names twice", len(names), len(set(names)))
    if missing := {"echo", "add", "test_simple_text", "interview", "pid"} - set(names):
        raise Wrong(f"not listed: {sorted(missing)}")
    echo = seen.item("it", "tools", "echo")
    equal("title", echo["title"], "Echo")
    equal("annotations", echo["annotations"], {"title": "Echo", "readOnlyHint": True, "openWorldHint": False})
    equal("_meta", echo["_meta"]["example.com/tool"], {"kept": True})
    schema = seen.item("it", "tools", "json_schema_2020_12_tool")["inputSchema"]
    equal("$ref", schema["properties"]["address"], {"$ref": "#/$defs/address"})
    equal("if", schema["if"]["properties"], {"contactMethod": {"const": "phone"}})


@feature("tools call", call("echo", {"text": UNUSUAL}))
def _(seen: Seen) -> None:
    equal("text", seen.text(), UNUSUAL)


@feature("structured result", call("add", {"a": 40, "b": 2}))
def _(seen: Seen) -> None:
    equal("structuredContent", seen.returned()["structuredContent"], {"sum": 42})


@feature("values untouched", call("vendor"))
def _(seen: Seen) -> None:
    result = seen.returned()
    first, link = result["content"]
    equal("text", first["text"], "unicode: é 😀 \u2028 \\u0041")
    equal("annotations", first["annotations"], {"audience": ["user"], "priority": 0.5})
    equal("_meta", first["_meta"], {"example.com/block": [1, 2.5, None]})
    equal("link", link["uri"], "test://static-text")
    structured = result["structuredContent"]
    equal("structuredContent", list(structured), ["z", "a"])
    equal("big", structured["a"]["big"], seen.number(EXACT))
    equal("result's _meta", result["_meta"]["example.com/result"], {"nested": {"deep": True}})


def big(cell: Cell) -> int:
    """Python's SDK takes no event of a stream that has more than 1 MiB with all that is around the
    text, and whoever serves HTTP may always answer by a stream."""
    return (1 << 20) - (4096 if cell.client.startswith("python") and cell.transport != "stdio" else 0)


@feature("big result", make=lambda cell: [call("big", {"bytes": big(cell)})])
def _(seen: Seen) -> None:
    text, bytes_ = seen.text(), big(seen.cell)
    if text != "0123456789abcdef" * (bytes_ // 16):
        raise Wrong(f"{len(text)} characters for {bytes_}, or others: {brief(text)}")


@feature("tool error", call("fail", {"message": "on purpose ☃"}))
def _(seen: Seen) -> None:
    result = seen.returned()
    equal("isError", result["isError"], True)
    equal("text", result["content"][0]["text"], "on purpose ☃")


@feature(
    "JSON-RPC error",
    call("rpc_error", {"code": -31_999, "message": "as asked ☃", "data": {"why": ["a", 1]}}, id="asked"),
    call("no_such_tool", id="unknown"),
)
def _(seen: Seen) -> None:
    error = seen.raised("asked", -31_999, "as asked ☃")
    equal("data", error["data"], {"why": ["a", 1]})
    seen.raised("unknown", -32602)


@feature("header argument", call("test_x_mcp_header", {"region": "eu ☃"}))
def _(seen: Seen) -> None:
    """No tool was listed in a way that this client remembers, so over HTTP it has to learn of the
    header from an error and come again."""
    equal("text", seen.text(), "eu ☃")


@feature(
    "calls at once",
    {
        "op": "parallel",
        "id": "all",
        "steps": [call("echo", {"text": f"call {n}"}, id=f"echo{n}") for n in range(6)]
        + [call("slow", {"ms": 40 + 20 * n, "steps": 2}, progress=True, id=f"slow{n}") for n in range(3)],
    },
)
def _(seen: Seen) -> None:
    for n in range(6):
        equal(f"echo{n}", seen.text(f"echo{n}"), f"call {n}")
    for n in range(3):
        total = 40 + 20 * n
        equal(f"slow{n}", seen.text(f"slow{n}"), f"slept {total} ms")
        progress = [one["progress"] for one in seen.progress(f"slow{n}")]
        equal(f"slow{n}'s progress", [float(one) for one in progress], [0.0, total / 2, float(total)])


# --- resources, prompts, completion, pages


@feature(
    "resources",
    {"op": "resources/list", "id": "list"},
    {"op": "resources/read", "id": "text", "uri": "test://static-text"},
    {"op": "resources/read", "id": "blob", "uri": "test://static-binary"},
)
def _(seen: Seen) -> None:
    listed = [one["uri"] for one in seen.returned("list")["resources"]]
    equal("uris", sorted(listed), ["test://static-binary", "test://static-text", WATCHED])
    [text] = seen.returned("text")["contents"]
    equal("text", text["text"], "This is the content of the static text resource.")
    [blob] = seen.returned("blob")["contents"]
    equal("type", blob["mimeType"], "image/png")
    if not blob["blob"].startswith("iVBORw0KGgo"):
        raise Wrong(f"blob: {brief(blob)}")


@feature(
    "resource templates",
    {"op": "resources/templates/list", "id": "list"},
    {"op": "resources/read", "id": "read", "uri": "test://template/7%20☃/data"},
)
def _(seen: Seen) -> None:
    [template] = seen.returned("list")["resourceTemplates"]
    equal("template", template["uriTemplate"], "test://template/{id}/data")
    [read] = seen.returned("read")["contents"]
    equal("id", json.loads(read["text"])["id"], "7%20☃")


@feature("resource not found", {"op": "resources/read", "uri": "test://no-such"})
def _(seen: Seen) -> None:
    equal("code", seen.wire["it"]["error"]["code"], NOT_FOUND[seen.cell.era])
    if seen.cell.layer == "aggregate":  # no backend was asked
        seen.raised("it")
        return
    # TypeScript v2 shows its users one code for both eras.
    error = seen.raised("it", NOT_FOUND["modern" if seen.cell.client == "ts_v2" else seen.cell.era])
    equal("data", error["data"], {"uri": "test://no-such"})


@feature("resource asks", {"op": "resources/read", "uri": ASKING})
def _(seen: Seen) -> None:
    [asked] = seen.asked("elicitation/create")
    equal("message", asked["message"], "What does it say?")
    equal("text", seen.returned()["contents"][0]["text"], "Ada")


@feature(
    "prompts",
    {"op": "prompts/list", "id": "list"},
    {"op": "prompts/get", "id": "get", "name": "test_prompt_with_arguments", "arguments": {"arg1": "☃", "arg2": "b"}},
    {"op": "prompts/get", "id": "unknown", "name": "no_such_prompt"},
)
def _(seen: Seen) -> None:
    if "test_prompt_with_image" not in seen.names("list", "prompts"):
        raise Wrong(f"not listed: {seen.names('list', 'prompts')}")
    arguments = seen.item("list", "prompts", "test_prompt_with_arguments")["arguments"]
    equal("arguments", [one["name"] for one in arguments], ["arg1", "arg2"])
    [message] = seen.returned("get")["messages"]
    equal("text", message["content"]["text"], "Prompt with arguments: arg1='☃', arg2='b'")
    seen.raised("unknown", -32602)


@feature("prompt asks", {"op": "prompts/get", "name": "test_input_required_result_prompt", "arguments": {}})
def _(seen: Seen) -> None:
    [asked] = seen.asked("elicitation/create")
    equal("message", asked["message"], "What context should the prompt use?")
    equal("text", seen.returned()["messages"][0]["content"]["text"], 'Use the context "Ada".')


def complete(ref: dict[str, str], name: str, value: str, **more: Any) -> Step:
    return {"op": "complete", "ref": dict(ref), "argument": {"name": name, "value": value}} | more


PROMPT = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
TEMPLATE = {"type": "ref/resource", "uri": "test://template/{id}/data"}


@feature(
    "completion",
    complete(PROMPT, "arg1", "par", id="prompt"),
    complete(PROMPT, "arg2", "", context={"arguments": {"arg1": "paris"}}, id="context"),
    complete(TEMPLATE, "id", "12", id="template"),
)
def _(seen: Seen) -> None:
    equal("prompt", seen.returned("prompt")["completion"]["values"], ["paris", "park", "party"])
    equal("context", seen.returned("context")["completion"]["values"], ["after-paris"])
    equal("template", seen.returned("template")["completion"]["values"], ["12", "123"])


@feature("pages", {"op": "tools/list", "id": "tools"}, {"op": "prompts/list", "id": "prompts"})
def _(seen: Seen) -> None:
    """The backend has pages of four; nothing of a later page may be missing or there twice."""
    for kind, last in (("tools", "visit_page"), ("prompts", "test_input_required_result_prompt")):
        names = seen.names(kind, kind)
        equal(f"{kind} twice", len(names), len(set(names)))
        if last not in names or len(names) <= 4:
            raise Wrong(f"{kind}: {len(names)} without {last}")
        if seen.cell.layer == "direct" and seen.step(kind)["pages"] < 2:
            raise Wrong(f"{kind}: all in one page, so nothing is shown here")


# --- what goes on meanwhile


@feature("progress", call("slow", {"ms": 60, "steps": 3}, progress=True))
def _(seen: Seen) -> None:
    progress = seen.progress()
    equal("steps", [float(one["progress"]) for one in progress], [0.0, 20.0, 40.0, 60.0])
    equal("totals", {float(one["total"]) for one in progress}, {60.0})
    equal("messages", [one["message"] for one in progress], ["still at it"] * 3 + ["done"])
    equal("text", seen.text(), "slept 60 ms")


@feature(
    "cancellation",
    call("slow", {"ms": 30_000, "steps": 300}, progress=True, cancel_on_progress=True, id="call"),
    call("last_cancelled", until_has="stopped", every=0.1, seconds=10, id="backend"),
    call("echo", {"text": "still here"}, id="after"),
)
def _(seen: Seen) -> None:
    equal("cancelled", seen.step("call").get("cancelled"), True)
    stopped = [one for one in seen.json("backend") if "stopped" in one]
    equal("calls that the backend stopped", len(stopped), 1)
    equal("after", seen.text("after"), "still here")


def logging(cell: Cell) -> list[Step]:
    unasked = [call("log", {"level": "error", "data": "unasked"})] if cell.modern else []
    return [
        *unasked,
        {"op": "logLevel", "id": "level", "level": "warning"},
        call("log", {"level": "info", "data": "too little"}),
        call("log", {"level": "error", "data": {"loud": "☃", "n": 1}}),
        hear("notifications/message"),
        {"op": "logLevel", "id": "off", "level": None},
    ]


@feature("log level and messages", make=logging)
def _(seen: Seen) -> None:
    """In the modern era nothing is logged to who did not ask."""
    seen.waited()
    messages = [{key: one[key] for key in ("level", "logger", "data")} for one in seen.told("notifications/message")]
    equal("messages", messages, [{"level": "error", "logger": "reference", "data": {"loud": "☃", "n": 1}}])


@feature(
    "resource subscription",
    {"op": "watch", "id": "watch", "uris": [WATCHED]},
    call("touch"),
    hear("notifications/resources/updated", id="updated"),
    {"op": "resources/read", "id": "read", "uri": WATCHED},
    {"op": "unwatch", "id": "unwatch"},
    call("touch"),
    # Something that is told after what must not be: then it was not on its way.
    {"op": "watch", "id": "watch prompts", "prompts": True},
    call("test_trigger_prompt_change"),
    hear("notifications/prompts/list_changed", id="marker"),
    {"op": "unwatch", "id": "unwatch prompts"},
    call("test_trigger_prompt_change"),
)
def _(seen: Seen) -> None:
    seen.waited()
    equal("updates", [one["uri"] for one in seen.told("notifications/resources/updated")], [WATCHED])
    equal("text", seen.returned("read")["contents"][0]["text"], "touched 1 times")
    if seen.cell.modern:
        honored = seen.returned("watch")["honored"]
        equal("honored", honored.get("resourceSubscriptions"), [WATCHED])


@feature(
    "tools list changed",
    {"op": "watch", "id": "watch", "tools": True},
    call("grow", id="grow"),
    hear("notifications/tools/list_changed", id="changed"),
    {"op": "tools/list", "id": "list", "until_has": "grown_1", "every": 0.1, "seconds": 10},
    call("grown_1", id="call"),
    {"op": "unwatch", "id": "unwatch"},
)
def _(seen: Seen) -> None:
    seen.waited()
    equal("grow", seen.text("grow"), "added grown_1")
    if not seen.told("notifications/tools/list_changed"):
        raise Wrong("not told")
    seen.item("list", "tools", "grown_1")
    equal("call", seen.text("call"), "grown_1 was called")
    if seen.cell.modern:
        equal("honored", seen.returned("watch")["honored"].get("toolsListChanged"), True)


TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=☃",
    "baggage": "user=ada",
    "example.com/own": {"n": [1, None, "☃"]},
}


@feature("trace context", call("whoami_meta", _meta=TRACE))
def _(seen: Seen) -> None:
    meta = seen.json()["_meta"]
    equal("_meta", {key: meta.get(key) for key in TRACE}, TRACE)


# --- questions


@feature("sampling", call("sample", {"prompt": "Say a word ☃."}))
def _(seen: Seen) -> None:
    [asked] = seen.asked("sampling/createMessage")
    [message] = asked["messages"]
    content = message["content"][0] if isinstance(message["content"], list) else message["content"]
    equal("prompt", content["text"], "Say a word ☃.")
    equal("maxTokens", asked["maxTokens"], 100)
    answer = seen.json()
    equal("answer", [answer["model"], answer["content"]["text"]], ["fixed-model", "a fixed answer"])


@feature("elicitation form", call("ask", {"message": "Who is there ☃?"}))
def _(seen: Seen) -> None:
    [asked] = seen.asked("elicitation/create")
    equal("mode", asked.get("mode", "form"), "form")
    equal("message", asked["message"], "Who is there ☃?")
    equal("schema", asked["requestedSchema"]["properties"]["name"]["type"], "string")
    equal("answer", seen.json(), {"action": "accept", "content": {"name": "Ada"}})


@feature("elicitation URL", call("ask_url", {"url": "https://example.com/consent?x=1"}))
def _(seen: Seen) -> None:
    [asked] = seen.asked("elicitation/create")
    equal("mode", asked["mode"], "url")
    equal("url", asked["url"], "https://example.com/consent?x=1")
    if not seen.cell.modern and not asked.get("elicitationId"):
        raise Wrong("no elicitationId, which this era requires")
    equal("answer", seen.json()["action"], "accept")


@feature("elicitation enums", call("test_elicitation_sep1330_enums"))
def _(seen: Seen) -> None:
    [asked] = seen.asked("elicitation/create")
    properties = asked["requestedSchema"]["properties"]
    equal("enum names", properties["legacyEnum"]["enumNames"], ["Option One", "Option Two", "Option Three"])
    equal("titles", properties["titledSingle"]["oneOf"][0], {"const": "value1", "title": "First Option"})
    if '"titledMulti":["value1"]' not in seen.text():
        raise Wrong(f"answer: {seen.text()}")


@feature("roots", call("roots"))
def _(seen: Seen) -> None:
    if not seen.cell.knows_roots:
        seen.raised("it", message="roots")
        return
    seen.asked("roots/list")
    equal("answer", seen.json(), {"roots": [{"uri": "file:///tmp/mcp-gateway-root", "name": "fixed root"}]})


def several(cell: Cell) -> list[Step]:
    asks = ["elicitation", "sampling", "elicitation", *(["roots"] if cell.knows_roots else [])]
    return [call("interview", {"rounds": 1, "asks": asks})]


@feature("several questions at once", make=several)
def _(seen: Seen) -> None:
    equal("messages", sorted(map(message, seen.questions)), several_messages(seen.cell))
    [said] = seen.json()
    equal("first", said["first"]["content"], {"value": "Ada"})
    equal("second", said["second"]["content"]["text"], "a fixed answer")
    equal("third", said["third"]["content"], {"value": "Ada"})
    if seen.cell.knows_roots:
        equal("fourth", said["fourth"]["roots"][0]["uri"], "file:///tmp/mcp-gateway-root")


def several_messages(cell: Cell) -> list[str]:
    messages = ["Round 1, the first?", "Round 1, the second?", "Round 1, the third?"]
    return sorted([*messages, *(["roots/list"] if cell.knows_roots else [])])


def message(question: dict[str, Any]) -> str:
    """What a question says, whatever kind it is of."""
    params = question["params"]
    if question["method"] == "sampling/createMessage":
        content = params["messages"][0]["content"]
        return (content[0] if isinstance(content, list) else content)["text"]
    return params.get("message", question["method"])


@feature("several rounds", call("interview", {"rounds": 3, "asks": ["elicitation", "sampling"]}))
def _(seen: Seen) -> None:
    messages = [message(one) for one in seen.questions]
    rounds = [sorted(messages[at : at + 2]) for at in range(0, len(messages), 2)]
    equal("rounds", rounds, [[f"Round {n}, the first?", f"Round {n}, the second?"] for n in (1, 2, 3)])
    said = seen.json()
    equal("rounds answered", len(said), 3)
    for answers in said:
        equal("first", answers["first"]["content"], {"value": "Ada"})
        equal("second", answers["second"]["content"]["text"], "a fixed answer")


@feature("request state", call("test_input_required_result_request_state"))
def _(seen: Seen) -> None:
    seen.asked("elicitation/create")
    equal("text", seen.text(), "state-ok")


@feature(
    "questions at once in two calls",
    {
        "op": "parallel",
        "id": "all",
        "steps": [
            call("ask", {"message": "one?"}, id="ask"),
            call("sample", {"prompt": "two?"}, id="sample"),
        ],
    },
)
def _(seen: Seen) -> None:
    equal("messages", sorted(map(message, seen.questions)), ["one?", "two?"])
    equal("ask", seen.json("ask"), {"action": "accept", "content": {"name": "Ada"}})
    equal("sample", seen.json("sample")["content"]["text"], "a fixed answer")


@feature(
    "client without abilities",
    {"op": "bare", "id": "bare", "steps": [call("sample", id="sample"), call("echo", {"text": "alive"}, id="echo")]},
)
def _(seen: Seen) -> None:
    """Another client, which declared nothing. It is told what it lacks, and asked nothing."""
    seen.asked()
    modern = seen.cell.modern and seen.cell.backend == "modern"
    error = seen.raised("sample", -32021 if modern else None)
    if "sampling" not in brief(error):
        raise Wrong(f"does not say what is lacking: {brief(error)}")
    equal("echo", seen.text("echo"), "alive")


# --- beyond the common methods


@feature(
    "methods of one era",
    {"op": "ping", "id": "ping"},
    {"op": "setLevel", "id": "level", "level": "warning"},
    {"op": "subscribe", "id": "subscribe", "uri": WATCHED},
    {"op": "unsubscribe", "id": "unsubscribe", "uri": WATCHED},
)
def _(seen: Seen) -> None:
    for name in ("ping", "level", "subscribe", "unsubscribe"):
        if not seen.cell.modern:
            seen.returned(name)
        elif seen.cell.client == "ts_v2":
            seen.raised(name, message="not supported by the negotiated")  # it does not even send them
        else:
            # rmcp over HTTP wants an `Mcp-Name` that this SDK sends only with methods of the era.
            headers = seen.cell.layer == "direct" and seen.cell.transport == "tcp" and name.endswith("subscribe")
            seen.raised(name, -32020 if headers else -32601)


@feature("unknown method", {"op": "raw", "method": "vendor/no-such", "params": {"x": 1}})
def _(seen: Seen) -> None:
    seen.raised("it", -32601)


@feature("method of a vendor", {"op": "raw", "method": "vendor/echo", "params": {"n": EXACT, "s": UNUSUAL}})
def _(seen: Seen) -> None:
    """To the one backend that can be meant, and to none where there are several."""
    if seen.cell.layer == "aggregate":
        seen.raised("it", -32601)
        return
    result = seen.returned()
    equal("n", result["params"]["n"], seen.number(EXACT))
    equal("s", result["params"]["s"], UNUSUAL)
    equal("x-vendor", list(result["x-vendor"]), ["z", "a"])


@feature("tasks extension", call("slow_compute", {"seconds": 0.3, "label": "the sum"}))
def _(seen: Seen) -> None:
    """The same to the user; as a task if all who take part know of tasks, else within the call."""
    equal("text", seen.text(), "the sum took 0.3 s")
    equal("tasks", len(seen.document["seen"]["tasks"]), int(seen.cell.takes_tasks))


# --- cells that are none

# A feature, where, and why not. What has to be an error is not here: it is expected above.
MEANINGLESS: list[tuple[str, Callable[[Cell], bool], str]] = [
    (
        "resource asks",
        lambda cell: cell.layer == "aggregate",
        "the resource is in no list, so on the aggregate it is nobody's",
    ),
]


def meaningless(name: str, cell: Cell) -> str | None:
    """Why a feature has no meaning in a cell, if it has none."""
    for other, where, reason in MEANINGLESS:
        if other == name and where(cell):
            return reason
    return None
