"""A client of bare JSON-RPC lines, for what the official client cannot say or would not do."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from conftest import HERE, host

META = "io.modelcontextprotocol/"
MODERN = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}
PATIENCE = 20


class Raw:
    """One server. Every line of its stdout must be JSON; what it logs is kept and waited for."""

    def __init__(self, command: list[str], **options: Any) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE), **options.pop("env", {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, **options,
        )
        self._messages: queue.Queue[Any] = queue.Queue()
        self._log: list[str] = []
        self._logged = threading.Condition()
        self._seen: list[Any] = []
        self._ids = 100
        self.meta: dict[str, Any] | None = None
        for target in (self._read, self._read_log):
            threading.Thread(target=target, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _read_log(self) -> None:
        for line in self.process.stderr:  # type: ignore[union-attr]
            with self._logged:
                self._log.append(line.decode(errors="replace"))
                self._logged.notify_all()

    @property
    def log(self) -> str:
        with self._logged:
            return "".join(self._log)

    def wait_log(self, text: str) -> None:
        with self._logged:
            found = self._logged.wait_for(lambda: text in "".join(self._log), PATIENCE)
        assert found, f"no {text!r} in the log:\n{self.log}"

    def send(self, message: Any) -> None:
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(line + b"\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def next(self) -> Any:
        return self._messages.get(timeout=PATIENCE)

    def notify(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def start(self, method: str, **params: Any) -> int:
        self._ids += 1
        if self.meta is not None:
            params["_meta"] = {**self.meta, **params.get("_meta", {})}
        self.send({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        return self._ids

    def answer(self, id: Any) -> Any:
        """The answer to a request; other messages are kept for ``others``."""
        for message in self._seen:
            if message.get("id") == id and "method" not in message:
                self._seen.remove(message)
                return message
        while True:
            message = self.next()
            assert message is not None, f"it ended\n{self.log}"
            if message.get("id") == id and "method" not in message:
                return message
            self._seen.append(message)

    def others(self) -> list[Any]:
        seen, self._seen = self._seen, []
        return seen

    def request(self, method: str, **params: Any) -> Any:
        return self.answer(self.start(method, **params))

    def call(self, name: str, /, **arguments: Any) -> Any:
        return self.request("tools/call", name=name, arguments=arguments)

    def text(self, name: str, /, **arguments: Any) -> str:
        answer = self.call(name, **arguments)
        return "\n".join(b.get("text", "") for b in answer["result"]["content"])

    def open(self, era: str, capabilities: dict[str, Any] | None = None) -> Raw:
        capabilities = capabilities or {}
        if era == "legacy":
            self.request(
                "initialize", protocolVersion="2025-11-25", capabilities=capabilities,
                clientInfo={"name": "raw", "version": "1"},
            )
            self.notify("notifications/initialized")
        else:
            self.meta = {
                f"{META}protocolVersion": era, f"{META}clientCapabilities": capabilities,
                f"{META}clientInfo": {"name": "raw", "version": "1"},
            }
        return self

    def close(self) -> int:
        self.process.stdin.close()  # type: ignore[union-attr]
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def raw(*arguments: str, command: list[str] | None = None, **options: Any) -> Iterator[Raw]:
    server = Raw(command or host(*arguments), **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(PATIENCE)
