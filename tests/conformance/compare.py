#!/usr/bin/env python3
"""Checks that a gateway costs a server none of its MCP conformance.

Runs the conformance suite twice, against a server direct and against the same server through the
gateway, and compares check by check. What succeeds direct must succeed through the gateway, and
the gateway must add no failure; it may add successes. How well the server itself scores is not
judged.

The suite comes from the package.json beside this file; ../setup/setup.sh installs it where the
default of --suite-dir looks. By hand, into another place:

    cp package.json package-lock.json DIR && npm --prefix DIR ci --ignore-scripts
    compare.py --suite-dir DIR --direct http://localhost:1/mcp --gateway http://localhost:2/mcp

Exit codes: 0 nothing lost, 1 something lost, 2 the suite did not run, 64 usage.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

SUITE = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
# These packages are Node itself: the suite needs 22, which not every system has.
NODE = "node_modules/node-linux-*/bin/node"
STATUSES = ["SUCCESS", "FAILURE", "WARNING", "SKIPPED", "INFO"]
TIMESTAMP = re.compile(r"-\d{4}-\d{2}-\d{2}T[\d-]+Z$")


class SuiteError(Exception):
    """The suite could not be run, so there is nothing to compare."""


class Run:
    """What one run of the suite found."""

    def __init__(self):
        self.counts = collections.Counter()
        self.messages = {}

    def add(self, scenario, check):
        key = (scenario, check["id"], check["status"])
        self.counts[key] += 1
        if check.get("errorMessage"):
            self.messages.setdefault(key, check["errorMessage"])

    def count(self, scenario, check, status):
        return self.counts[scenario, check, status]

    def total(self, status):
        return sum(count for key, count in self.counts.items() if key[2] == status)

    def shown(self, scenario, check):
        """The statuses of a check, such as "2 SUCCESS, 1 FAILURE"."""
        found = [(self.count(scenario, check, status), status) for status in STATUSES]
        return ", ".join("%d %s" % pair for pair in found if pair[0]) or "absent"

    def message(self, scenario, check):
        found = [self.messages.get((scenario, check, status)) for status in STATUSES[1:]]
        return next(filter(None, found), None)


def run_suite(suite_dir, url, requirements, output):
    node = next(map(str, suite_dir.glob(NODE)), "node")
    command = [node, str(suite_dir / SUITE), "server", "--url", url,
               "--requirements", requirements, "-o", str(output)]
    output.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SuiteError(str(error)) from error
    (output / "log.txt").write_text(done.stdout)
    run = read_results(output)
    # It exits with 1 both when checks fail and when it breaks; only a result tells these apart.
    if not run.counts:
        raise SuiteError("no result for %s (exit code %d)\n%s" % (
            url, done.returncode, done.stdout[-2000:]))
    return run


def read_results(output):
    run = Run()
    for path in sorted(output.glob("*/checks.json")):
        scenario = TIMESTAMP.sub("", path.parent.name).removeprefix("server-")
        for check in json.loads(path.read_text()):
            run.add(scenario, check)
    return run


def compare(direct, gateway):
    """The differences, worst first: lost successes, added failures, and what else changed."""
    differences = []
    for scenario, check in sorted({key[:2] for key in direct.counts | gateway.counts}):
        if direct.shown(scenario, check) == gateway.shown(scenario, check):
            continue
        change = {status: gateway.count(scenario, check, status) -
                  direct.count(scenario, check, status) for status in STATUSES}
        if change["SUCCESS"] < 0:
            verdict = "lost"
        elif change["FAILURE"] > 0:
            verdict = "failed"
        elif change["SUCCESS"] > 0:
            verdict = "gained"
        else:
            verdict = "changed"
        differences.append({
            "verdict": verdict, "scenario": scenario, "check": check,
            "direct": direct.shown(scenario, check), "gateway": gateway.shown(scenario, check),
            "message": gateway.message(scenario, check)})
    order = ["lost", "failed", "changed", "gained"]
    return sorted(differences, key=lambda difference: order.index(difference["verdict"]))


def judge(requirements, direct, gateway):
    differences = compare(direct, gateway)
    lost = sum(difference["verdict"] in ("lost", "failed") for difference in differences)
    totals = {name: {status: run.total(status) for status in STATUSES}
              for name, run in [("direct", direct), ("gateway", gateway)]}
    return {"requirements": requirements, "ok": lost == 0, "lost": lost, "totals": totals,
            "differences": differences}


def describe(report):
    lines = []
    for difference in report["differences"]:
        lines.append("%-7s %s / %s" % (
            difference["verdict"].upper(), difference["scenario"], difference["check"]))
        lines.append("        direct: %s; gateway: %s" % (
            difference["direct"], difference["gateway"]))
        if difference["message"] and difference["verdict"] != "gained":
            lines.append("        %s" % " ".join(difference["message"].split())[:400])
    for name in ["direct", "gateway"]:
        totals = report["totals"][name]
        lines.append("%-8s %s" % (name, ", ".join(
            "%d %s" % (totals[status], status) for status in STATUSES)))
    lines.append("%s: %s" % (report["requirements"], "nothing is lost through the gateway"
                             if report["ok"] else "%d checks are worse" % report["lost"]))
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, "compare.py: %s\n" % message)


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite-dir", type=pathlib.Path, metavar="DIR",
                        default=pathlib.Path("/var/cache/mcp-gateway-tests/conformance"),
                        help="where the suite is installed (%(default)s)")
    parser.add_argument("--direct", required=True, metavar="URL", help="the server itself")
    parser.add_argument("--gateway", required=True, metavar="URL", help="it, through the gateway")
    parser.add_argument("--requirements", action="append", metavar="REVISION",
                        help="2025-11-25 (the default) or 2026-07-28; may be repeated")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR",
                        help="keep the suite's own results here")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()

    reports = []
    with tempfile.TemporaryDirectory() as scratch:
        output = options.output or pathlib.Path(scratch)
        for revision in options.requirements or ["2025-11-25"]:
            runs = []
            for name, url in [("direct", options.direct), ("gateway", options.gateway)]:
                place = output / revision / name
                if place.exists():
                    raise SuiteError("%s holds the results of an earlier run" % place)
                runs.append(run_suite(options.suite_dir, url, revision, place))
            reports.append(judge(revision, *runs))
    if options.json:
        print(json.dumps(reports, indent=2))
    else:
        print("\n\n".join(map(describe, reports)))
    return 0 if all(report["ok"] for report in reports) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SuiteError as error:
        print("compare.py: %s" % error, file=sys.stderr)
        sys.exit(2)
