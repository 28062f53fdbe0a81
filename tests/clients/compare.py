#!/usr/bin/env python3
"""Asks a backend and the gateway in front of it the same, with a real client, and compares.

    compare.py CLIENT --backend NAME --work DIR --gateway ENDPOINT [--prefix NAME_]
    compare.py CLIENT --direct ENDPOINT --gateway ENDPOINT --script FILE [--var work=DIR]
    compare.py CLIENT --backend NAME --work DIR --direct-only

CLIENT is python, ts_v1, ts_v2 or inspector. With --backend the direct side is that backend over
stdio, the script is scripts/NAME.json, and the files under DIR are put back before each run.
With --prefix the gateway's endpoint is the aggregate: names are given the prefix on the way there
and lose it on the way back.

Exit: 0 equal, 1 different, 2 the comparison itself failed (a driver died, or the backend on its
own did not do what the script says it does: equal failures are no success).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
import subprocess
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import backends

HERE = Path(__file__).resolve().parent
CLIENTS = {
    "python": [sys.executable, str(HERE / "python_sdk.py")],
    "ts_v1": ["node", str(HERE / "ts_v1.mjs")],
    "ts_v2": ["node", str(HERE / "ts_v2.mjs")],
    "inspector": ["node", str(HERE / "inspector.mjs")],
}

# What may differ. Everything else has to be equal.
#
# - Ids, sessions, progress tokens: not in the drivers' reports at all.
# - notifications/*/list_changed: how many there are depends on when the stream that carries them
#   opened, and a gateway may fold several into one. Scripts wait for the ones that matter.
# - Progress of a call that was cancelled: one side may have been told a step more. It must still
#   be the same progress, so the shorter has to be the beginning of the longer.
# - What a script names under "normalise" and "random_logs": times, random ids, random levels.
# - Values that a script saves (task ids): replaced by their names.
# - On the aggregate: who the server is, also in the _meta of its results; for how long and for whom
#   these may be kept (ttlMs, cacheScope); and steps with "aggregate": "skip".
# - On the aggregate a backend that has both eras runs in the modern one: to a legacy client its
#   results may say resultType "complete", which all of that era's are.
# - The revisions that server/discover names: the gateway speaks all of them at every endpoint, so
#   only one that the backend names and the gateway does not is a difference.
LIST_CHANGED = re.compile(r"notifications/\w+/list_changed")
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


class Failed(Exception):
    """The comparison could not be made."""


def run(client: str, endpoint: Any, script: Any, given: argparse.Namespace) -> dict[str, Any]:
    command = [*CLIENTS[client], json.dumps(endpoint), json.dumps(script), "--deadline", f"{given.deadline:g}"]
    for variable, value in given.variables.items():
        command += ["--var", f"{variable}={value}"]
    if given.era:
        command += ["--era", given.era]
    done = subprocess.run(command, capture_output=True, text=True, timeout=given.deadline + 30)
    if given.verbose or done.returncode:
        sys.stderr.write(done.stderr)
    if done.returncode:
        raise Failed(f"{client} with {json.dumps(endpoint)} ended with {done.returncode}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise Failed(f"{client} printed something else than its document: {brief(done.stdout)}") from None


# --- the aggregate's names


def with_prefix(steps: list[Any], prefix: str) -> list[Any]:
    """The steps as the aggregate has to be asked."""
    steps = deepcopy(steps)
    for step in steps:
        if "steps" in step:
            step["steps"] = with_prefix(step["steps"], prefix)
        elif step["op"] in ("call", "prompts/get"):
            step["name"] = prefix + step["name"]
        elif step.get("ref", {}).get("type") == "ref/prompt":
            step["ref"]["name"] = prefix + step["ref"]["name"]
        elif step.get("method") in ("tools/call", "prompts/get"):
            step["params"]["name"] = prefix + step["params"]["name"]
    return steps


def without_answerer(steps: list[Any], legacy: bool) -> None:
    """Results, less what of them is the gateway's to say."""
    for step in steps:
        without_answerer(step.get("steps", []), legacy)
        result = step.get("result")
        if not isinstance(result, dict):
            continue
        for key in ("ttlMs", "cacheScope"):
            result.pop(key, None)
        if legacy and result.get("resultType") == "complete":
            del result["resultType"]
        if isinstance(meta := result.get("_meta"), dict) and meta.pop(SERVER_INFO, None) and not meta:
            del result["_meta"]


def without_more_versions(direct: dict[str, Any] | None, gateway: dict[str, Any] | None) -> None:
    """Take the revisions that the gateway adds to the backend's out of what it said."""
    if direct and gateway and "supportedVersions" in direct and "supportedVersions" in gateway:
        own = direct["supportedVersions"]
        gateway["supportedVersions"] = [one for one in own if one in gateway["supportedVersions"]]


def without_prefix(steps: list[Any], direct: list[Any], prefix: str) -> None:
    """The aggregate's lists, less the prefix and less what is not this backend's."""
    for ours, theirs in zip(steps, direct):
        result = ours.get("result") or {}
        for kind in ("tools", "prompts"):
            if ours["op"] == f"{kind}/list" and kind in result:
                mine = [item for item in result[kind] if item["name"].startswith(prefix)]
                result[kind] = [item | {"name": item["name"].removeprefix(prefix)} for item in mine]
        for op, kind, key in (
            ("resources/list", "resources", "uri"),
            ("resources/templates/list", "resourceTemplates", "uriTemplate"),
        ):
            if ours["op"] == op and kind in result:
                known = {item[key] for item in (theirs.get("result") or {}).get(kind, [])}
                result[kind] = [item for item in result[kind] if item[key] in known]


# --- what may differ


class Normaliser:
    def __init__(self, script: dict[str, Any]) -> None:
        self.rules = [(re.compile(rule["re"]), rule["to"]) for rule in script.get("normalise", [])]
        self.random_logs = script.get("random_logs") and re.compile(script["random_logs"])

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        saved = {str(value): f"<{variable}>" for variable, value in document["saved"].items()}
        document = {key: self.value(value, saved) for key, value in document.items() if key != "saved"}
        document["notifications"] = [
            self.notification(one)
            for one in document["notifications"]
            if not LIST_CHANGED.fullmatch(one["method"])
        ]
        return document

    def value(self, value: Any, saved: dict[str, str], key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: self.value(one, saved, inner) for inner, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, saved) for one in value]
        if not isinstance(value, str):
            return value
        if key == "blob":
            try:
                value = "base64 of: " + base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                pass
        for text, variable in saved.items():
            value = value.replace(text, variable)
        for pattern, to in self.rules:
            value = pattern.sub(to, value)
        return value

    def notification(self, one: dict[str, Any]) -> dict[str, Any]:
        data = (one.get("params") or {}).get("data")
        if self.random_logs and isinstance(data, str) and self.random_logs.search(data):
            return one | {"params": one["params"] | {"level": "<random>", "data": "<random>"}}
        return one


# --- the comparison


class Differences:
    def __init__(self, ignore: list[str], key_order: bool) -> None:
        # In a path to ignore, * stands for anything and nothing else is special.
        self.ignore = [re.compile(".*".join(map(re.escape, path.split("*")))) for path in ignore]
        self.key_order = key_order
        self.found: list[str] = []

    def add(self, path: str, direct: Any, gateway: Any) -> None:
        if not any(pattern.fullmatch(path) for pattern in self.ignore):
            self.found.append(f"{path}\n    direct:  {brief(direct)}\n    gateway: {brief(gateway)}")

    def compare(self, path: str, direct: Any, gateway: Any) -> None:
        if type(direct) is not type(gateway):  # 1, 1.0 and true are three things
            self.add(path, direct, gateway)
        elif isinstance(direct, dict):
            for key in [*direct, *(key for key in gateway if key not in direct)]:
                self.compare(f"{path}.{key}", direct.get(key, ABSENT), gateway.get(key, ABSENT))
            if self.key_order and direct.keys() == gateway.keys() and [*direct] != [*gateway]:
                self.add(f"{path} (order of keys)", [*direct], [*gateway])
        elif isinstance(direct, list):
            if len(direct) != len(gateway):
                self.add(f"{path} (length)", len(direct), len(gateway))
                self.by_name(path, direct, gateway)
            else:
                for place, (one, other) in enumerate(zip(direct, gateway)):
                    self.compare(f"{path}[{place}]", one, other)
        elif direct != gateway:
            self.add(path, direct, gateway)

    def by_name(self, path: str, direct: list[Any], gateway: list[Any]) -> None:
        """Lists of different lengths: item by item where items have names, else as multisets."""
        named = [{name(one): one for one in side} for side in (direct, gateway)]
        if None in named[0] or None in named[1] or [*map(len, named)] != [len(direct), len(gateway)]:
            self.multiset(path, direct, gateway)
            return
        for key in [*named[0], *(key for key in named[1] if key not in named[0])]:
            self.compare(f"{path}[{key}]", named[0].get(key, ABSENT), named[1].get(key, ABSENT))

    def multiset(self, path: str, direct: list[Any], gateway: list[Any]) -> None:
        mine, theirs = (Counter(json.dumps(one, sort_keys=True) for one in side) for side in (direct, gateway))
        for text, count in (mine - theirs).items():
            self.add(label(path, text), f"{count} × {text}", ABSENT)
        for text, count in (theirs - mine).items():
            self.add(label(path, text), ABSENT, f"{count} × {text}")

    def steps(self, path: str, direct: list[Any], gateway: list[Any]) -> None:
        if len(direct) != len(gateway):
            self.add(f"{path} (length)", len(direct), len(gateway))
        for one, other in zip(direct, gateway):
            at = f"{path}[{one.get('id', one['op'])}]"
            if one["op"] == "parallel":
                self.steps(at, one.pop("steps"), other.pop("steps", []))
            if "answered_after_cancel" in one and "progress" in one:
                self.beginning(f"{at}.progress", one.pop("progress"), other.pop("progress", []))
            self.compare(at, one, other)

    def beginning(self, path: str, direct: list[Any], gateway: list[Any]) -> None:
        shared = min(len(direct), len(gateway))
        if shared == 0 or direct[:shared] != gateway[:shared]:
            self.add(path, direct, gateway)


class Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()


def name(one: Any) -> str | None:
    """What an item of a list goes by."""
    if not isinstance(one, dict):
        return None
    return next((one[key] for key in ("method", "name", "uri", "taskId") if isinstance(one.get(key), str)), None)


def label(path: str, text: str) -> str:
    key = name(json.loads(text))
    return f"{path}[{key}]" if key else path


def brief(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:300]} … {text[-80:]} ({len(text)} characters)"


# --- what the script says of the backend


def unmet(steps: list[Any], reports: list[Any]) -> list[str]:
    """The steps in which the backend on its own did not do what the script says."""
    problems = []
    for step, report in zip(steps, reports):
        if step["op"] == "parallel":
            problems += unmet(step["steps"], report["steps"])
            continue
        expected = step.get("expect", "ok")
        if "skipped" in report or expected == "any":
            continue
        is_error = bool((report.get("result") or {}).get("isError"))
        seen = "isError" if is_error else "ok" if report["ok"] else "error"
        if "answered_after_cancel" in report:
            seen = "cancelled"
        if seen != expected and not (expected == "failure" and seen in ("isError", "error")):
            problems.append(f"{report.get('id', report['op'])}: expected {expected}, saw {brief(report)}")
    return problems


def count(reports: list[Any]) -> tuple[int, int]:
    """Steps made, steps skipped."""
    flat = [one for report in reports for one in report.get("steps", [report])]
    skipped = sum("skipped" in one for one in flat)
    return len(flat) - skipped, skipped


def compare(given: argparse.Namespace) -> int:
    script = given.script
    steps = script["steps"]
    if given.prefix is not None:
        steps = [step for step in steps if step.get("aggregate") != "skip"]
    asked = script | {"steps": steps}

    if given.backend:
        backends.reset(given.work)
    direct = run(given.client, given.direct, asked, given)
    if problems := unmet(steps, direct["steps"]):
        raise Failed("the backend on its own:\n  " + "\n  ".join(problems))
    made, skipped = count(direct["steps"])
    what = f"{given.client}: {made} steps" + (f", {skipped} skipped" if skipped else "")
    if given.direct_only:
        print(f"{what}, as the script says")
        return 0

    if given.backend:
        backends.reset(given.work)
    if given.prefix is not None:
        asked = script | {"steps": with_prefix(steps, given.prefix)}
    gateway = run(given.client, given.gateway, asked, given)
    if given.prefix is not None:
        without_prefix(gateway["steps"], direct["steps"], given.prefix)
        legacy = (gateway["server"] or {}).get("era") != "modern"
        for side in (direct, gateway):
            without_answerer(side["steps"], legacy)
            side["server"] = side["negotiated"] = None

    without_more_versions(direct["server"], gateway["server"])
    normal = Normaliser(script)
    direct, gateway = normal.document(direct), normal.document(gateway)
    differences = Differences(given.ignore, given.key_order)
    for part in ("server", "negotiated"):
        differences.compare(part, direct[part], gateway[part])
    differences.steps("steps", direct["steps"], gateway["steps"])
    for part in ("requests", "notifications"):
        differences.multiset(part, direct[part], gateway[part])

    if not differences.found:
        print(f"{what}, {len(direct['requests'])} requests and {len(direct['notifications'])} notifications: equal")
        return 0
    print(f"{what}: {len(differences.found)} differences")
    for one in differences.found:
        print(f"  {one}")
    return 1


def endpoint(text: str) -> Any:
    return json.loads(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--backend", help="a name that backends.py knows")
    parser.add_argument("--work", type=Path, help="the directory of the backends' files")
    parser.add_argument("--direct", type=endpoint, metavar="ENDPOINT")
    parser.add_argument("--gateway", type=endpoint, metavar="ENDPOINT")
    parser.add_argument("--direct-only", action="store_true", help="only check what the script says of the backend")
    parser.add_argument("--script", type=Path)
    parser.add_argument("--prefix", help="the gateway's endpoint is the aggregate; what it puts before names")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--era", help="handed to the driver")
    parser.add_argument("--ignore", action="append", default=[], metavar="PATH", help="may differ; * is a wildcard")
    parser.add_argument("--key-order", action="store_true", help="the order of keys in objects has to be the same")
    parser.add_argument("--deadline", type=float, default=120, metavar="SECONDS", help="of each run")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what drivers and backends say on stderr")
    given = parser.parse_args()

    given.variables = dict(item.split("=", 1) for item in given.var)
    if given.backend:
        if not given.work:
            parser.error("--backend needs --work")
        given.work = given.work.resolve()
        given.variables.setdefault("work", str(given.work))
        given.direct = given.direct or backends.endpoint(given.backend, given.work)
        given.script = given.script or HERE / "scripts" / f"{given.backend}.json"
    if not (given.direct and given.script and (given.gateway or given.direct_only)):
        parser.error("needs two endpoints and a script, or --backend, --work and --gateway")
    script = json.loads(given.script.read_text())
    given.script = script if isinstance(script, dict) else {"steps": script}
    try:
        return compare(given)
    except (Failed, subprocess.TimeoutExpired) as problem:
        print(f"compare: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
