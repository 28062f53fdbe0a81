"""``python -m mcp_gateway.relay SOCKET``: bytes between stdin and stdout and a Unix socket.

What the gateway starts as the backend of a Python program: the program itself has the tools, and
listens on SOCKET. Copies, understands nothing, and imports nothing of ours, so that it starts fast.
"""

import os
import socket
import sys
import threading

_CHUNK = 1 << 16


def _out(conn: socket.socket) -> None:
    """From the program to the gateway; its end is ours."""
    try:
        while chunk := conn.recv(_CHUNK):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(1, rest) :]
    except OSError:
        pass
    os._exit(0)


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m mcp_gateway.relay SOCKET\n")
        return 64
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        conn.connect(sys.argv[1])
    except OSError as error:
        sys.stderr.write(
            f"the program that has these tools cannot be reached ({error.strerror}): it has ended\n"
        )
        return 69
    out = threading.Thread(target=_out, args=(conn,), daemon=True)
    out.start()
    try:
        while chunk := os.read(0, _CHUNK):
            conn.sendall(chunk)
        # What is on its way back still comes.
        conn.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    out.join(1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
