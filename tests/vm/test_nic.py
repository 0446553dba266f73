"""Containers and what is at the other end of a real NIC's wire, through DPDK's driver on vfio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.attached import Attached, attached
from tests.smoke.frames import IPV4, UDP, Frame, receive_all
from tests.smoke.traffic import iperf3, ping, received_bytes
from tests.vm.far import watching
from tests.vm.outside_frames import ETHERNET_BYTES
from tests.vm.wire import NICS, Nic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node
    from tests.vm.outside import Outside

FAMILIES = ("ip4", "ip6")
MTU = 1500


@pytest.fixture(scope="module", params=NICS, ids=str)
def nic(request: pytest.FixtureRequest) -> Nic:
    nic: Nic = request.param
    return nic


@pytest.fixture(scope="module")
def inside(here: Node, nic: Nic) -> Iterator[Attached]:
    """A container on the network of the NIC."""
    with attached(here, "inside", queues=2, **nic.conf(here.directory)) as inside:
        yield inside


@pytest.mark.parametrize("family", FAMILIES)
def test_ping(inside: Attached, outside: Outside, nic: Nic, family: str) -> None:
    assert ping(inside.space, getattr(nic, f"far_{family}")) == 3
    assert ping(outside, getattr(inside, family)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic_both_ways(inside: Attached, outside: Outside, nic: Nic, family: str) -> None:
    here, there = getattr(inside, family), getattr(nic, f"far_{family}")
    udp = ("--udp", "--bitrate", "5M", "--length", "1200")
    with watching(outside, nic.wire_ifname) as frames:
        assert received_bytes(iperf3(inside.space, outside, there)) > 1e6
        assert received_bytes(iperf3(outside, inside.space, here)) > 1e6
        for source, sink, target in ((inside.space, outside, there), (outside, inside.space, here)):
            report = iperf3(source, sink, target, *udp)["sum"]
            # An emulated machine may not keep up for a moment.
            assert report["lost_packets"] < report["packets"] / 2
    assert frames["missed"] == 0
    assert frames["packets"] > 1e6 / MTU
    assert frames["faults"] == {}
    assert frames["longest_bytes"] <= MTU


def test_a_checksum_that_the_nic_vouches_for_is_trusted(
    inside: Attached, outside: Outside, nic: Nic
) -> None:
    with inside.space.packet_socket() as capture:
        iperf3(outside, inside.space, inside.ip4, "--udp", "--bitrate", "2M", "--length", "1200")
        datagrams = [frame for frame in receive_all(capture) if is_datagram(frame)]
    assert len(datagrams) > 100
    # DPDK's driver of the e1000e tells of wrong checksums only, not of right ones.
    vouches = nic.model == "virtio-net-pci" and "rx_checksum" in nic.offloads
    assert sum(frame.trusted for frame in datagrams) == (len(datagrams) if vouches else 0)


def is_datagram(frame: Frame) -> bool:
    return frame.type == IPV4 and frame.data[ETHERNET_BYTES + 9] == UDP


def test_offloads_in_effect(here: Node, nic: Nic) -> None:
    port = here.port(f"uplink:wire{nic.number}")
    assert port["state"]["mac"] == nic.mac
    assert set(port["state"]["offloads"]) == set(nic.offloads)
    # What it cannot do, the engine has done.
    assert (port["counters"]["sw_gso_packets"] > 0) == ("tso4" not in nic.offloads)
    assert (port["counters"]["sw_csum_packets"] > 0) == ("tx_checksum" not in nic.offloads)


def test_both_queues_receive(here: Node, nic: Nic) -> None:
    queues = here.port(f"uplink:wire{nic.number}")["counters"]["queues"]
    assert [queue["rx_packets"] > 0 for queue in queues] == [True] * nic.queues
