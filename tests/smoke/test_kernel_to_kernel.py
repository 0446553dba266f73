"""Two kernel containers: they reach each other, and TCP crosses in segments of up to 64 KB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.ports import Container, counting
from tests.smoke.traffic import iperf3, ping, received_bytes

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

Pair = tuple[Container, Container]


@pytest.fixture(scope="module")
def pair(module_lab: Lab) -> Pair:
    network = module_lab.network()
    return module_lab.container(network, 1), module_lab.container(network, 2)


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_ping_is_answered(pair: Pair, family: str) -> None:
    one, other = pair
    assert ping(one.netns, getattr(other, family)) == 3
    assert ping(other.netns, getattr(one, family)) == 3


@pytest.mark.parametrize("family", ["ip4", "ip6"])
@pytest.mark.parametrize("direction", ["there", "back"])
def test_tcp_crosses_in_large_segments(pair: Pair, family: str, direction: str) -> None:
    source, sink = pair if direction == "there" else pair[::-1]
    with counting(source) as sent, counting(sink) as handed_on:
        summary = iperf3(source.netns, sink.netns, getattr(sink, family))
    data_bytes = received_bytes(summary)
    assert data_bytes > 1e6
    for segments in (sent["rx_gso_packets"], handed_on["tx_gso_packets"]):
        # Packets within the MTU carry less than 1,500 bytes each: nearly all went in large ones.
        assert data_bytes / segments > 30_000
    assert data_bytes / sent["rx_packets"] > 20_000
    assert data_bytes / handed_on["tx_packets"] > 20_000
    for rise in (sent, handed_on):
        assert rise["sw_gso_packets"] == 0
        assert rise["sw_csum_packets"] == 0
        assert rise["drops"] == {}
