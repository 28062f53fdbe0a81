"""Hears of the parent's end, also where somebody else still holds our stdin open.

Waits without waking up. Not for macOS yet, where the end of stdin has to do.
"""

from __future__ import annotations

import os


def parent() -> int | None:
    """A descriptor that becomes readable when the parent has ended, where there is such a thing."""
    ppid = os.getppid()
    # 0: the parent is outside our pid namespace. 1: it ended already, or it is a container's init,
    # whose end ends us anyway.
    if ppid <= 1 or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(ppid)
    except OSError:
        return None
