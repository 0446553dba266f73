"""Two workers share the ports: nothing is lost and no flow is reordered."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.smoke.ports import Container, counting
from tests.smoke.topology import Lab, dataplane_in_host, lab_on
from tests.smoke.traffic import iperf3, ping, received_bytes
from tests.unit.dataplane_process import CORES

if TYPE_CHECKING:
    from collections.abc import Iterator
PORT = 5000
FLOWS = 4
DATAGRAMS_PER_FLOW = 2000
INTERVAL_S = 0.001

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="two workers need two cores")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    cores = ",".join(map(str, CORES[:2]))
    with dataplane_in_host("--cores", cores) as both, lab_on(*both) as lab:
        yield lab


@pytest.fixture(scope="module", params=[1, 4])
def pair(request: pytest.FixtureRequest, lab: Lab) -> tuple[Container, Container]:
    network = lab.network()
    one, other = (lab.container(network, number, queues=request.param) for number in (1, 2))
    return one, other


def send_numbered(clients: list[socket.socket], address: tuple[str, int]) -> None:
    for number in range(DATAGRAMS_PER_FLOW):
        for flow, client in enumerate(clients):
            client.sendto(struct.pack("!II", flow, number), address)
        time.sleep(INTERVAL_S)


def receive_numbered(server: socket.socket) -> list[list[int]]:
    """Give the numbers of each flow in order of arrival, up to a silence."""
    arrived: list[list[int]] = [[] for _ in range(FLOWS)]
    with contextlib.suppress(TimeoutError):
        for _ in range(FLOWS * DATAGRAMS_PER_FLOW):
            flow, number = struct.unpack("!II", server.recv(64))
            arrived[flow].append(number)
    return arrived


def test_numbered_datagrams_arrive_in_order(pair: tuple[Container, Container]) -> None:
    source, sink = pair
    assert ping(source.netns, sink.ip4) == 3
    with ExitStack() as stack:

        def open_socket() -> socket.socket:
            return stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))

        server = sink.netns.inside(open_socket)
        server.bind((sink.ip4, PORT))
        server.settimeout(3)
        clients = source.netns.inside(lambda: [open_socket() for _ in range(FLOWS)])
        sender = threading.Thread(target=send_numbered, args=(clients, (sink.ip4, PORT)))
        sender.start()
        stack.callback(sender.join)
        assert receive_numbered(server) == [list(range(DATAGRAMS_PER_FLOW))] * FLOWS


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_tcp_of_several_flows(pair: tuple[Container, Container], lab: Lab, family: str) -> None:
    source, sink = pair
    with counting(source) as sent, counting(sink) as handed_on:
        summary = iperf3(source.netns, sink.netns, getattr(sink, family), "--parallel", "4")
    assert received_bytes(summary) > 1e6
    assert sent["drops"] == handed_on["drops"] == {}
    assert all(worker["packets"] > 0 for worker in lab.control.workers()["workers"])
