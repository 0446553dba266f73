"""Flows of datagrams at a high rate, and how long each was silent."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.smoke.netns import Netns

PORT = 6000
INTERVAL_S = 0.005
SETTLE_S = 0.3
_DATAGRAM = struct.Struct("!Id")


@dataclass
class Flow:
    """Datagrams from one place to another, or there and back again."""

    name: str
    source: socket.socket
    sink: socket.socket
    address: tuple[str, int]
    sent: int = 0
    arrived: list[tuple[float, float]] = field(default_factory=list)
    """When each arrived, and when it was sent."""

    @property
    def lost(self) -> int:
        return self.sent - len(self.arrived)

    def first_after_s(self, moment_s: float) -> float:
        """Seconds from a moment to the arrival of the first that was sent after it."""
        return min((a - moment_s for a, s in self.arrived if s > moment_s), default=float("inf"))

    def silence_s(self, since_s: float) -> float:
        """The longest time without an arrival."""
        times = [a for a, _ in self.arrived if a > since_s]
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))

    def forget(self) -> None:
        """Begin to count anew."""
        self.sent = 0
        self.arrived.clear()

    def send(self) -> None:
        with suppress(OSError):  # without a route, or a full queue: lost
            self.source.sendto(_DATAGRAM.pack(self.sent, time.monotonic()), self.address)
        self.sent += 1

    def receive(self) -> None:
        with suppress(BlockingIOError):
            while True:
                _, sent_s = _DATAGRAM.unpack(self.sink.recv(64))
                self.arrived.append((time.monotonic(), sent_s))


def one_way(stack: ExitStack, name: str, source: Netns, sink: Netns, address: str) -> Flow:
    """Datagrams that arrive in another container."""
    server = _open(stack, sink)
    server.bind((address, PORT))
    return Flow(name, _open(stack, source), server, (address, PORT))


def returned(stack: ExitStack, name: str, source: Netns, address: str, own_port: int) -> Flow:
    """Datagrams that somebody sends back."""
    client = _open(stack, source)
    client.bind(("", own_port))
    return Flow(name, client, client, (address, PORT))


def _open(stack: ExitStack, place: Netns) -> socket.socket:
    sock = place.inside(lambda: stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)))
    sock.setblocking(False)
    return sock


@contextmanager
def under_way(flows: Sequence[Flow]) -> Iterator[None]:
    """Have all flows send during the block; what was sent has time to arrive after it."""
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(flows, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(flows: Sequence[Flow], stop: threading.Event) -> None:
    """Send and receive in one thread, so that neither waits for the other's turn."""
    by_fd = {flow.sink.fileno(): flow for flow in flows}
    poller = select.epoll()
    for fd in by_fd:
        poller.register(fd, select.EPOLLIN)
    due_s, end_s = time.monotonic(), float("inf")
    with poller:
        while (now_s := time.monotonic()) < end_s:
            if stop.is_set() and end_s == float("inf"):
                end_s, due_s = now_s + SETTLE_S, float("inf")
            if now_s >= due_s:
                due_s = max(due_s + INTERVAL_S, now_s)
                for flow in flows:
                    flow.send()
            for fd, _ in poller.poll(min(max(due_s - time.monotonic(), 0.0), 0.01)):
                by_fd[fd].receive()
