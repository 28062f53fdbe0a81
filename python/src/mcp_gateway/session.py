"""One conversation with one client, in either era of MCP.

Legacy (2024-11-05 to 2025-11-25) opens with ``initialize`` and asks the client by requests.
Modern (2026-07-28) says everything with each request and asks by ``input_required``; both may be
spoken on one pipe. Reads no descriptor: whoever does gives the lines to ``serve``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

from . import protocol as rpc
from .call import Call, Request
from .parking import Parking
from .protocol import META, RpcError
from .wire import TooLong

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .questions import Question
    from .runner import Runner
    from .toolset import ToolSet
    from .wire import Output

CALLS = 1000
"""Calls of one client that may be in flight."""

SUBSCRIPTIONS = 64

_FRESH_MS = 5000
"""How long clients may keep a list: not long, since an edited plugin is a new list."""

Key = tuple[str, Any]


class Session:
    def __init__(
        self, tools: ToolSet, runner: Runner, output: Output, *, name: str, version: str, limit: int
    ) -> None:
        self.tools = tools
        self.runner = runner
        self.output = output
        self.limit = limit
        self.lock = threading.RLock()
        self._info = {"name": name, "version": version}
        self._calls: dict[Key, Call] = {}
        self._questions: dict[int, Question] = {}
        self._parked = Parking(self._expire)
        # Open subscriptions, and whether each wants to hear of changed lists.
        self._listening: dict[Key, tuple[rpc.Id, bool]] = {}
        self._counter = 0
        self._legacy: Request | None = None
        self._level = "info"
        self._closed = False
        self._stop_listening = tools.listen(self._changed)

    # ---- in ----

    def serve(self, source: Iterable[bytes | TooLong]) -> None:
        """Takes one message after the other, each when there is room for its answer."""
        for line in source:
            self.output.wait_for_room()
            if isinstance(line, TooLong):
                self._refuse_long_line()
            else:
                self.receive(line)

    def receive(self, line: bytes) -> None:
        try:
            message = rpc.parse(line)
            if not isinstance(message, dict):
                raise RpcError(rpc.INVALID_REQUEST, "A message is one object; there are no batches")
        except RpcError as error:
            self.output.write(rpc.failure(None, error))
            return
        if "method" in message:
            self._receive_method(message)
        elif "result" in message or "error" in message:
            self._receive_answer(message)
        else:
            known = message.get("id")
            neither = RpcError(rpc.INVALID_REQUEST, "Neither a request nor an answer")
            self.output.write(rpc.failure(known if rpc.is_id(known) else None, neither))

    def _refuse_long_line(self) -> None:
        most = self.limit >> 20
        error = RpcError(rpc.INVALID_REQUEST, f"A message is at most {most} MiB")
        self.output.write(rpc.failure(None, error))

    def _receive_method(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params")
        params = {} if params is None else params
        if "id" not in message:
            if isinstance(params, dict) and method == "notifications/cancelled":
                self._cancelled(params.get("requestId"))
            return
        id = message["id"]
        try:
            if not rpc.is_id(id):
                raise RpcError(rpc.INVALID_REQUEST, "An id is a string or an integer")
            if not isinstance(method, str) or not isinstance(params, dict):
                what = "A request has a method and an object of params"
                raise RpcError(rpc.INVALID_REQUEST, what)
            self._request(id, method, params)
        except RpcError as error:
            self.output.write(rpc.failure(id if rpc.is_id(id) else None, error))

    def _receive_answer(self, message: dict[str, Any]) -> None:
        with self.lock:
            number = message.get("id")
            question = self._questions.pop(number, None) if isinstance(number, int) else None
        if question is None:
            return
        if "error" in message:
            from .questions import Unable

            error = message["error"]
            text = error.get("message") if isinstance(error, dict) else None
            question.reply.fail(Unable(f"the client refused {question.method}: {text}"))
        else:
            question.answer(message["result"])

    # ---- requests ----

    def _request(self, id: rpc.Id, method: str, params: dict[str, Any]) -> None:
        request = self._origin(id, method, params)
        if method == "initialize":
            self._initialize(request, params)
        elif method == "ping" and not request.modern:
            self._answer(request, {})
        elif method == "tools/list":
            self.tools.when_ready(lambda: self._list(request, params))
        elif method == "tools/call":
            self.tools.when_ready(lambda: self._call(request, params))
        elif method == "logging/setLevel" and not request.modern:
            self._level = _level(params.get("level"))
            self._answer(request, {})
        elif method == "server/discover" and request.modern:
            self._discover(request)
        elif method == "subscriptions/listen" and request.modern:
            self._listen(request, params)
        else:
            raise RpcError(rpc.NO_METHOD, f"Method not found: {method[:100]}")

    def _origin(self, id: rpc.Id, method: str, params: dict[str, Any]) -> Request:
        """Which era a request is of, and what the client says of itself."""
        meta = params.get("_meta")
        meta = meta if isinstance(meta, dict) else {}
        version = meta.get(f"{META}protocolVersion")
        if method == "initialize" or version is None:
            if self._legacy is None and method not in ("initialize", "ping"):
                what = f"say {META}protocolVersion in _meta, or begin with initialize"
                raise RpcError(rpc.INVALID_PARAMS, f"Which protocol? {what}")
            known = self._legacy or Request(id, modern=False)
            return Request(id, False, known.capabilities, known.client, meta)
        if version not in rpc.MODERN:
            data = {"supported": list(rpc.MODERN), "requested": version}
            raise RpcError(rpc.NO_VERSION, "Unsupported protocol version", data)
        capabilities = meta.get(f"{META}clientCapabilities")
        if not isinstance(capabilities, dict):
            raise RpcError(rpc.INVALID_PARAMS, f"_meta lacks {META}clientCapabilities")
        level = meta.get(f"{META}logLevel")
        level = None if level is None else _level(level)
        client = meta.get(f"{META}clientInfo")
        client = client if isinstance(client, dict) else {}
        return Request(id, True, capabilities, client, meta, level)

    def _initialize(self, request: Request, params: dict[str, Any]) -> None:
        capabilities, client = params.get("capabilities"), params.get("clientInfo")
        request.capabilities = capabilities if isinstance(capabilities, dict) else {}
        request.client = client if isinstance(client, dict) else {}
        self._legacy = request
        version = params.get("protocolVersion")
        self._answer(request, {
            "protocolVersion": version if version in rpc.LEGACY else rpc.LEGACY[-1],
            "capabilities": {"tools": {"listChanged": True}, "logging": {}},
            "serverInfo": self._info,
        })

    def _discover(self, request: Request) -> None:
        self._answer(request, {
            "supportedVersions": list(rpc.MODERN),
            "capabilities": {"tools": {"listChanged": True}, "logging": {}},
            "ttlMs": _FRESH_MS, "cacheScope": "public",
        })

    def _list(self, request: Request, params: dict[str, Any]) -> None:
        if params.get("cursor") is not None:
            error = RpcError(rpc.INVALID_PARAMS, "There is one page only: unknown cursor")
            self.output.write(rpc.failure(request.id, error))
            return
        result: dict[str, Any] = {"tools": [f.definition for f in self.tools.all()]}
        if request.modern:
            result |= {"ttlMs": _FRESH_MS, "cacheScope": "public"}
        if self.tools.problems:
            problems = [problem.as_json() for problem in self.tools.problems]
            result["_meta"] = {"mcp-gateway/plugins": {"problems": problems}}
        self._answer(request, result)

    def _answer(self, request: Request, result: dict[str, Any]) -> None:
        if request.modern:
            meta = {**result.get("_meta", {}), f"{META}serverInfo": self._info}
            result = {"resultType": "complete", **result, "_meta": meta}
        self.output.write(rpc.response(request.id, result))

    # ---- calls ----

    def _call(self, request: Request, params: dict[str, Any]) -> None:
        try:
            name, arguments = params.get("name"), params.get("arguments")
            arguments = {} if arguments is None else arguments
            if not isinstance(name, str) or not isinstance(arguments, dict):
                raise RpcError(rpc.INVALID_PARAMS, "A call has a name and an object of arguments")
            if request.modern and "requestState" in params:
                self._resume(request, name, arguments, params)
                return
            function = self.tools.get(name)
            if function is None:
                raise RpcError(rpc.INVALID_PARAMS, f"Unknown tool: {name[:200]}")
            call = Call(self, function, request)
            call.asked_as = (name, arguments)
            self._enter(request, call)
        except RpcError as error:
            self.output.write(rpc.failure(request.id, error))
            return
        call.start(arguments)

    def _enter(self, request: Request, call: Call) -> None:
        with self.lock:
            if self._closed:
                raise RpcError(rpc.INTERNAL, "The host is ending")
            if _key(request.id) in self._calls:
                raise RpcError(rpc.INVALID_REQUEST, "This id is in use")
            if len(self._calls) >= CALLS:
                raise RpcError(rpc.INTERNAL, f"{CALLS} calls are in flight, which is all at once")
            self._calls[_key(request.id)] = call

    def finished(self, call: Call, outcome: bytes | RpcError) -> None:
        """Takes a call's answer, which goes out now, or when its client comes back, or never."""
        with self.lock:
            if call.cancelled.is_set() or call.outcome is not None:
                return
            call.outcome = outcome
            if call.request is not None:
                self._send_outcome(call)

    def _send_outcome(self, call: Call) -> None:
        request, outcome = call.request, call.outcome
        assert request is not None
        call.request = None
        del self._calls[_key(request.id)]
        if isinstance(outcome, RpcError):
            self.output.write(rpc.failure(request.id, outcome))
            return
        assert outcome is not None
        head = f'{{"jsonrpc":"2.0","id":{json.dumps(request.id)},"result":{{'
        if request.modern:
            info = json.dumps({f"{META}serverInfo": self._info})
            head += f'"resultType":"complete","_meta":{info},'
        # The result is an object that begins with `{"content"`; it is not copied again.
        self.output.write(b"".join((head.encode(), outcome[1:], b"}\n")))

    def _cancelled(self, request_id: Any) -> None:
        if not rpc.is_id(request_id):
            return
        with self.lock:
            self._listening.pop(_key(request_id), None)
            call = self._calls.pop(_key(request_id), None)
            if call is None:
                return
            call.request = None
            call.cancelled.set()
            asked = {id(question) for question in call.questions}
            self._questions = {n: q for n, q in self._questions.items() if id(q) not in asked}
        call.cancel()

    # ---- questions ----

    def ask(self, call: Call, question: Question) -> None:
        """Sends a question of a running call. Called under the lock."""
        if call.origin.modern:
            if self._parked.is_full and call.request is not None:
                from .questions import Unable

                raise Unable("too many calls wait for answers already")
            call.questions.append(question)
            if call.request is not None:
                self._park(call)
            return
        call.questions.append(question)
        self._counter += 1
        self._questions[self._counter] = question
        self.output.write(rpc.request(self._counter, question.method, question.params))

    def _park(self, call: Call) -> None:
        """Answers with the questions, and waits for the client to come back."""
        request = call.request
        assert request is not None
        call.request = None
        del self._calls[_key(request.id)]
        self.output.write(rpc.response(request.id, {
            "resultType": "input_required",
            "inputRequests": {question.key: question.message for question in call.questions},
            "requestState": self._parked.put(call, call.asked_as),
            "_meta": {f"{META}serverInfo": self._info},
        }))

    def _resume(
        self, request: Request, name: str, arguments: dict[str, Any], params: dict[str, Any]
    ) -> None:
        state, answers = params.get("requestState"), params.get("inputResponses", {})
        if not isinstance(state, str) or not isinstance(answers, dict):
            raise RpcError(rpc.INVALID_PARAMS, "requestState is a string, inputResponses an object")
        with self.lock:
            call = self._parked.find(state, (name, arguments))
            if call is None:
                what = "This requestState is unknown, used or expired; call the tool anew"
                raise RpcError(rpc.INVALID_PARAMS, what)
            self._enter(request, call)
            self._parked.take(state)
            call.request = request
            if call.outcome is not None:
                self._send_outcome(call)
                return
            told = [question for question in call.questions if question.key in answers]
            call.questions = [q for q in call.questions if q.key not in answers]
            if call.questions:
                self._park(call)
        for question in told:
            question.answer(answers[question.key])

    def _expire(self, state: str) -> None:
        with self.lock:
            call = self._parked.take(state)
        if call is not None:
            call.cancel()

    # ---- notices ----

    def wants(self, request: Request, level: str) -> bool:
        least = request.level if request.modern else self._level
        return least is not None and rpc.LEVELS.index(level) >= rpc.LEVELS.index(least)

    def _listen(self, request: Request, params: dict[str, Any]) -> None:
        wanted = params.get("notifications")
        agreed = isinstance(wanted, dict) and wanted.get("toolsListChanged") is True
        with self.lock:
            if len(self._listening) >= SUBSCRIPTIONS:
                raise RpcError(rpc.INTERNAL, f"{SUBSCRIPTIONS} subscriptions are open already")
            self._listening[_key(request.id)] = (request.id, agreed)
            self._notify_listener(request.id, "subscriptions/acknowledged", {
                "notifications": {"toolsListChanged": True} if agreed else {},
            })

    def _notify_listener(self, id: rpc.Id, what: str, params: dict[str, Any]) -> None:
        meta = {f"{META}subscriptionId": id}
        line = rpc.notification(f"notifications/{what}", {"_meta": meta, **params})
        self.output.write(line, notice=True)

    def _changed(self) -> None:
        with self.lock:
            if self._legacy is not None:
                line = rpc.notification("notifications/tools/list_changed", {})
                self.output.write(line, notice=True)
            for id, agreed in self._listening.values():
                if agreed:
                    self._notify_listener(id, "tools/list_changed", {})

    # ---- its end ----

    def close(self) -> None:
        """The client is gone: every call is cancelled."""
        with self.lock:
            self._closed = True
            self._stop_listening()
            calls = [*self._calls.values(), *self._parked.clear()]
            for call in calls:
                call.request = None
                call.cancelled.set()
            self._calls.clear()
        for call in calls:
            with contextlib.suppress(Exception):
                call.cancel()


def _key(id: rpc.Id) -> Key:
    # 1 and "1" are two ids, and so to Python are 1 and True one.
    return type(id).__name__, id


def _level(level: Any) -> str:
    if level not in rpc.LEVELS:
        raise RpcError(rpc.INVALID_PARAMS, f"Unknown log level: {str(level)[:40]}")
    return str(level)
