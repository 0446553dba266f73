"""Taps with several queues: flows spread over them in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.smoke.ports import Container, counting
from tests.smoke.traffic import iperf3, ping, received_bytes

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

QUEUES = 4


def busy_queues(port: Container, counter: str) -> list[int]:
    queues: list[dict[str, Any]] = port.counters()["queues"]
    assert len(queues) == QUEUES
    return [number for number, queue in enumerate(queues) if queue[counter] > 100]


def test_flows_use_several_queues_in_both_directions(lab: Lab) -> None:
    network = lab.network()
    one, other = (lab.container(network, number, queues=QUEUES) for number in (1, 2))
    assert one.state()["rx_queues"] == one.state()["tx_queues"] == QUEUES
    assert ping(one.netns, other.ip4) == 3
    for source, sink in ((one, other), (other, one)):
        with counting(source) as sent, counting(sink) as handed_on:
            summary = iperf3(source.netns, sink.netns, sink.ip4, "--parallel", "8")
        assert received_bytes(summary) > 1e6
        assert sent["drops"] == handed_on["drops"] == {}
    for port in (one, other):
        assert len(busy_queues(port, "rx_packets")) > 1
        assert len(busy_queues(port, "tx_packets")) > 1
