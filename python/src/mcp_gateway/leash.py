"""``leash.py PARENT PROGRAM ARG…``: becomes PROGRAM, which gets SIGTERM when PARENT has ended.

For a gateway that serves the network: nothing else would tell it that the program whose tools it
offers is gone. Imports nothing of ours, so that it starts fast. Only on Linux is there a leash.
"""

import contextlib
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        with contextlib.suppress(Exception):  # no ctypes in this Python: then no leash
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            return
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
