"""A TCP connection that carries numbers, which go on in order or the test fails."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.netns import Netns

_NUMBER = struct.Struct("!Q")
_AT_ONCE = 16
_INTERVAL_S = 0.002
_PATIENCE_S = 20.0


class Stream:
    """Numbers that were written to a connection, and those that were read at its other end."""

    def __init__(self, client: socket.socket, accepted: socket.socket) -> None:
        self._client = client
        self._accepted = accepted
        self.written = 0
        self.read = 0
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let all that was written arrive."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def assert_whole(self) -> None:
        assert self.faults == []
        assert 0 < self.written == self.read

    def _write(self) -> None:
        with self._noting("write"):
            while not self._stop.is_set():
                numbers = range(self.written, self.written + _AT_ONCE)
                self._client.sendall(b"".join(map(_NUMBER.pack, numbers)))
                self.written += _AT_ONCE
                time.sleep(_INTERVAL_S)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        with self._noting("read"):
            rest = b""
            while chunk := self._accepted.recv(1 << 16):
                rest += chunk
                whole = len(rest) - len(rest) % _NUMBER.size
                for (number,) in _NUMBER.iter_unpack(rest[:whole]):
                    assert number == self.read, f"{number} came after {self.read - 1}"
                    self.read += 1
                rest = rest[whole:]

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, AssertionError) as error:
            self.faults.append(f"{what}: {error!r}")


@contextmanager
def stream(source: Netns, sink: Netns, address: str) -> Iterator[Stream]:
    """Have a connection carry numbers during the block."""
    server = sink.inside(lambda: socket.create_server((address, 0)))
    client = source.inside(socket.socket)
    with server, client:
        client.settimeout(_PATIENCE_S)
        client.connect(server.getsockname()[:2])
        accepted, _ = server.accept()
        accepted.settimeout(_PATIENCE_S)
        with accepted:
            numbers = Stream(client, accepted)
            try:
                yield numbers
            finally:
                numbers.end()
