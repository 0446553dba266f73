"""Limits of a kernel interface behind the kernel's vhost-net."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.smoke.attached import Attached, attached
from tests.smoke.limited import assert_held
from tests.smoke.traffic import iperf3, wire_bits

if TYPE_CHECKING:
    from tests.smoke.agent import Node

RATE = 20_000_000
LIMITED = {"bandwidth": {"ingressRate": RATE, "egressRate": RATE}}


def rate_between(source: Attached, sink: Attached) -> float:
    return wire_bits(iperf3(source.space, sink.space, sink.ip4, "--time", "3"))


def test_tcp_into_and_out_of_a_container(here: Node) -> None:
    with attached(here, "slow", runtimeConfig=LIMITED) as slow, attached(here, "fast") as fast:
        for source, sink in ((fast, slow), (slow, fast)):
            assert_held(partial(rate_between, source, sink), RATE)
        counters = slow.counters()
        assert counters["ingress_held_packets"] > 0
        assert counters["egress_pauses"] > 0
