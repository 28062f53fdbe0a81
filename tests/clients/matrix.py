#!/usr/bin/env python3
"""Every feature × client × era of the backend × transport, each with a real client.

    matrix.py [--binary PATH] [--reference PATH] [--only TEXT] [--direct | --all]

The features are `features.py`'s, and each is looked at in every session: a session is one client,
one backend, one way between them. First the expectations themselves are proven, with each client
against the reference backend itself; then through the gateway, in as few sessions as have each
three values together at least once, or with --all in all of them. --direct does only the first.

One line a cell. Cells without a meaning are listed with the reason and count for nothing.
Exit 0 if all features were seen as they have to be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import compare
from features import FEATURES, Cell, Seen, Wrong, meaningless
from run import Gateway

HERE = Path(__file__).resolve().parent
CLIENTS = {
    "python": ("python", "auto"),
    "python-pinned": ("python", "modern"),  # asks no server/discover
    "python-legacy": ("python", "legacy"),
    "ts_v1": ("ts_v1", "legacy"),
    "ts_v2": ("ts_v2", "auto"),
}
BACKENDS = ["legacy", "modern"]
TRANSPORTS = ["stdio", "tcp", "unix"]
LAYERS = ["server", "aggregate"]
SHARES = ["session", "user"]
PAGE = "4"
DEADLINE = 60


def direct_cells() -> list[Cell]:
    """Same era on both sides: a client that can choose against each, the others against their own."""
    return [
        Cell(client, backend, transport, "direct", "session")
        for client, transport, backend in itertools.product(CLIENTS, ["stdio", "tcp"], BACKENDS)
        if client in ("python", "ts_v2") or (backend == "legacy") == (client in ("python-legacy", "ts_v1"))
    ]


def gateway_cells() -> list[Cell]:
    return [Cell(*values) for values in itertools.product(CLIENTS, BACKENDS, TRANSPORTS, LAYERS, SHARES)]


def triples(cell: Cell) -> set[Any]:
    return set(itertools.combinations(vars(cell).items(), 3))


def covering(cells: list[Cell]) -> list[Cell]:
    """Few of the cells, in which each three values meet. Greedy, and always the same.

    Pairs would do with half of them, and have each client with each era over one transport only."""
    missing = set().union(*map(triples, cells))
    chosen = []
    while missing:
        best = max(cells, key=lambda cell: len(triples(cell) & missing))
        chosen.append(best)
        missing -= triples(best)
    return sorted(chosen, key=cells.index)


class Runner:
    def __init__(self, binary: Path, reference: Path, only: str) -> None:
        self.binary, self.reference, self.only = binary, reference, only
        self.echo = binary.parent / "examples/echo"

    def run(self, cell: Cell) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]], float]:
        """The features with what was wrong, if anything; those that have no meaning; the seconds."""
        began = time.monotonic()
        chosen = [one for one in FEATURES if self.only in f"{cell}: {one.name}"]
        none = [(one.name, reason) for one in chosen if (reason := meaningless(one.name, cell))]
        chosen = [one for one in chosen if not meaningless(one.name, cell)]
        prefix = "reference_" if cell.layer == "aggregate" else ""
        steps = [step for one in chosen for step in one.steps(cell)]
        results = []
        try:
            with self.endpoint(cell) as endpoint:
                document = self.drive(cell, endpoint, compare.with_prefix(steps, prefix) if prefix else steps)
        except Exception as problem:
            return [(one.name, f"the session: {problem}") for one in chosen], none, time.monotonic() - began
        for one in chosen:
            try:
                one.check(Seen(cell, prefix, one.name, document))
                results.append((one.name, None))
            except Wrong as wrong:
                results.append((one.name, str(wrong)))
            except (KeyError, TypeError, ValueError, IndexError) as problem:
                results.append((one.name, f"not of the shape that was expected: {type(problem).__name__} {problem}"))
        return results, none, time.monotonic() - began

    def drive(self, cell: Cell, endpoint: Any, steps: list[Any]) -> dict[str, Any]:
        driver, era = CLIENTS[cell.client]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as script:
            json.dump(steps, script)
            script.flush()
            command = [*compare.CLIENTS[driver], "--era", era, "--deadline", str(DEADLINE)]
            command += [json.dumps(endpoint), script.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE + 30)
        if done.returncode and not (done.returncode == 3 and done.stdout):
            raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr[-800:].strip()}")
        return json.loads(done.stdout)

    @contextmanager
    def endpoint(self, cell: Cell) -> Any:
        options = ["--era", cell.backend, "--page-size", PAGE]
        if cell.layer == "direct":
            if cell.transport == "stdio":
                yield {"stdio": [str(self.reference), "stdio", *options]}
            else:
                with self.listening(options) as address:
                    yield {"http": f"http://{address}/mcp"}
            return
        servers = {
            "reference": {"command": str(self.reference), "args": ["stdio", *options], "share": cell.share},
            # So that the aggregate is one. It knows tools only, and only the legacy era.
            "second": {"command": str(self.echo)},
        }
        with tempfile.TemporaryDirectory() as folder:
            gateway = Gateway(self.binary, Path(folder), {"servers": servers})
            kind = {"tcp": "http"}.get(cell.transport, cell.transport)
            if kind == "stdio":
                yield gateway.endpoint(kind, cell.layer, "reference")
                return
            with gateway:
                yield gateway.endpoint(kind, cell.layer, "reference")

    @contextmanager
    def listening(self, options: list[str]) -> Any:
        command = [self.reference, "http", "--port", "0", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                if not (found := re.search(r"listening on (\S+)", line)):
                    raise RuntimeError(f"the backend does not listen: {line!r}")
                yield found[1]
            finally:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    given = os.environ.get("MCP_GATEWAY_BIN", HERE.parents[1] / "target/debug/mcp-gateway")
    parser.add_argument("--binary", type=Path, default=given)
    parser.add_argument("--reference", type=Path, help="the reference backend; examples/ beside the binary")
    parser.add_argument("--only", default="", help="cells whose text holds this")
    parser.add_argument("--jobs", type=int, default=2, help="sessions at once")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--direct", action="store_true", help="no gateway: only prove the expectations")
    which.add_argument("--all", action="store_true", help="every combination")
    args = parser.parse_args()
    binary = args.binary.resolve()
    runner = Runner(binary, (args.reference or binary.parent / "examples/reference-backend").resolve(), args.only)

    through = [] if args.direct else gateway_cells() if args.all else covering(gateway_cells())
    wanted = [
        cell
        for cell in [*direct_cells(), *through]
        if any(args.only in f"{cell}: {one.name}" for one in FEATURES)
    ]
    passed, failed, none = 0, 0, 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for cell, (results, without, took) in zip(wanted, pool.map(runner.run, wanted)):
            for name, wrong in results:
                passed, failed = passed + (wrong is None), failed + (wrong is not None)
                print(f"{'ok    ' if wrong is None else 'FAILED'} {cell}: {name}" + (f"\n    {wrong}" if wrong else ""))
            for name, reason in without:
                none += 1
                print(f"none   {cell}: {name}: {reason}")
            print(f"-- {cell}: {took:.1f} s", flush=True)
    print(f"{len(wanted)} sessions, {none} cells without a meaning")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
