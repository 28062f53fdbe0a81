"""``MCPGateway`` with the real gateway, by the official client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from conftest import HERE, client, run_python, text
from raw import PATIENCE, Raw, raw

from mcp_gateway import GatewayError, MCPGateway, binary
from mcp_gateway import config as configs
from mcp_gateway._types import GatewayConfig, PluginConfig, ServerConfig

PROGRAM = [sys.executable, str(HERE / "plugins/program.py")]
MINI = str(HERE / "plugins/mini_server.py")

pytestmark = pytest.mark.usefixtures("gateway_binary")


async def _elicit(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"value": "Ada"})


async def _roots(_: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///home/ada")])


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_everything_over_stdio(mode: str) -> None:
    callbacks = {"elicitation_callback": _elicit, "list_roots_callback": _roots}

    async def main() -> None:
        steps: list[float] = []

        async def progress(done: float, *_: Any) -> None:
            steps.append(done)

        async with client([*PROGRAM, f"server={MINI}"], mode, **callbacks) as connected:
            names = [t.name for t in (await connected.list_tools()).tools]
            assert names == [
                "plus", "where", "asks", "counts", "waits", "picture", "adds_a_tool", "word_count",
                "other_env", "gateway_status",
            ]
            plus = await connected.call_tool("plus", {"a": 1, "b": 2.5})
            assert plus.structured_content == {"result": 3.5}
            assert text(await connected.call_tool("asks")) == "Ada /home/ada"
            counted = await connected.call_tool("counts", {"n": 3}, progress_callback=progress)
            assert (text(counted), steps) == ("counted", [1, 2, 3])
            assert (await connected.call_tool("picture")).content[0].mime_type == "image/png"
            assert text(await connected.call_tool("word_count", {"text": "a b c"})) == "3"
            refused = await connected.call_tool("plus", {"a": "x", "b": 1})
            assert refused.is_error and "a: expected a number" in text(refused)
            told = json.loads(text(await connected.call_tool("other_env")))
            assert told["price"] == "$HOME ${X} 5$", "as the program gave it"

    anyio.run(main)


def opened(*arguments: str, **options: Any) -> Any:
    return raw(command=[*PROGRAM, *arguments], **options)


def test_functions_run_in_the_program_and_prints_go_to_the_log() -> None:
    with opened() as server:
        server.open("legacy")
        here = server.call("where")["result"]["structuredContent"]["pid"]
        assert f"Registered 8 tools, pid {here}" in server.log and here == server.process.pid
        assert server.close() == 0
        server.wait_log("served")
        assert server.next() is None, "nothing but the protocol was on stdout"


def test_a_cancellation_reaches_the_programs_loop() -> None:
    with opened() as server:
        server.open("legacy")
        id = server.start("tools/call", name="waits")
        server.wait_log("waiting")
        server.notify("notifications/cancelled", requestId=id)
        server.wait_log("cancelled in the program")


def test_a_tool_that_is_added_later_is_told_of() -> None:
    with opened() as server:
        server.open("legacy")
        server.request("tools/list")
        server.call("adds_a_tool")
        while server.next().get("method") != "notifications/tools/list_changed":
            pass
        listed = server.request("tools/list")["result"]["tools"]
        assert "brand_new" in [tool["name"] for tool in listed]
        assert server.text("brand_new") == "new"


def test_everything_ends_with_the_program() -> None:
    """Killed, it takes along a gateway that serves the network, which no client would end."""
    with opened("http=1") as server:
        server.wait_log("url http://127.0.0.1:")
        pid = server.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert Path(f"/proc/{child}/comm").read_text() == "mcp-gateway\n"
        gateway = os.pidfd_open(int(child))
        server.process.send_signal(signal.SIGKILL)
        ended, _, _ = select.select([gateway], [], [], PATIENCE)
        os.close(gateway)
        assert ended


def test_over_http_and_sse() -> None:
    async def talk(url: str) -> None:
        from mcp import Client
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client

        for transport in (streamable_http_client(f"{url}/mcp"), sse_client(f"{url}/sse")):
            async with Client(transport, mode="legacy") as connected:
                result = await connected.call_tool("plus", {"a": 1, "b": 1})
                assert result.structured_content == {"result": 2}

    async def main() -> None:
        def plus(a: int, b: int) -> int:
            return a + b

        async with MCPGateway() as gateway:
            gateway.register_tool(plus)
            serving = asyncio.create_task(gateway.serve_sse(port=0))
            await talk(await gateway.listening())
        await serving

    asyncio.run(main())


def test_two_clients_at_once_are_two_conversations() -> None:
    async def main() -> None:
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        from mcp_gateway import Context

        barrier = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

        async def ask(ctx: Context) -> str:
            if barrier:
                await barrier.wait()
            return str((await ctx.elicit("Who?", str)).data)

        async def one(url: str, name: str) -> None:
            async def elicit(*_: Any) -> types.ElicitResult:
                return types.ElicitResult(action="accept", content={"value": name})

            transport = streamable_http_client(f"{url}/mcp")
            async with Client(transport, mode="legacy", elicitation_callback=elicit) as connected:
                assert text(await connected.call_tool("ask")) == name

        gateway = MCPGateway()
        gateway.register_tool(ask)
        serving = asyncio.create_task(gateway.serve_http(port=0))
        url = await gateway.listening()
        await asyncio.gather(one(url, "ada"), one(url, "bob"))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())


CONFIGS = {
    "block": """\
        # a comment
        name: team
        idle_timeout: 60
        servers:   # the servers
          # first
          mini:
            command: {python}
            args: ["{mini}"]
            cwd: ./sub
            env: {{PRICE: "${{PRICE_IN_ENV}}"}}
        plugins:
          - config_plugin
          - module: config_plugin
        roles: {{all: null}}
        """,
    "flow": '{{"servers": {{"mini": {{"command": "{python}", "args": ["{mini}"], "cwd": "sub", '
            '"env": {{"PRICE": "${{PRICE_IN_ENV}}"}}}}}}, "plugins": ["config_plugin"]}}',
    "mixed": """\
        servers: {{mini: {{command: "{python}", args: ["{mini}"], cwd: sub, env: {{PRICE: "${{PRICE_IN_ENV}}"}}}}}}
        plugins: [config_plugin]
        """,
    "anchors": """\
        x-python: &python {{command: "{python}", cwd: 'sub'}}
        plugins:
        - config_plugin
        "servers":
            mini:
                <<: *python
                args: ["{mini}"]
                env:
                    PRICE: "${{PRICE_IN_ENV}}"
        """,
}


@pytest.mark.parametrize("form", CONFIGS)
def test_from_a_config_file_with_tools_added(form: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config_plugin.py").write_text(
        "from mcp_gateway import tool\n@tool\ndef from_config() -> str:\n    return 'here'\n"
    )
    text = textwrap.dedent(CONFIGS[form]).format(python=sys.executable, mini=MINI)
    (tmp_path / "gateway.yaml").write_text(text)
    config = f"config={tmp_path / 'gateway.yaml'}"
    with opened(config, env={"PRICE_IN_ENV": "7"}) as server:
        server.open("legacy")
        names = [tool["name"] for tool in server.request("tools/list")["result"]["tools"]]
        assert names[:2] == ["from_config", "plus"] and "mini_env" in names
        assert server.text("from_config") == "here"
        told = json.loads(server.text("mini_env"))
        assert told == {"price": "7", "cwd": str(tmp_path / "sub")}


def test_plugins_with_words_of_their_own_are_the_gateways_to_run(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "from mcp_gateway import tool\n@tool\ndef here() -> str:\n    return 'beside the file'\n"
    )
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"servers: {{}}\nplugins:\n- {{module: beside, prefix: p_, python: {sys.executable}}}\n"
    )
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "import asyncio\nfrom mcp_gateway import MCPGateway\n\n"
        "def plus(a: int, b: int) -> int:\n    return a + b\n\n"
        f"gw = MCPGateway.from_config({str(config)!r})\ngw.register_tool(plus)\n"
        "asyncio.run(gw.serve_stdio())\n"
    )
    with raw(command=[sys.executable, str(program)], cwd=program.parent) as server:
        server.open("legacy")
        assert server.text("p_here") == "beside the file"
        assert server.text("plus", a=1, b=2) == "3"


def test_a_config_with_errors_is_told_with_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("servers:\n  x: {}\n")
    with pytest.raises(GatewayError, match=rf"{path}:2:3: servers.x: has no command"):
        MCPGateway.from_config(path)


def test_a_file_that_cannot_be_added_to_says_so(tmp_path: Path, gateway_binary: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text('x-a: &a\n  mini: {command: "true"}\nservers: *a\n')
    original = configs.Original(Path(gateway_binary), path)
    assert original.servers == ["mini"]
    with pytest.raises(GatewayError, match="cannot be added to this file"):
        original.spliced(tmp_path / "..", {"python": {"command": "x"}}, without_plugins=False)


def test_paths_of_plugins_that_would_lead_elsewhere_are_refused(
    tmp_path: Path, gateway_binary: str
) -> None:
    path = tmp_path / "gateway.yaml"
    for entry, fits in [("tools/x.py", False), (f"{tmp_path}/tools/x.py", True)]:
        path.write_text(f"servers: {{}}\nplugins:\n- {{file: {entry}}}\n")
        original = configs.Original(Path(gateway_binary), path)
        (tmp_path / "copy").mkdir(exist_ok=True)
        with contextlib.nullcontext() if fits else pytest.raises(GatewayError, match="in full"):
            original.spliced(tmp_path / "copy", {"x": {"command": "y"}}, without_plugins=False)


def test_a_missing_program_is_told_with_the_remedy(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.delenv(binary.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binary.sysconfig, "get_path", lambda _: str(tmp_path / "none"))
    with pytest.raises(GatewayError, match="not installed .* set MCP_GATEWAY_BIN"):
        asyncio.run(MCPGateway().serve_http(port=0))
    other = tmp_path / "mcp-gateway"
    other.write_text("#!/bin/sh\necho mcp-gateway 1.2.1\n")
    other.chmod(0o755)
    with pytest.raises(GatewayError, match="is another program of that name"):
        binary.find()
    monkeypatch.setenv(binary.VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(GatewayError, match="there is no such program"):
        binary.find()


def test_the_program_is_found_beside_the_scripts_and_in_path(
    monkeypatch: Any, tmp_path: Path, gateway_binary: str
) -> None:
    monkeypatch.delenv(binary.VARIABLE)
    link = tmp_path / "mcp-gateway"
    link.symlink_to(Path(gateway_binary).absolute())
    monkeypatch.setattr(binary.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert binary.find() == link
    monkeypatch.setattr(binary.sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert binary.find() == link
    done = run_python("-m", "mcp_gateway", "--version")
    assert done.returncode == 0 and done.stdout.startswith("mcp-gateway ")


def test_what_was_said_to_a_decorator_is_kept() -> None:
    from plugins.program import add

    gateway = MCPGateway()
    gateway.register_tool(add)
    assert gateway._plugin_tools["plus"]["description"] == "Add two numbers"
    gateway.register_tool(add, name="mine", description="Mine")
    assert gateway._plugin_tools["mine"]["description"] == "Mine"
    gateway.register_tool(lambda: 2, name="mine")
    assert gateway._plugin_tools["mine"]["fn"]() == 2, "the later one has the name"
    with pytest.raises(TypeError, match="give it one"):
        gateway.register_tool(lambda: 1)


def test_a_config_of_a_program(tmp_path: Path, gateway_binary: str) -> None:
    config = GatewayConfig(
        servers={"s": ServerConfig("true", ["$HOME"], {"K": "$HOME"}), "off": ServerConfig("x", enabled=False)},
        roles={"r": ["s_*"]}, idle_timeout=5,
    )
    path = tmp_path / "c.yaml"
    servers = {name: configs.entry(server) for name, server in config.servers.items()}
    configs.write_private(path, configs.whole("n", config, servers))
    assert path.stat().st_mode & 0o777 == 0o600
    shown = configs.printed(Path(gateway_binary), path)
    assert "name: n" in shown and "- s_*" in shown and "enabled: false" in shown


def test_a_plugin_that_fails_to_load_is_logged(caplog: Any) -> None:
    MCPGateway(GatewayConfig(plugins=[PluginConfig("no.such.plugin")]))
    assert "plugin no.such.plugin: there is no module no " in caplog.text


def test_the_socket_is_ours_alone_and_goes_away(tmp_path: Path, monkeypatch: Any) -> None:
    from mcp_gateway.door import Door
    from mcp_gateway.runner import Runner
    from mcp_gateway.toolset import ToolSet

    door = Door(ToolSet(), Runner(), "x")
    assert door.folder.stat().st_mode & 0o777 == 0o700
    relay = Raw([sys.executable, "-m", "mcp_gateway.relay", str(door.path)])
    assert relay.request("ping")["result"] == {}
    door.close()
    assert relay.next() is None and relay.process.wait(PATIENCE) == 0
    assert not door.folder.exists()
    late = subprocess.run([sys.executable, "-m", "mcp_gateway.relay", str(door.path)],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert late.returncode == 69 and "it has ended" in late.stderr
    assert os.getpid()


def test_the_host_as_a_server_of_the_gateway(gateway_binary: str, tmp_path: Path) -> None:
    """How docs/plugins.md begins: plugins in a gateway.yaml, each client asked in its own words."""
    arguments = ["-m", "mcp_gateway.host", "--file", str(HERE / "plugins/behaviours.py")]
    entry = {"command": sys.executable, "args": arguments, "prefix": "", "share": "session"}
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"servers": {"plugins": entry}}))

    async def main() -> None:
        steps: list[float] = []

        async def progress(done: float, *_: Any) -> None:
            steps.append(done)

        async def elicit(*_: Any) -> types.ElicitResult:
            return types.ElicitResult(action="accept", content={"name": "Ada"})

        command = [gateway_binary, "stdio", "-c", str(path)]
        callbacks = {"elicitation_callback": elicit, "list_roots_callback": _roots}
        async with client(command, "auto", **callbacks) as connected:
            added = await connected.call_tool("add", {"a": 1, "b": 2})
            assert added.structured_content == {"result": 3}
            assert text(await connected.call_tool("prints")) == "no input"
            await connected.call_tool("counts", {"n": 2}, progress_callback=progress)
            assert steps == [1, 2]
            assert text(await connected.call_tool("asks")).startswith("accept Answer(name='Ada'")
            assert text(await connected.call_tool("looks")) == '["/home/ada"]'
            assert (await connected.call_tool("picture")).content[0].mime_type == "image/png"
            failed = await connected.call_tool("exits")
            assert failed.is_error and "function exits called sys.exit(3)" in text(failed)
            largest = await connected.call_tool("text_of", {"size": (8 << 20) - 2000})
            assert len(text(largest)) == (8 << 20) - 2000
            refused = await connected.call_tool("text_of", {"size": (8 << 20) - 1000})
            assert "larger than 8 MiB" in text(refused)

    anyio.run(main)


def test_a_host_that_dies_is_the_callers_error_and_started_again(
    gateway_binary: str, tmp_path: Path
) -> None:
    arguments = ["-m", "mcp_gateway.host", "--file", str(HERE / "plugins/behaviours.py")]
    entry = {"command": sys.executable, "args": arguments, "prefix": ""}
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"servers": {"plugins": entry}}))
    with raw(command=[gateway_binary, "stdio", "-c", str(path)]) as server:
        server.open("legacy")
        assert server.text("add", a=1, b=2) == "3.0"
        answer = server.call("dies")
        assert "plugins" in json.dumps(answer) and "9" in json.dumps(answer)
        assert server.text("add", a=1, b=2) == "3.0"
