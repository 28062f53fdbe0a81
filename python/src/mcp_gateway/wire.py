"""Lines over two file descriptors: bounded on the way in, never waiting on the way out.

Knows newlines and sizes, nothing of JSON-RPC. One thread reads; any thread may write.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

LINE = 8 << 20
"""What the gateway takes in one line unless told otherwise (``limits.line``)."""

_CHUNK = 1 << 16
# How much may wait for a client that reads slowly before notices are left out, and before
# nothing more is read from it.
_NOTICES = 1 << 20
_WAITING = 64 << 20


# `socket` is loaded only where there is one.
_MSG_DONTWAIT = 0x40 if sys.platform == "linux" else 0x80


class TooLong:
    """Stands for a line that was longer than allowed, and is gone."""


def lines(fd: int, limit: int = LINE, also: int | None = None) -> Iterator[bytes | TooLong]:
    """The lines of ``fd`` until its end, or until ``also`` becomes readable."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP | select.POLLERR)
    if also is not None:
        poll.register(also, select.POLLIN)
    buffer = bytearray()
    searched = 0
    skipping = False
    while True:
        if also is not None and any(ready == also for ready, _ in poll.poll()):
            return
        try:
            chunk = os.read(fd, _CHUNK)
        except OSError:  # the other end reset the connection
            return
        if not chunk:
            return
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if skipping:
                skipping = False
            elif len(line) > limit:
                yield TooLong()
            elif line.strip():
                yield line
        searched = len(buffer)
        if searched > limit:
            if not skipping:
                yield TooLong()
            skipping = True
            buffer.clear()
            searched = 0


class Output:
    """Where lines go. ``write`` returns at once; what the other end does not take waits here."""

    def __init__(self, fd: int, *, is_socket: bool = False) -> None:
        self._fd = fd
        self._is_socket = is_socket
        self._socket: socket.socket | None = None
        if is_socket:
            import socket

            self._socket = socket.socket(fileno=os.dup(fd))
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self.broken = False

    def write(self, line: bytes, *, notice: bool = False) -> None:
        """Sends a whole line. A notice is left out if too much waits already."""
        with self._changed:
            if self.broken or (notice and self._waiting > _NOTICES):
                return
            if not self._waiting:
                line = line[self._at_once(line) :]
                if not line or self.broken:
                    return
            self._queue.append(line)
            self._waiting += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="output", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Waits while too much waits, so that a client that never reads is not read either."""
        with self._changed:
            while self._waiting > _WAITING and not self.broken:
                self._changed.wait()

    def flush(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self.broken, seconds)

    def close(self) -> None:
        with self._changed:
            self.broken = True
            self._changed.notify_all()
        if self._socket is not None:
            self._socket.close()

    def _at_once(self, line: bytes) -> int:
        """Writes what can be written without waiting; how many bytes that was."""
        try:
            if self._socket is not None:
                return self._socket.send(line, _MSG_DONTWAIT)
            # A pipe that polls as writable takes PIPE_BUF bytes at once. It is not made
            # non-blocking, since others may hold the same pipe.
            if len(line) > select.PIPE_BUF:
                return 0
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return 0
            return os.write(self._fd, line)
        except BlockingIOError:
            return 0
        except OSError:
            self.broken = True
            self._changed.notify_all()
            return 0

    def _drain(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self.broken:
                    self._changed.wait()
                if self.broken:
                    self._queue.clear()
                    self._waiting = 0
                    self._changed.notify_all()
                    return
                line = self._queue[0]
            failed = False
            try:
                self._write_all(line)
            except OSError:
                failed = True
            with self._changed:
                self.broken = self.broken or failed
                self._queue.popleft()
                self._waiting -= len(line)
                self._changed.notify_all()

    def _write_all(self, line: bytes) -> None:
        if self._socket is not None:
            self._socket.sendall(line)
            return
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def keep_for_protocol() -> tuple[int, int]:
    """Takes stdin and stdout for the protocol; gives their new descriptors.

    What anything else reads or writes there, C code and child processes included, is empty input
    and the log. Python's own buffer of ``sys.stdout`` goes to the log as well.
    """
    import fcntl

    if not _is_open(2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    real_in = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    real_out = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 10)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.register_at_fork(after_in_child=lambda: _drop(real_in, real_out))
    return real_in, real_out


def hold_back_stdout() -> None:
    """Lets what is printed wait until it is known whether stdout is for the protocol."""
    out = sys.stdout
    # Where it waits anyway there is nothing to do, and changing it would send what waits.
    unbuffered = getattr(out, "write_through", False) or getattr(out, "line_buffering", False)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if unbuffered and not out.isatty():
            out.reconfigure(line_buffering=False, write_through=False)  # type: ignore[union-attr]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _drop(*fds: int) -> None:
    """A forked child keeps no end of the protocol's pipes, whose end would then never be seen."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
