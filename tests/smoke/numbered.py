"""Flows of numbered datagrams: which arrived, and in which order."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.ports import Container, Port

PORT = 5000
FLOWS = 4
INTERVAL_S = 0.002
SILENCE_S = 1.0
LOOK_S = 0.1
"""After this long without one more it is seen whether all are there."""


@dataclass
class Numbered:
    sent: int = 0
    """Datagrams of each flow."""

    arrived: list[list[int]] = field(default_factory=lambda: [[] for _ in range(FLOWS)])
    """The numbers of each flow in order of arrival."""

    stop: threading.Event = field(default_factory=threading.Event)
    all_sent: threading.Event = field(default_factory=threading.Event)

    def send(self, clients: list[socket.socket], address: tuple[str, int]) -> None:
        while not self.stop.is_set():
            for flow, client in enumerate(clients):
                client.sendto(struct.pack("!II", flow, self.sent), address)
            self.sent += 1
            time.sleep(INTERVAL_S)

    def receive(self, server: socket.socket) -> None:
        silent_since_s = time.monotonic()
        while True:
            was_all_sent = self.all_sent.is_set()
            try:
                flow, number = struct.unpack("!II", server.recv(64))
                self.arrived[flow].append(number)
            except TimeoutError:
                if was_all_sent:
                    is_silent = time.monotonic() - silent_since_s > SILENCE_S
                    if is_silent or self.is_complete():
                        return
                    continue
            silent_since_s = time.monotonic()

    def is_complete(self) -> bool:
        return all(len(flow) >= self.sent for flow in self.arrived)

    def assert_all_in_order(self) -> None:
        assert self.sent > 0
        for flow in self.arrived:
            steps = [(one, other) for one, other in itertools.pairwise(flow) if other != one + 1]
            assert steps == [], f"{len(flow)} of {self.sent} arrived, out of step at {steps[:5]}"
            assert len(flow) == self.sent


@contextmanager
def numbered(source: Container, sink: Container, port: int = PORT) -> Iterator[Numbered]:
    """Send during the block; at its end all that was sent has had time to arrive."""
    with ExitStack() as stack:
        (server,) = _open(stack, sink, 1)
        server.bind((sink.ip4, port))
        with _running(_open(stack, source, FLOWS), [server], (sink.ip4, port)) as flows:
            yield flows


@contextmanager
def numbered_and_returned(source: Container, mirror: Port) -> Iterator[Numbered]:
    """Send during the block to a port that sends back what it gets, addresses swapped."""
    with ExitStack() as stack:
        clients = _open(stack, source, FLOWS)
        for client in clients:
            client.bind((source.ip4, 0))
        with _running(clients, clients, (mirror.ip4, PORT)) as flows:
            yield flows


def _open(stack: ExitStack, place: Container, count: int) -> list[socket.socket]:
    def work() -> list[socket.socket]:
        return [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(count)]

    return place.netns.inside(work)


@contextmanager
def _running(
    clients: list[socket.socket], servers: list[socket.socket], address: tuple[str, int]
) -> Iterator[Numbered]:
    flows = Numbered()
    sender = threading.Thread(target=flows.send, args=(clients, address))
    receivers = [threading.Thread(target=flows.receive, args=(server,)) for server in servers]
    for server in servers:
        server.settimeout(LOOK_S)
    for thread in (sender, *receivers):
        thread.start()
    try:
        yield flows
    finally:
        flows.stop.set()
        sender.join()
        flows.all_sent.set()
        for receiver in receivers:
            receiver.join()
