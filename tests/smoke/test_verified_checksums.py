"""A checksum that was verified before it came to the dataplane is not verified again."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import Frame, receive_all
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import switch_offloads, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.topology import Lab

DATAGRAMS = 50
PAYLOAD = b"x" * 1000


@pytest.fixture
def far() -> Iterator[Netns]:
    with netns() as space:
        yield space


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_verified_by_a_router(lab: Lab, far: Netns, family: str) -> None:
    """The router's own interface, as a NIC would, verifies what its wire brings complete."""
    network = lab.network()
    router = lab.container(network, 1, spoof_check=False)
    container = lab.container(network, 2)
    join(router.netns, far)
    router.know(container)
    with far.inside(lambda: udp_socket(family)) as sender, container.packet_socket() as capture:
        for _ in range(DATAGRAMS):
            sender.sendto(PAYLOAD, (getattr(container, family), 9))
        frames: list[Frame] = []
        wait_until(lambda: collect(capture, frames) == DATAGRAMS, "every datagram")
    assert all(frame.trusted for frame in frames)


def join(router: Netns, far: Netns) -> None:
    """Make a wire whose far end hands over complete frames, and route."""
    router.ip(f"link add wire0 type veth peer name eth0 netns {far.name}")
    switch_offloads(far, "eth0", "tx", "tso", "gso")
    router.run("ethtool", "-K", "wire0", "gro", "on")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    router.ip("addr add 10.8.0.1/24 dev wire0", "addr add fd00:8::1/64 dev wire0 nodad")
    router.ip("link set wire0 up")
    far.ip("addr add 10.8.0.2/24 dev eth0", "addr add fd00:8::2/64 dev eth0 nodad")
    far.ip("link set eth0 up", "route add default via 10.8.0.1")
    far.ip("route add default via fd00:8::1")


def udp_socket(family: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if family == "ip6" else socket.AF_INET, socket.SOCK_DGRAM)


def collect(capture: socket.socket, frames: list[Frame]) -> int:
    """Add the datagrams that have arrived; give how many there are in all."""
    frames.extend(frame for frame in receive_all(capture) if PAYLOAD in frame.data)
    return len(frames)
