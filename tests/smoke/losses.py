"""Echo requests in quick succession, of which not one may go unanswered."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.smoke.frames import internet_checksum
from tests.smoke.netns import Netns

INTERVAL_S = 0.001
PATIENCE_S = 2.0
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_IPV4_HEADER_BYTES = 20


@dataclass
class Echoes:
    """How many requests were sent, and how many of them were answered."""

    sent: int = 0
    answered: int = 0

    @property
    def lost(self) -> int:
        return self.sent - self.answered


@contextmanager
def echoes(space: Netns, address: str) -> Iterator[Echoes]:
    """Send a thousand a second until the end of the block; the count is whole after it."""
    count, stopping = Echoes(), threading.Event()
    icmp = socket.IPPROTO_ICMP
    with space.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, icmp)) as sock:
        sock.connect((address, 0))
        thread = threading.Thread(target=_exchange, args=(sock, count, stopping))
        thread.start()
        try:
            yield count
        finally:
            stopping.set()
            thread.join()


def _exchange(sock: socket.socket, count: Echoes, stopping: threading.Event) -> None:
    unanswered: set[int] = set()
    while not stopping.is_set():
        number = count.sent & 0xFFFF
        unanswered.add(number)
        sock.send(_request(number))
        count.sent += 1
        _receive(sock, unanswered, INTERVAL_S)
        count.answered = count.sent - len(unanswered)
    deadline_s = time.monotonic() + PATIENCE_S
    while unanswered and time.monotonic() < deadline_s:
        _receive(sock, unanswered, INTERVAL_S)
    count.answered = count.sent - len(unanswered)


def _request(number: int) -> bytes:
    body = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, 0, number)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, internet_checksum(body), 0, number)


def _receive(sock: socket.socket, unanswered: set[int], patience_s: float) -> None:
    """Take what comes in so much time."""
    deadline_s = time.monotonic() + patience_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        sock.settimeout(left_s)
        try:
            packet = sock.recv(1 << 12)
        except TimeoutError:
            return
        kind, number = packet[_IPV4_HEADER_BYTES], packet[_IPV4_HEADER_BYTES + 6 :][:2]
        if kind == _ECHO_REPLY:
            unanswered.discard(int.from_bytes(number))
