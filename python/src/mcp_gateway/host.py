"""``python -m mcp_gateway.host``: the plugins of a gateway as one MCP server on stdin and stdout.

Loads what the command line names, in the order given, and serves it until the end of the input or
of its parent. With ``--list`` it prints what it loaded as JSON instead. Knows no gateway: any MCP
client can run it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from . import __version__
from .lifeline import parent
from .loading import Loader, Source
from .toolset import ToolSet
from .wire import LINE, Output, keep_for_protocol, lines

FORMAT = 1
"""Of what ``--list`` prints; changed when its meaning is."""

_GRACE = 1.0


class _Add(argparse.Action):
    """Collects ``--module``, ``--file`` and ``--dir`` in the order in which they were given."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        kind = (option_string or "--module").lstrip("-")
        namespace.sources = [*namespace.sources, Source(kind, str(values))]


def _size(text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30}
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in units else (text, "")
    if not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no size; write a number, 512K, 8M or 1G")
    return int(number) << units.get(unit, 0)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mcp_gateway.host",
        description="Serve functions marked with @tool as an MCP server on stdin and stdout.",
        epilog="What cannot be loaded is told on stderr and in the result of tools/list; "
        "the rest is served.",
    )
    add = parser.add_argument
    parser.set_defaults(sources=[])
    add("--module", action=_Add, metavar="NAME", help="a module, such as my_tools.text")
    add("--file", action=_Add, metavar="PATH", help="a file with tools")
    add("--dir", action=_Add, metavar="PATH", help="every *.py in a folder but _* and test_*")
    add("--search", action="append", default=[], metavar="PATH",
        help="a folder to look for modules in, before PYTHONPATH")
    add("--name", default="plugins", help="what it calls itself to clients (default: plugins)")
    add("--max-line", type=_size, default=LINE, metavar="SIZE",
        help="the largest message in either direction (default: 8M)")
    add("--threads", type=int, default=64, metavar="N",
        help="plain functions that may run at once (default: 64)")
    add("--list", action="store_true", help="print what is loaded as JSON, and serve nothing")
    options = parser.parse_args(argv)
    if not options.sources:
        parser.error("name at least one --module, --file or --dir")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    # Before any plugin runs, so that nothing that it prints gets into the protocol.
    real_in, real_out = keep_for_protocol()
    tools = ToolSet(ready=False)
    if options.list:
        loader = _load(tools, options)
        with open(real_out, "w", encoding="utf-8") as out:  # noqa: PTH123 (a descriptor)
            out.write(json.dumps(listing(tools, loader)) + "\n")
        return 1 if tools.problems else 0
    return _serve(tools, options, real_in, real_out)


def _load(tools: ToolSet, options: argparse.Namespace) -> Loader:
    loader = Loader(tools, options.search)
    loader.load(options.sources)
    for problem in tools.problems:
        sys.stderr.write(f"mcp-gateway: {problem}\n")
    return loader


def listing(tools: ToolSet, loader: Loader) -> dict[str, Any]:
    """All that a gateway needs to show plugins without running them."""
    return {
        "format": FORMAT,
        "version": __version__,
        "python": sys.executable,
        "tools": [
            {"plugin": f.plugin, "function": f.own_name, "definition": f.definition}
            for f in tools.all()
        ],
        "problems": [problem.as_json() for problem in tools.problems],
        "files": loader.files,
    }


def _serve(tools: ToolSet, options: argparse.Namespace, real_in: int, real_out: int) -> int:
    from .runner import Runner
    from .session import Session

    runner = Runner(limit=options.threads)
    output = Output(real_out)
    session = Session(
        tools, runner, output, name=options.name, version=__version__, limit=options.max_line
    )
    over = threading.Event()
    loaded = threading.Event()

    def read() -> None:
        try:
            session.serve(lines(real_in, options.max_line, parent()))
        finally:
            session.close()
            over.set()
            # A plugin that hangs while it is imported, or at exit, does not keep us here.
            _leave(after=_GRACE if loaded.is_set() else 0.0)

    threading.Thread(target=read, name="protocol", daemon=True).start()
    _load(tools, options)
    loaded.set()
    tools.ready()
    over.wait()
    runner.finish(_GRACE / 2)
    output.flush(_GRACE / 2)
    return 0


def _leave(after: float) -> None:
    ended = threading.Event()
    ended.wait(after)
    os._exit(0)


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    raise SystemExit(status)
