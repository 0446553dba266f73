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

    from tests.smoke.ports import Container

PORT = 5000
FLOWS = 4
INTERVAL_S = 0.002
SILENCE_S = 1.0


@dataclass
class Numbered:
    sent: int = 0
    """Datagrams of each flow."""

    arrived: list[list[int]] = field(default_factory=lambda: [[] for _ in range(FLOWS)])
    """The numbers of each flow in order of arrival."""

    stop: threading.Event = field(default_factory=threading.Event)

    def send(self, clients: list[socket.socket], address: tuple[str, int]) -> None:
        while not self.stop.is_set():
            for flow, client in enumerate(clients):
                client.sendto(struct.pack("!II", flow, self.sent), address)
            self.sent += 1
            time.sleep(INTERVAL_S)

    def receive(self, server: socket.socket) -> None:
        while True:
            try:
                flow, number = struct.unpack("!II", server.recv(64))
            except TimeoutError:
                if self.stop.is_set():
                    return
            else:
                self.arrived[flow].append(number)

    def assert_all_in_order(self) -> None:
        assert self.sent > 0
        for flow in self.arrived:
            steps = [(one, other) for one, other in itertools.pairwise(flow) if other != one + 1]
            assert steps == [], f"{len(flow)} of {self.sent} arrived, out of step at {steps[:5]}"
            assert len(flow) == self.sent


@contextmanager
def numbered(source: Container, sink: Container, port: int = PORT) -> Iterator[Numbered]:
    """Send during the block; at its end all that was sent has had time to arrive."""
    flows = Numbered()
    with ExitStack() as stack:

        def open_socket() -> socket.socket:
            return stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))

        server = sink.netns.inside(open_socket)
        server.bind((sink.ip4, port))
        server.settimeout(SILENCE_S)
        clients = source.netns.inside(lambda: [open_socket() for _ in range(FLOWS)])
        receiver = threading.Thread(target=flows.receive, args=(server,))
        sender = threading.Thread(target=flows.send, args=(clients, (sink.ip4, port)))
        receiver.start()
        stack.callback(receiver.join)
        stack.callback(flows.stop.set)
        sender.start()
        yield flows
        flows.stop.set()
        sender.join()
        receiver.join()
