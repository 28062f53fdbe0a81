"""The config file that a program's gateway is started with.

Without a file of the user's it is written whole. With one, the program's own servers are put into
a copy of its text, which is not parsed and written anew, so that all of it keeps its meaning; the
gateway itself then says whether the copy means what the original does.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from ._types import GatewayConfig, ServerConfig
from .binary import GatewayError

Entries = dict[str, dict[str, Any]]


def entry(server: ServerConfig) -> dict[str, Any]:
    """A server as the file writes it."""
    out: dict[str, Any] = {"command": server.command, "args": [str(a) for a in server.args]}
    if server.env:
        out["env"] = {name: _literal(str(value)) for name, value in server.env.items()}
    if not server.enabled:
        out["enabled"] = False
    if not server.lazy:
        out["lazy"] = False
    return {**out, **server.options}


def _literal(value: str) -> str:
    """A value that the gateway does not expand: a program has expanded what it wants expanded."""
    return re.sub(r"\$(?=[A-Za-z_{])", "${MCP_GATEWAY_NO_SUCH_VARIABLE:-$}", value)


def whole(name: str, config: GatewayConfig, servers: Entries) -> str:
    """A config from nothing, as JSON, which is YAML."""
    out: dict[str, Any] = {
        "name": name, "idle_timeout": config.idle_timeout, "servers": servers,
    }
    if config.roles:
        out["roles"] = config.roles
    return json.dumps(out, indent=1)


class Original:
    """The user's file, and what the gateway understands by it."""

    def __init__(self, binary: Path, path: Path) -> None:
        self.path = path.absolute()
        self._binary = binary
        self._print = printed(binary, self.path)

    @property
    def plugins(self) -> list[str]:
        """Its plugins, if each is no more than a module; else they are the gateway's to run."""
        modules = []
        for line in _block(self._print, "plugins"):
            match = re.match(r"^- (?:module: )?(?:'(.*)'|([^\s'\":{\[]+))$", line)
            if not match:
                return []
            modules.append((match[1] or match[2]).replace("''", "'"))
        return modules

    @property
    def servers(self) -> list[str]:
        names = (re.match(r"^  (\S.*):$", line) for line in _block(self._print, "servers"))
        return [name[1].strip("'") for name in names if name]

    def spliced(self, folder: Path, servers: Entries, *, without_plugins: bool) -> Path:
        """A copy in ``folder`` that has these servers too."""
        text = self.path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("{"):
            text = self._in_json(text, servers, without_plugins)
        else:
            if without_plugins:
                text = _without(text, "plugins")
            text = _with_servers(_with_absolute_folders(text, self.path.parent), servers)
        copy = folder / self.path.name
        write_private(copy, text)
        # The original has no error, so one in the copy is the splice's.
        same: list[str] = []
        with contextlib.suppress(GatewayError):
            same = _compared(printed(self._binary, copy), set(servers), without_plugins)
        if same != _compared(self._print, set(), without_plugins):
            raise GatewayError(
                f"{self.path}: the program's tools cannot be added to this file; write `servers:` "
                "and `plugins:` at the start of a line, each entry on lines of its own, and the "
                "paths of plugins in full"
            )
        return copy

    def _in_json(self, text: str, servers: Entries, without_plugins: bool) -> str:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise GatewayError(f"{self.path}: begins as JSON and is none: {error}") from None
        for server in data.get("servers", {}).values():
            folder = server.get("cwd")
            if folder and not folder.startswith(("/", "~")):
                server["cwd"] = str(self.path.parent / folder)
        data["servers"] = {**servers, **(data.get("servers") or {})}
        if without_plugins:
            data.pop("plugins", None)
        return json.dumps(data, indent=1)


def printed(binary: Path, path: Path) -> str:
    """The config in force. Raises :class:`GatewayError` with every problem that it has."""
    done = subprocess.run(
        [binary, "check", "--print", "-c", path],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )
    if done.returncode:
        raise GatewayError(done.stderr.strip() or f"{path}: the gateway refuses it")
    return done.stdout


def write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


# ---- what the gateway prints: always blocks, two spaces a level ----


def _block(text: str, key: str) -> list[str]:
    lines = text.split("\n")
    if f"{key}:" not in lines:
        return []
    start = end = lines.index(f"{key}:") + 1
    while end < len(lines) and lines[end].startswith((" ", "-")):
        end += 1
    return lines[start:end]


def _compared(text: str, added: set[str], without_plugins: bool) -> list[str]:
    """What must be the same before and after: all but the servers that were added, and plugins
    that were taken out."""
    out: list[str] = []
    top, skip = "", False
    for line in text.split("\n"):
        if line[:1] not in (" ", "-"):
            top = line.split(":")[0]
            line = line.removesuffix(" {}").removesuffix(" []")
            skip = False
        elif top == "servers" and re.match(r"^  \S", line):
            skip = line.strip().rstrip(":").strip("'") in added
        if not skip and not (without_plugins and top == "plugins"):
            out.append(line.replace("/./", "/"))
    return out


# ---- the user's own text ----


def _top(text: str, key: str) -> re.Match[str] | None:
    return re.search(rf"^([\"']?){key}\1[ \t]*:", text, re.MULTILINE)


def _without(text: str, key: str) -> str:
    """Comments a key at the top out, with all that belongs to it; lines keep their numbers."""
    found = _top(text, key)
    if not found:
        return text
    lines = text[found.start() :].split("\n")
    end = 1
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith((" ", "-", "#"))):
        end += 1
    lines[:end] = [f"# {line}" for line in lines[:end]]
    return text[: found.start()] + "\n".join(lines)


def _with_servers(text: str, servers: Entries) -> str:
    """Puts entries before the others: the first server that has a name keeps it."""
    found = _top(text, "servers")
    written = [f"{json.dumps(n)}: {json.dumps(e)}" for n, e in servers.items()]
    if not found:
        # A stream may end with `...`, after which nothing may stand.
        text = re.sub(r"^\.\.\.\s*$", "", text, flags=re.MULTILINE)
        return "\n".join([text.rstrip("\n"), "servers:", *(f"  {line}" for line in written), ""])
    after = text[found.end() :]
    if flow := re.match(r"[ \t]*\{", after):
        at = found.end() + flow.end()
        return f"{text[:at]}{', '.join(written)}, {text[at:]}"
    line_end = found.end() + (after.index("\n") + 1 if "\n" in after else len(after))
    rest = text[line_end:]
    child = re.search(r"^(?:[ \t]*(?:#.*)?\n)*([ ]+)\S", rest)
    indent = child[1] if child and not child[0].lstrip().startswith("#") else "  "
    head = text[:line_end] if text[:line_end].endswith("\n") else f"{text[:line_end]}\n"
    head = re.sub(r"(servers[\"']?[ \t]*:)[ \t]*(?:null|~)[ \t]*\n$", r"\1\n", head)
    return head + "".join(f"{indent}{line}\n" for line in written) + rest


def _with_absolute_folders(text: str, folder: Path) -> str:
    """A relative ``cwd`` begins where the file is, and the copy is somewhere else."""

    def replaced(match: re.Match[str]) -> str:
        value = match[2].strip("\"'")
        if value.startswith(("/", "~")) or value in ("null", ""):
            return match[0]
        return f"{match[1]}{json.dumps(str(folder / value))}"

    return re.sub(r"(\bcwd:[ \t]*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s#,}]+)", replaced, text)
