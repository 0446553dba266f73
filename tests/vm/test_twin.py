"""The twin of a NIC: the host's kernel has its network while containers share the wire."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.smoke.attached import Attached, attached
from tests.smoke.traffic import iperf3, ping, received_bytes
from tests.vm.far import program, result
from tests.vm.outside_frames import DHCP_CLIENT, DHCP_SERVER
from tests.vm.pinging import losing_none
from tests.vm.wire import TWIN
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node
    from tests.smoke.netns import Netns
    from tests.vm.outside import Outside

HOST = 50
"""What the host's addresses end in."""
DHCP_BYTES = 548


@pytest.fixture(scope="module")
def host(here: Node) -> Iterator[Netns]:
    """The host, with addresses on the twin."""
    here.host.ip(
        f"addr add {NIC.ip4(HOST)}/24 dev {TWIN}",
        f"addr add {NIC.ip6(HOST)}/64 dev {TWIN} nodad",
    )
    yield here.host
    here.host.ip(f"addr flush dev {TWIN}")


@pytest.fixture(scope="module")
def inside(here: Node) -> Iterator[Attached]:
    with attached(here, "beside", **NIC.conf(here.directory)) as inside:
        yield inside


def test_it_has_the_mac_and_the_queues(here: Node) -> None:
    link = here.host.run("ip", "-details", "link", "show", TWIN)
    assert f"link/ether {NIC.mac} " in link
    assert "LOWER_UP" in link
    port = here.port("exception:wire0")
    assert port["state"]["mac"] == here.port("uplink:wire0")["state"]["mac"] == NIC.mac
    assert len(port["state"]["vhost_threads"]) == port["spec"]["queues"] == NIC.queues


def test_host_and_container_reach_the_outside_at_the_same_time(
    host: Netns, inside: Attached, outside: Outside
) -> None:
    with losing_none(inside.space, NIC.far_ip4):
        for family in ("ip4", "ip6"):
            there, own = getattr(NIC, f"far_{family}"), getattr(NIC, family)(HOST)
            assert ping(host, there) == 3
            assert ping(outside, own) == 3
            assert ping(host, getattr(inside, family)) == 3
            assert received_bytes(iperf3(host, outside, there)) > 1e6
            assert received_bytes(iperf3(outside, host, own)) > 1e6


def test_dhcp_of_the_host(host: Netns, outside: Outside) -> None:
    request = os.urandom(DHCP_BYTES)
    with host.inside(lambda: socket.socket(type=socket.SOCK_DGRAM)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, TWIN.encode())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.settimeout(10)
        client.bind(("", DHCP_CLIENT))
        with program(outside, "answer", NIC.far_ifname) as server:
            client.sendto(request, ("255.255.255.255", DHCP_SERVER))
            assert client.recv(1 << 16) == request
            assert result(server) == {"bytes": DHCP_BYTES}
