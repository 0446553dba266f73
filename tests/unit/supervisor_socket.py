"""A supervisor's end of NOTIFY_SOCKET."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SupervisorSocket:
    """Hears what a process says of itself."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self.address = address

    def hear(self, timeout_s: float = 30) -> dict[str, str]:
        """Give the next message."""
        self._sock.settimeout(timeout_s)
        lines = self._sock.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, key: str, timeout_s: float = 30) -> dict[str, str]:
        """Give the first message that has `key`."""
        deadline_s = time.monotonic() + timeout_s
        while key not in (heard := self.hear(max(deadline_s - time.monotonic(), 0.001))):
            pass
        return heard

    def count(self, key: str, during_s: float) -> int:
        """Count the messages with `key` that come in a while; what came before is passed over."""
        self._drain()
        count, deadline_s = 0, time.monotonic() + during_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                count += key in self.hear(left_s)
            except TimeoutError:
                break
        return count

    def _drain(self) -> None:
        self._sock.setblocking(False)
        try:
            while self._sock.recv(4096):
                pass
        except BlockingIOError:
            pass


@contextmanager
def supervisor_socket(directory: Path) -> Iterator[SupervisorSocket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / "notify"))
        yield SupervisorSocket(sock, str(directory / "notify"))
