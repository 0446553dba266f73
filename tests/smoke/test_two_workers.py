"""Two workers share the ports: nothing is lost and no flow is reordered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.smoke.numbered import numbered
from tests.smoke.ports import Container, counting
from tests.smoke.topology import Lab, dataplane_in_host, lab_on
from tests.smoke.traffic import iperf3, ping, received_bytes
from tests.unit.dataplane_process import CORES

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_numbered_datagrams_arrive_in_order(pair: tuple[Container, Container]) -> None:
    source, sink = pair
    assert ping(source.netns, sink.ip4) == 3
    with numbered(source, sink) as flows:
        time.sleep(3)
    flows.assert_all_in_order()


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_tcp_of_several_flows(pair: tuple[Container, Container], lab: Lab, family: str) -> None:
    source, sink = pair
    with counting(source) as sent, counting(sink) as handed_on:
        summary = iperf3(source.netns, sink.netns, getattr(sink, family), "--parallel", "4")
    assert received_bytes(summary) > 1e6
    assert sent["drops"] == handed_on["drops"] == {}
    assert all(worker["packets"] > 0 for worker in lab.control.workers()["workers"])
