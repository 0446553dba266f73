"""Broadcast and multicast reach every port of the network once, and not the sender."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import BROADCAST, EXPERIMENTAL, Frame, ethernet, receive_all, receive_until
from tests.smoke.ports import counting
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

MULTICAST = "01:00:5e:00:00:fb"


def marked(frames: list[Frame], mark: bytes) -> int:
    return sum(mark in frame.data for frame in frames)


@pytest.mark.parametrize("group", [BROADCAST, MULTICAST])
def test_group_frame_reaches_each_kernel_port_once(lab: Lab, group: str) -> None:
    outside = lab.uplink("af_packet")
    network = lab.network(outside)
    members = [lab.container(network, number) for number in (1, 2, 3, 4)]
    for sender in (*members, outside):
        mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
        others = [port for port in (*members, outside) if port is not sender]
        with ExitStack() as stack:
            captures = [stack.enter_context(port.packet_socket()) for port in others]
            back = stack.enter_context(sender.packet_socket())
            out = stack.enter_context(sender.packet_socket())
            out.send(ethernet(group, sender.mac, EXPERIMENTAL, mark))
            out.send(ethernet(group, sender.mac, EXPERIMENTAL, end))
            assert [marked(receive_until(sock, end), mark) for sock in captures] == [1] * 4
            assert marked(receive_all(back), mark) == 0


def test_group_frame_reaches_each_application_once(lab: Lab) -> None:
    network = lab.network()
    sender, replier = lab.container(network, 1), lab.application(network, 2)
    applications = [replier, lab.application(network, 3), lab.application(network, 4)]
    sender.know(replier)
    # Else the kernel sends multicast of its own.
    sender.netns.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    with ExitStack() as stack:
        for port in applications:
            stack.enter_context(running_testpmd(port, "icmpecho"))
        with ExitStack() as counts:
            rises = [counts.enter_context(counting(port)) for port in applications]
            with sender.packet_socket() as out:
                for _ in range(100):
                    out.send(ethernet(BROADCAST, sender.mac, EXPERIMENTAL, b""))
            # The reply comes after the frames to be counted.
            assert ping(sender.netns, replier.ip4, 1) == 1
    assert [rise["tx_packets"] for rise in rises] == [101, 100, 100]
