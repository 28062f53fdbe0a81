#!/usr/bin/env python3
"""Checks that a gateway costs a server none of its MCP conformance, in whichever era.

Runs the conformance suite against a server direct and against the same server through the
gateway, and compares check by check. For every set of requirements (the suite's word for what a
revision asks) there is one direct run, against a server that speaks the era of that set, and any
number of runs through the gateway, whose servers may speak the other era. Of a gateway's run is
asked that

  - no check of a required scenario fails,
  - every check that succeeds direct succeeds, and no other fails. It may gain successes.

What cannot be had across the eras stands in EXCEPTIONS below with its reason, is printed when it
is used, and is an error when no run of its pair needs it.

The suite comes from the package.json beside this file; ../setup/setup.sh installs it where the
default of --suite-dir looks. By hand, into another place:

    cp package.json package-lock.json DIR && npm --prefix DIR ci --ignore-scripts
    compare.py --suite-dir DIR --direct 2026-07-28=http://localhost:1/mcp \\
        --gateway 2026-07-28/legacy/own=http://localhost:2/mcp/own

The last line is `N passed, N failed, 0 skipped`, a test being a run, or the exceptions together.
Exit codes: 0 nothing lost, 1 something lost or a run broke, 64 usage.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

PACKAGE = "node_modules/@modelcontextprotocol/conformance"
# These packages are Node itself: the suite needs 22, which not every system has.
NODE = "node_modules/node-linux-*/bin/node"
STATUSES = ["SUCCESS", "FAILURE", "WARNING", "SKIPPED", "INFO"]
TIMESTAMP = re.compile(r"-\d{4}-\d{2}-\d{2}T[\d-]+Z$")

# What may be worse through the gateway than direct, per set of requirements, era of the server and,
# where it is named, way to reach it.
EXCEPTIONS = [
    {
        "requirements": "2026-07-28",
        "backend": "legacy",
        "reason": "tasks are an extension of the modern era: for a server that has none, no call "
                  "becomes a task, and the gateway makes up none",
        "checks": [
            "tasks-capability-negotiation/tasks-extension-advertised",
            "tasks-capability-negotiation/tasks-per-request-meta-opt-in",
            "tasks-dispatch-and-envelope/sep-2663-durable-create-strong-consistency",
            "tasks-dispatch-and-envelope/tasks-server-directed-creation-no-hint",
            "tasks-lifecycle/sep-2663-cancel-ack-empty-result",
            "tasks-lifecycle/sep-2663-result-type-task-on-create",
            "tasks-lifecycle/sep-2663-tasks-get-status-completed",
            "tasks-lifecycle/sep-2663-tasks-get-status-failed",
            "tasks-lifecycle/sep-2663-tasks-get-status-working",
            "tasks-lifecycle/sep-2663-tool-error-uses-completed-status",
            "tasks-lifecycle/tasks-cancel-terminal-idempotent-ack",
            "tasks-mrtr-composition/sep-2663-mrtr-synchronous-before-task-creation",
            "tasks-mrtr-input/sep-2663-tasks-get-status-input-required",
            "tasks-mrtr-input/tasks-mrtr-partial-fulfillment",
            "tasks-mrtr-input/tasks-mrtr-tasks-update-resumes",
            "tasks-request-headers/sep-2663-routing-headers-accepted-on-tasks-get",
            "tasks-request-headers/sep-2663-server-rejects-mismatched-mcp-name-on-tasks-get",
            "tasks-request-state-removal/tasks-create-result-no-request-state",
            "tasks-request-state-removal/tasks-get-detailed-no-request-state",
            "tasks-request-state-removal/tasks-request-state-removal-setup",
            "tasks-required-task-error/sep-2663-server-returns-missing-capability-data-shape",
            "tasks-required-task-error/sep-2663-server-returns-missing-capability-when-required",
            "tasks-wire-fields/tasks-no-early-ttl-expiry",
            "tasks-wire-fields/tasks-no-related-task-meta-on-inlined-result",
            "tasks-wire-fields/tasks-wire-field-renames",
        ],
    },
    {
        "requirements": "2026-07-28",
        "backend": "legacy",
        "reason": "the answers come before any question and without a requestState; a legacy "
                  "server's question has no name before it is asked, so they answer none, and the "
                  "client is asked (a warning)",
        "checks": ["input-required-result-ignore-extra-params/sep-2322-ignore-unexpected-params"],
    },
    {
        "requirements": "2026-07-28",
        "backend": "legacy",
        "endpoint": "shared",
        "reason": "a legacy server asks for roots once and for all its clients, so one that they "
                  "share is told of none (with `share: session` it is)",
        "checks": [
            "input-required-result-basic-list-roots/sep-2322-list-roots-complete",
            "input-required-result-basic-list-roots/sep-2322-list-roots-incomplete",
            "input-required-result-multiple-input-requests/sep-2322-multiple-inputs-complete",
            "input-required-result-multiple-input-requests/sep-2322-multiple-inputs-incomplete",
        ],
    },
]


class SuiteError(Exception):
    """The suite could not be run, so there is nothing to compare."""


class Run:
    """What one run of the suite found."""

    def __init__(self):
        self.counts = collections.Counter()
        self.messages = {}
        self.seconds = 0

    def add(self, scenario, check):
        key = (scenario, check["id"], check["status"])
        self.counts[key] += 1
        if check.get("errorMessage"):
            self.messages.setdefault(key, check["errorMessage"])

    def count(self, scenario, check, status):
        return self.counts[scenario, check, status]

    def total(self, status, scenarios=None):
        return sum(count for key, count in self.counts.items()
                   if key[2] == status and (scenarios is None or scenarios(key[0])))

    def shown(self, scenario, check):
        """The statuses of a check, such as "2 SUCCESS, 1 FAILURE"."""
        found = [(self.count(scenario, check, status), status) for status in STATUSES]
        return ", ".join("%d %s" % pair for pair in found if pair[0]) or "absent"

    def message(self, scenario, check):
        found = [self.messages.get((scenario, check, status)) for status in STATUSES[1:]]
        return next(filter(None, found), None)


def run_suite(suite_dir, url, requirements, output):
    node = next(map(str, suite_dir.glob(NODE)), "node")
    command = [node, str(suite_dir / PACKAGE / "dist/index.js"), "server", "--url", url,
               "--requirements", requirements, "-o", str(output)]
    output.mkdir(parents=True)
    began = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SuiteError(str(error)) from error
    (output / "log.txt").write_text(done.stdout)
    run = read_results(output)
    run.seconds = time.monotonic() - began
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


def required_scenarios(suite_dir, requirements):
    """The scenarios that count for a server; the suite runs others beside them."""
    path = suite_dir / PACKAGE / "requirements" / (requirements + ".yaml")
    section, required = None, set()
    for line in path.read_text().splitlines():
        if re.match(r"\w+:", line):
            section = line.split(":")[0]
        item = re.match(r"\s+- ([\w-]+)\s*$", line)
        if item and section == "server":
            required.add(item[1])
    if not required:
        raise SuiteError("%s names no required scenario" % path)
    return required


class Place:
    """What was run: a set of requirements, the era of the server and how it was reached."""

    def __init__(self, requirements, backend, endpoint, url):
        self.requirements, self.backend, self.endpoint = requirements, backend, endpoint
        self.url = url
        self.run = None
        self.error = None
        self.differences = []

    def __str__(self):
        return "%s, %s server, %s" % (self.requirements, self.backend, self.endpoint)

    @property
    def direct(self):
        return self.endpoint == "direct"

    def exceptions(self):
        return {check: group["reason"] for group in EXCEPTIONS for check in group["checks"]
                if (group["requirements"], group["backend"]) == (self.requirements, self.backend)
                and group.get("endpoint", self.endpoint) == self.endpoint}

    @property
    def worse(self):
        return [found for found in self.differences
                if found["verdict"] in ("required", "lost", "failed")]

    @property
    def excepted(self):
        return [found for found in self.differences if found["verdict"] == "excepted"]

    @property
    def passed(self):
        return self.run is not None and not self.worse


def run_all(places, suite_dir, output, jobs):
    """Runs the suite for every place. One address is never asked by two runs at once."""
    by_url = collections.defaultdict(list)
    for place in places:
        by_url[place.url].append(place)

    def run_each(some):
        for place in some:
            target = output / place.requirements / place.backend / place.endpoint
            try:
                place.run = run_suite(suite_dir, place.url, place.requirements, target)
            except SuiteError as error:
                place.error = str(error)

    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        list(pool.map(run_each, by_url.values()))


def compare(direct, place, required):
    """The differences, worst first."""
    gateway, exceptions = place.run, place.exceptions()
    for scenario, check in sorted({key[:2] for key in direct.counts | gateway.counts}):
        same = direct.shown(scenario, check) == gateway.shown(scenario, check)
        change = {status: gateway.count(scenario, check, status) -
                  direct.count(scenario, check, status) for status in STATUSES}
        if scenario in required and gateway.count(scenario, check, "FAILURE"):
            verdict = "required"
        elif same:
            continue
        elif change["SUCCESS"] < 0:
            verdict = "lost"
        elif change["FAILURE"] > 0:
            verdict = "failed"
        elif change["SUCCESS"] > 0:
            verdict = "gained"
        else:
            verdict = "changed"
        reason = exceptions.get("%s/%s" % (scenario, check))
        if reason and verdict in ("required", "lost", "failed"):
            verdict = "excepted"
        yield {"verdict": verdict, "scenario": scenario, "check": check, "reason": reason,
               "direct": direct.shown(scenario, check), "gateway": gateway.shown(scenario, check),
               "message": gateway.message(scenario, check)}


def judge(place, direct, required):
    if place.run is None:
        return
    if place.direct:
        # Nothing to compare with: it has to be without fault, or it would excuse the gateway.
        failed = {key[:2] for key in place.run.counts if key[2] == "FAILURE"}
        place.differences = [
            {"verdict": "failed", "scenario": scenario, "check": check, "reason": None,
             "direct": place.run.shown(scenario, check), "gateway": "",
             "message": place.run.message(scenario, check)} for scenario, check in sorted(failed)]
        return
    if direct is None or direct.run is None:
        place.run, place.error = None, "there is no direct run to compare with"
        return
    order = ["required", "lost", "failed", "excepted", "changed", "gained"]
    place.differences = sorted(compare(direct.run, place, required),
                               key=lambda found: order.index(found["verdict"]))


def needless(places):
    """The exceptions that no run of their pair made use of; None if no pair has any."""
    tried, used = set(), set()
    for place in places:
        if not place.direct and place.run is not None:
            pair = (place.requirements, place.backend)
            tried |= {pair + (check,) for check in place.exceptions()}
            used |= {pair + ("%s/%s" % (found["scenario"], found["check"]),)
                     for found in place.excepted}
    return sorted(tried - used) if tried else None


def describe(place):
    lines = ["== conformance %s" % place]
    if place.run is None:
        return "\n".join(lines + ["BROKEN  " + place.error])
    reasons = collections.Counter()
    for found in place.differences:
        lines.append("%-8s %s / %s" % (
            found["verdict"].upper(), found["scenario"], found["check"]))
        if found["verdict"] == "excepted":
            reasons[found["reason"]] += 1
            continue
        shown = "direct: " + found["direct"]
        lines.append("         " + shown + ("; gateway: " + found["gateway"] if found["gateway"] else ""))
        if found["message"] and found["verdict"] != "gained":
            lines.append("         %s" % " ".join(found["message"].split())[:400])
    for reason, count in reasons.items():
        lines.append("%d excepted: %s" % (count, reason))
    lines.append("%s; %.0f s" % (", ".join(
        "%d %s" % (place.run.total(status), status) for status in STATUSES), place.run.seconds))
    lines.append("%s: %s" % ("ok" if place.passed else "FAILED", (
        "%d checks are worse" % len(place.worse) if place.worse else
        "nothing fails" if place.direct else "nothing is lost through the gateway")))
    return "\n".join(lines)


def table(places, required):
    """The results as Markdown; endpoints of a pair with the same numbers share a row."""
    rows = collections.OrderedDict()
    for place in places:
        if place.run is None:
            cells = ("broken",) + ("",) * 8
        else:
            wanted = required[place.requirements]
            inside, outside = wanted.__contains__, lambda scenario: scenario not in wanted
            cells = tuple(str(place.run.total(status, inside))
                          for status in ["SUCCESS", "FAILURE", "WARNING"])
            cells += tuple(str(place.run.total(status, outside))
                           for status in ["SUCCESS", "FAILURE", "WARNING"])
            cells += (str(place.run.total("INFO") + place.run.total("SKIPPED")),
                      str(len(place.excepted)), str(len(place.worse)))
        rows.setdefault((place.requirements, place.backend, cells), []).append(place.endpoint)
    lines = ["| suite | server | reached | required: success | failure | warning | not scored: "
             "success | failure | warning | info, skipped | excepted | lost |",
             "|---|---|---|" + "---:|" * 9]
    for (requirements, backend, cells), endpoints in rows.items():
        lines.append("| %s |" % " | ".join((requirements, backend, ", ".join(endpoints)) + cells))
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, "compare.py: %s\n" % message)


def direct_place(text):
    requirements, url = text.split("=", 1)
    era = "modern" if requirements >= "2026-07-28" else "legacy"
    return Place(requirements, era, "direct", url)


def gateway_place(text):
    name, url = text.split("=", 1)
    requirements, backend, endpoint = name.split("/")
    return Place(requirements, backend, endpoint, url)


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite-dir", type=pathlib.Path, metavar="DIR",
                        default=pathlib.Path("/var/cache/mcp-gateway-tests/conformance"),
                        help="where the suite is installed (%(default)s)")
    parser.add_argument("--direct", required=True, action="append", type=direct_place, default=[],
                        metavar="REVISION=URL", help="a server of that revision's era")
    parser.add_argument("--gateway", action="append", type=gateway_place, default=[],
                        metavar="REVISION/ERA/ENDPOINT=URL",
                        help="a server of ERA through the gateway; ENDPOINT is any word")
    parser.add_argument("--jobs", type=int, default=4, metavar="N",
                        help="runs at the same time, never two against one URL (%(default)s)")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR",
                        help="keep the suite's own results here")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown too")
    options = parser.parse_args()

    places = options.direct + options.gateway
    directs = {place.requirements: place for place in options.direct}
    required = {place.requirements: required_scenarios(options.suite_dir, place.requirements)
                for place in places}
    with tempfile.TemporaryDirectory() as scratch:
        output = options.output or pathlib.Path(scratch)
        for place in places:
            target = output / place.requirements / place.backend / place.endpoint
            if target.exists():
                parser.error("%s holds the results of an earlier run" % target)
        run_all(places, options.suite_dir, output, options.jobs)
    for place in places:
        judge(place, directs.get(place.requirements), required[place.requirements])
        print(describe(place) + "\n")
    results = [place.passed for place in places]
    left = needless(places)
    if left is not None:
        results.append(not left)
        print("== exceptions: %s" % ("all are needed" if not left else "FAILED"))
        for requirements, backend, check in left:
            print("not needed: %s, %s server: %s" % (requirements, backend, check))
        print()
    if options.table:
        print(table(places, required) + "\n")
    print("%d passed, %d failed, 0 skipped" % (results.count(True), results.count(False)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, SuiteError) as error:
        print("compare.py: %s" % error, file=sys.stderr)
        sys.exit(1)
