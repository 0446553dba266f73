"""Limits of a kernel interface behind the kernel's vhost-net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.attached import attached
from tests.smoke.traffic import iperf3, wire_bits

if TYPE_CHECKING:
    from tests.smoke.agent import Node

RATE = 20_000_000
TOLERANCE = 0.05
LIMITED = {"bandwidth": {"ingressRate": RATE, "egressRate": RATE}}


def test_tcp_into_and_out_of_a_container(here: Node) -> None:
    with attached(here, "slow", runtimeConfig=LIMITED) as slow, attached(here, "fast") as fast:
        for source, sink in ((fast, slow), (slow, fast)):
            summary = iperf3(source.space, sink.space, sink.ip4, "--time", "5")
            assert wire_bits(summary) == pytest.approx(RATE, rel=TOLERANCE)
        counters = slow.counters()
        assert counters["ingress_held_packets"] > 0
        assert counters["egress_pauses"] > 0
