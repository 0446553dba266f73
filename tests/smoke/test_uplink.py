"""Containers and the outside world, through an AF_XDP or AF_PACKET uplink."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import IPV4, IPV6, checksum_errors, receive_all
from tests.smoke.ports import Container, counting
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import DATA, DATA_HASH, iperf3, ping, received_bytes, send_data

if TYPE_CHECKING:
    from tests.smoke.topology import Driver, Lab

Ends = tuple[Container, Container]


@pytest.fixture(scope="module", params=["af_xdp", "af_packet"])
def ends(request: pytest.FixtureRequest, module_lab: Lab) -> Ends:
    """A container, and the far end of the uplink."""
    outside = module_lab.uplink(request.param)
    return module_lab.container(module_lab.network(outside), 1), outside


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_ping_both_ways(ends: Ends, family: str) -> None:
    container, outside = ends
    assert ping(container.netns, getattr(outside, family)) == 3
    assert ping(outside.netns, getattr(container, family)) == 3


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_what_leaves_is_within_the_mtu_and_complete(ends: Ends, family: str) -> None:
    container, outside = ends
    with outside.packet_socket() as wire, counting(outside) as rise:
        arrived = send_data(container.netns, outside.netns, getattr(outside, family))
        frames = [frame for frame in receive_all(wire) if frame.type in (IPV4, IPV6)]
    assert arrived == DATA_HASH
    assert sum(len(frame.data) for frame in frames) > len(DATA)
    assert max(len(frame.data) for frame in frames) == 1514
    assert [frame for frame in frames if checksum_errors(frame)] == []
    assert rise["sw_gso_packets"] > 0
    assert rise["sw_csum_packets"] > 0
    assert rise["drops"].get("too_big", 0) == 0


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_tcp_from_outside(ends: Ends, family: str) -> None:
    container, outside = ends
    summary = iperf3(outside.netns, container.netns, getattr(container, family))
    assert received_bytes(summary) > 1e6


def test_addresses_outside_are_learned(ends: Ends, module_lab: Lab) -> None:
    container, outside = ends
    assert ping(container.netns, outside.ip4) == 3
    networks = module_lab.control.networks()["networks"]
    network = next(n["spec"]["name"] for n in networks if n["spec"]["uplink"] == outside.name)
    entries = {entry["mac"]: entry for entry in module_lab.control.fdb(network)["entries"]}
    learned = entries[outside.mac]
    assert (learned["port"], learned["static"]) == (outside.name, False)
    assert learned["age_s"] <= 2
    assert (entries[container.mac]["port"], entries[container.mac]["static"]) == (
        container.name,
        True,
    )


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_application_is_reached_from_outside(lab: Lab, driver: Driver) -> None:
    outside = lab.uplink(driver)
    port = lab.application(lab.network(outside), 1)
    with running_testpmd(port, "icmpecho"):
        assert ping(outside.netns, port.ip4) == 3
