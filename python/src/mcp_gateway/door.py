"""The Unix socket by which the gateway reaches the functions of this process.

Every connection is one conversation, on a thread of its own, so that an event loop that is busy
answers late and not wrongly. The folder around the socket lets in nobody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

from . import __version__
from .runner import Runner
from .session import Session
from .toolset import ToolSet
from .wire import LINE, Output, lines

_LONGEST_PATH = 100  # of 107; macOS has 103


class Door:
    """Listens from its making until ``close``."""

    def __init__(self, tools: ToolSet, runner: Runner, name: str) -> None:
        self._tools = tools
        self._runner = runner
        self._name = name
        self.folder = _private_folder()
        self.path = self.folder / "tools.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._listener.bind(str(self.path))
            self._listener.listen(64)
        except OSError:
            self.close()
            raise
        threading.Thread(target=self._accept, name="door", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        # Closing alone does not wake a thread that waits in accept or read.
        for each in (self._listener, *connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed or not _is_ours(connection):
                    connection.close()
                    continue
                self._connections.add(connection)
            thread = threading.Thread(
                target=self._converse, args=(connection,), name="conversation", daemon=True
            )
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        output = Output(connection.fileno(), is_socket=True)
        session = Session(
            self._tools, self._runner, output,
            name=self._name, version=__version__, limit=LINE,
        )
        try:
            session.serve(lines(connection.fileno(), LINE))
        finally:
            session.close()
            output.close()
            with self._lock:
                self._connections.discard(connection)
            connection.close()


def _private_folder() -> Path:
    """0700, and with a path short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="mcp-gateway-"))
    if len(str(folder)) + len("/tools.sock") > _LONGEST_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="mcp-gateway-", dir="/tmp"))
    return folder


def _is_ours(connection: socket.socket) -> bool:
    if sys.platform != "linux":
        return True  # the folder's mode has to do
    size = struct.calcsize("3i")
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return bool(struct.unpack("3i", peer)[1] == os.getuid())
