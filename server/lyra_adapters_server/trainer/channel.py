"""JSON lines over a socket. Imports no torch."""

from __future__ import annotations

import select
import socket


class LineChannel:
    """Whole lines from and to a connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Takes over the socket, blocking."""
        self._socket = connection
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self.closed = False

    def lines(self, wait: bool) -> list[bytes]:
        """Gives the whole lines that have arrived.

        Args:
            wait: Sleep until there is one, or the other side has closed.

        Returns:
            The lines, without their ends; when nothing more will come, `closed` is set.
        """
        while not self.closed and select.select([self._socket], [], [], None if wait else 0)[0]:
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                break
            # Only the new bytes are searched: a request of many megabytes comes in many pieces.
            whole, end, rest = data.rpartition(b"\n")
            if end:
                self._lines += (bytes(self._buffer) + whole).split(b"\n")
                self._buffer = bytearray(rest)
                wait = False
            else:
                self._buffer += data
        found, self._lines = self._lines, []
        return found

    def send(self, line: str) -> None:
        """Sends a line, waiting until the socket takes it.

        Raises:
            OSError: If the other side is gone.
        """
        self._socket.sendall(line.encode() + b"\n")
