"""Two workers share one limit: its rate, the order of what waits, and the end of the port."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from dataplane.limits import Limits
from tests.smoke.frames import IPV4, UDP, ethernet, ipv4, udp
from tests.smoke.limited import assert_held
from tests.smoke.netns import Netns
from tests.smoke.numbered import numbered
from tests.smoke.ports import Container, counting, wait_until
from tests.smoke.test_bandwidth import RATE
from tests.smoke.topology import Lab, buffers_in_use, dataplane_in_host, lab_on
from tests.smoke.traffic import iperf3, ping, wire_bits
from tests.unit.dataplane_process import CORES

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER_CORES = CORES[:2]
SECONDS = 1.5

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="two workers need two cores")


@pytest.fixture
def lab() -> Iterator[Lab]:
    cores = ",".join(map(str, WORKER_CORES))
    with dataplane_in_host("--cores", cores) as both, lab_on(*both) as lab:
        yield lab


def limited(rate_bits_s: int, burst_bits: int) -> Limits:
    return Limits(rate_bits_s, burst_bits, rate_bits_s, burst_bits)


LIMITS = limited(RATE, RATE // 50)


def cores_of(*containers: Container) -> set[int]:
    return {queue["core"] for each in containers for queue in each.counters()["queues"]}


def test_out_of_queues_on_both(lab: Lab) -> None:
    network = lab.network()
    source, sink = (lab.container(network, number, queues=2) for number in (1, 2))
    assert cores_of(source) == set(WORKER_CORES)
    lab.control.port_set(source.name, LIMITS)
    options = ("--parallel", "8", "--time", "2")
    with counting(source) as rise:
        assert_held(lambda: wire_bits(iperf3(source.netns, sink.netns, sink.ip4, *options)), RATE)
    assert all(queue["rx_packets"] > 100 for queue in source.counters()["queues"])
    assert rise["drops"] == {}


def test_into_a_container_from_both(lab: Lab) -> None:
    network = lab.network()
    containers = [lab.container(network, number) for number in (1, 2, 3)]
    sink = containers[0]
    assert cores_of(*containers[1:]) == set(WORKER_CORES)
    lab.control.port_set(sink.name, LIMITS)
    with ExitStack() as stack:
        for source in containers[1:]:
            stack.enter_context(_datagrams(source.netns, sink))
        wait_until(lambda: "ingress_limit" in sink.drops(), "more comes than may pass")
        assert_held(lambda: _sent_rate(sink), RATE)


def _sent_rate(port: Container) -> float:
    before_s = time.monotonic()
    with counting(port) as rise:
        time.sleep(SECONDS)
        passed_s = time.monotonic() - before_s
    return float(8 * rise["tx_bytes"] / passed_s)


def _datagrams(source: Netns, sink: Container) -> ExitStack:
    """Send 200 Mbit/s to a port that is closed."""
    stack = ExitStack()
    sending = f"""
import socket, time
client = socket.socket(type=socket.SOCK_DGRAM)
client.connect(("{sink.ip4}", 9))
sent, begin = 0, time.monotonic()
while True:
    while sent < (time.monotonic() - begin) * 200e6 / 8:
        try:
            sent += client.send(bytes(1400))
        except ConnectionRefusedError:
            pass
    time.sleep(0.002)
"""
    stack.enter_context(source.running("/usr/bin/python3", "-c", sending))
    return stack


def test_nothing_is_overtaken_when_limits_change_and_queues_move(lab: Lab) -> None:
    network = lab.network()
    source, sink = (lab.container(network, number, queues=2) for number in (1, 2))
    assert ping(source.netns, sink.ip4) == 3
    with counting(sink) as rise, numbered(source, sink) as flows:
        for round_number in range(10):
            # 0.8 Mbit/s come; what waits meanwhile is far from too much.
            for limits in (limited(400_000, 33_000), limited(900_000, 33_000), Limits()):
                lab.control.port_set(sink.name, limits)
                time.sleep(0.1)
            newcomer = lab.container(network, 20 + round_number, queues=1 + round_number % 3)
            newcomer.delete()
        lab.control.port_set(sink.name, Limits())
    flows.assert_all_in_order()
    assert rise["ingress_held_packets"] > 100
    assert rise["drops"] == {}


def test_less_waits_at_a_lower_rate(lab: Lab) -> None:
    network = lab.network()
    source, sink = (lab.container(network, number) for number in (1, 2))
    lab.control.port_set(sink.name, LIMITS)
    with _datagrams(source.netns, sink):
        wait_until(lambda: buffers_in_use(lab.control) > 300, "50 ms at the rate wait")
        lab.control.port_set(sink.name, limited(1_000_000, 33_000))
        wait_until(lambda: buffers_in_use(lab.control) < 80, "64 KiB wait", timeout_s=1)


def test_what_waits_for_a_port_goes_with_it(lab: Lab) -> None:
    network = lab.network()
    source, sink = (lab.container(network, number) for number in (1, 2))
    lab.control.port_set(sink.name, limited(8000, 33_000))
    at_hand = len(WORKER_CORES)
    with source.packet_socket() as out:
        packet = ipv4(source.ip4, sink.ip4, UDP, udp(1000, 9, bytes(1000)))
        for _ in range(100):
            out.send(ethernet(sink.mac, source.mac, IPV4, packet))
        wait_until(lambda: sink.counters()["ingress_held_packets"] > 60, "packets wait")
    assert buffers_in_use(lab.control) > at_hand + 60
    sink.delete()
    assert buffers_in_use(lab.control) <= at_hand
