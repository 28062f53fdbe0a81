#!/usr/bin/env python3
"""faulty.py with one mode more, whose calls last until the test lets them go on.

    gate.py gate[,MODE...] SOCKET
"""

import os
import socket
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "backends"))

import faulty  # noqa: E402


@faulty.mode("gate")
def gate(server):
    """SOCKET: the tools slow, with progress before and after, and quiet connect to it when they
    begin, and go on when that connection ends. flood reports much progress; tell {n} says that
    gate:///n has changed."""
    server.capabilities["resources"] = {"subscribe": True}
    server.methods["resources/subscribe"] = lambda call: {}
    server.methods["resources/unsubscribe"] = lambda call: {}
    server.methods["resources/list"] = lambda call: {"resources": []}
    server.methods["resources/templates/list"] = lambda call: {"resourceTemplates": []}

    def hold():
        with socket.socket(socket.AF_UNIX) as door:
            try:
                door.connect(server.arguments[0])
                door.recv(1)
            except OSError:
                pass  # Nobody holds calls up any more.

    def slow(call):
        call.progress(1, 2)
        hold()
        call.progress(2, 2)
        return faulty.text("slow")

    def quiet(call):
        hold()
        return faulty.text("quiet")

    def flood(call):
        token = call.params["_meta"]["progressToken"]
        for n in range(200):
            server.notify("notifications/progress", {
                "progressToken": token, "progress": n, "message": "x" * 20000})
        return faulty.text("flood")

    def tell(call):
        uri = "gate:///%d" % call.argument("n")
        server.notify("notifications/resources/updated", {"uri": uri})
        return faulty.text("told")

    server.add("slow", "Waits between two reports of progress", slow)
    server.add("quiet", "Waits", quiet)
    server.add("flood", "Reports 4 MB of progress", flood)
    server.add("tell", "Reports a changed resource", tell)


if __name__ == "__main__":
    sys.exit(faulty.main())
