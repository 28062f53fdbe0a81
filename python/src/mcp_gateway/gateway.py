"""``MCPGateway``: a gateway whose tools are functions of this very program.

The gateway itself is the program ``mcp-gateway``, started as a child. It reaches the functions by
a Unix socket (``door``) through one more backend in its config, a relay. So this process never
sees a client's bytes, and what a client sees is what every other client of the gateway sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from . import binary, config
from ._types import GatewayConfig, ServerConfig
from .binary import GatewayError
from .config import Original
from .door import Door
from .function import Function
from .loading import Loader, Source
from .runner import Runner
from .toolset import ToolSet
from .wire import hold_back_stdout, keep_for_protocol

__all__ = ["GatewayError", "MCPGateway"]

_DRAIN = 12.0
"""Seconds for the gateway to end by itself: it gives calls in flight ten."""


class MCPGateway:
    """Servers and functions behind one endpoint.

        gw = MCPGateway()
        gw.register_tool(add)
        await gw.serve_stdio()
    """

    def __init__(
        self,
        config: GatewayConfig | None = None,
        *,
        name: str = "mcp-gateway",
        backend: Mapping[str, Any] | None = None,
    ) -> None:
        """``backend`` holds further keys of the config entry that stands for the functions, such
        as ``{"timeouts": {"call": "10m"}}``."""
        hold_back_stdout()
        self._config = config or GatewayConfig()
        self._name = name
        self._backend = dict(backend or {})
        self._server_configs: dict[str, ServerConfig] = {
            name: server for name, server in self._config.servers.items() if server.enabled
        }
        self._tools = ToolSet()
        self._original: Original | None = None
        self._took_plugins = False
        self._children: set[asyncio.subprocess.Process] = set()
        self._url: asyncio.Future[str] | None = None
        self._load(plugin.module for plugin in self._config.plugins)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> MCPGateway:
        """A gateway from a config file. Its plugins are loaded into this process."""
        gateway = cls()
        original = Original(binary.find(), Path(path))
        gateway._original = original
        if modules := original.plugins:
            gateway._took_plugins = True
            gateway._load(modules, [str(original.path.parent)])
        return gateway

    # ---- what it offers ----

    def register_tool(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Makes a function a tool. A name that is taken already goes to this one."""
        # Hints that are strings may name what was imported where this is called, as inside `main`.
        names = dict(sys._getframe(1).f_locals)
        function = Function(
            fn, plugin=_module(fn), name=name, description=description, names=names
        )
        self._tools.add(function, replace=True)

    def add_server(
        self,
        name: str,
        command: str,
        args: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        enabled: bool = True,
        lazy: bool = True,
        **options: Any,
    ) -> None:
        """Adds a server. ``options`` are keys as in the config file: ``cwd``, ``prefix``, …"""
        if enabled:
            variables = dict(env) if env else None
            server = ServerConfig(command, list(args), variables, enabled, lazy, options)
            self._server_configs[name] = server

    # ---- serving ----

    async def serve_stdio(self, *, log: str | None = None) -> None:
        """Serves this process' stdin and stdout until their end. ``print`` goes to stderr."""
        if _Stdio.state == "ended":
            return  # its end has been read
        with _Stdio.taken() as (stdin, stdout), self._opened() as path:
            program = str(binary.find())
            arguments = [program, "stdio", "-c", str(path), *(["--log", log] if log else [])]
            await self._run(arguments, stdin=stdin, stdout=stdout)

    async def serve_http(
        self,
        host: str = "127.0.0.1",
        port: int = 8765,
        *,
        socket: str | os.PathLike[str] | None = None,
        insecure_no_auth: bool = False,
        log: str | None = None,
    ) -> None:
        """Serves Streamable HTTP at ``/mcp`` and HTTP+SSE at ``/sse`` until it is cancelled.

        On a loopback address only processes of the same user are served. Any other address needs
        ``insecure_no_auth=True``, and serves everyone who reaches it.
        """
        if self._url is not None and self._url.done():
            self._url = None
        sys.stdout.flush()
        url = self._address()
        try:
            with self._opened() as path:
                program = [str(binary.find()), "serve", "-c", str(path)]
                program += ["--host", host, "--port", str(port)]
                program += ["--socket", os.fspath(socket)] if socket else []
                program += ["--insecure-no-auth"] if insecure_no_auth else []
                program += ["--log", log] if log else []
                leash = str(Path(__file__).with_name("leash.py"))
                leashed = [sys.executable, "-I", "-S", leash, str(os.getpid()), *program]
                with _watched(url) as stderr:
                    await self._run(leashed, stdin=asyncio.subprocess.DEVNULL, stderr=stderr)
        finally:
            if not url.done():
                url.set_exception(GatewayError("the gateway ended before it listened"))
                url.exception()  # nobody has to wait for it

    async def serve_sse(
        self, host: str = "127.0.0.1", port: int = 8765, *, insecure_no_auth: bool = False
    ) -> None:
        """Serves as :meth:`serve_http`, which has both transports."""
        await self.serve_http(host, port, insecure_no_auth=insecure_no_auth)

    async def listening(self) -> str:
        """Waits until ``serve_http`` listens: the address, such as ``http://127.0.0.1:8765``."""
        return await asyncio.shield(self._address())

    def _address(self) -> asyncio.Future[str]:
        if self._url is None:
            self._url = asyncio.get_running_loop().create_future()
        return self._url

    async def close(self) -> None:
        """Ends what is being served."""
        await asyncio.gather(*(_end(child) for child in list(self._children)))

    async def __aenter__(self) -> MCPGateway:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- how ----

    @contextlib.contextmanager
    def _opened(self) -> Any:
        """The socket, and the config that leads to it, for as long as the gateway runs."""
        runner = Runner(loop=asyncio.get_running_loop())
        door = Door(self._tools, runner, self._name)
        try:
            yield self._write_config(door)
        finally:
            door.close()

    def _write_config(self, door: Door) -> Path:
        servers = {name: config.entry(server) for name, server in self._server_configs.items()}
        if len(self._tools) or self._original is None:
            taken = {*servers, *(self._original.servers if self._original else [])}
            name = next(n for n in _names("python") if n not in taken)
            servers = {name: {**_relayed(door.path), **self._backend}, **servers}
        if self._original is not None:
            if not servers:
                return self._original.path
            return self._original.spliced(
                door.folder, servers, without_plugins=self._took_plugins
            )
        path = door.folder / "gateway.yaml"
        config.write_private(path, config.whole(self._name, self._config, servers))
        return path

    async def _run(self, arguments: list[str], **pipes: Any) -> None:
        environment = dict(os.environ)
        if self._original is not None:
            # Its plugins are looked for where the file is, and the copy is somewhere else. Servers
            # do not get this variable.
            paths = [str(self._original.path.parent), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        child = await asyncio.create_subprocess_exec(*arguments, env=environment, **pipes)
        self._children.add(child)
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            await asyncio.shield(_end(child))
            raise
        finally:
            self._children.discard(child)
        if status > 0 and status != 130:
            raise GatewayError(f"the gateway ended with status {status}; its log says why")

    def _load(self, modules: Iterable[str], search: list[str] | None = None) -> None:
        known = len(self._tools.problems)
        Loader(self._tools, search).load([Source("module", module) for module in modules])
        for problem in self._tools.problems[known:]:
            import logging

            logging.getLogger("mcp_gateway").error("%s", problem)

    # ---- what programs written for mcp-unify reach for ----

    @property
    def _plugin_tools(self) -> dict[str, dict[str, Any]]:
        return {
            f.name: {
                "fn": f.call, "description": f.description,
                "inputSchema": f.definition["inputSchema"],
            }
            for f in self._tools.all()
        }

    def _rebuild_tool_defs(self) -> None:
        """Nothing to do: the gateway asks."""


def _relayed(path: Path) -> dict[str, Any]:
    """The backend that leads here. `session`: each client asks and is asked in its own words."""
    relay = str(Path(__file__).with_name("relay.py"))
    return {
        "command": sys.executable, "args": ["-I", "-S", relay, str(path)],
        "prefix": "", "share": "session",
    }


def _names(name: str) -> Iterable[str]:
    yield name
    count = 1
    while True:
        count += 1
        yield f"{name}{count}"


def _module(fn: Callable[..., Any]) -> str:
    module = getattr(fn, "__module__", None) or "python"
    if module == "__main__" and (path := getattr(sys.modules["__main__"], "__file__", None)):
        return Path(path).stem
    return str(module)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Asks it to end, and after a while makes it."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _DRAIN)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


class _Stdio:
    """This process' stdin and stdout, which one gateway can have, once."""

    state = "free"

    @classmethod
    @contextlib.contextmanager
    def taken(cls) -> Any:
        """For the gateway; ours are empty input and the log from now on.

        For good: what is printed after the gateway has ended would still reach its client.
        """
        if cls.state == "taken":
            raise GatewayError("another gateway of this program serves its stdin and stdout")
        cls.state = "taken"
        stdin, stdout = keep_for_protocol()
        try:
            yield stdin, stdout
        finally:
            cls.state = "ended"
            os.close(stdin)
            os.close(stdout)


@contextlib.contextmanager
def _watched(url: asyncio.Future[str]) -> Any:
    """A pipe for the gateway's log. A thread passes it on, and finds the address in it."""
    loop = url.get_loop()
    source, sink = os.pipe()

    def told(address: str) -> None:
        if not url.done():
            url.set_result(address)

    def pass_on() -> None:
        with open(source, "rb") as lines:  # noqa: PTH123 (a descriptor)
            for line in lines:
                with contextlib.suppress(OSError):
                    os.write(2, line)
                if found := re.search(rb"listening on (http://[^/\s]+)", line):
                    with contextlib.suppress(RuntimeError):
                        loop.call_soon_threadsafe(told, found[1].decode())

    threading.Thread(target=pass_on, name="log", daemon=True).start()
    try:
        yield sink
    finally:
        os.close(sink)
