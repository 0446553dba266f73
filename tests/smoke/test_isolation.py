"""What a container sees: its network's frames for it, and nobody else's."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import BROADCAST, EXPERIMENTAL, ethernet, receive_all, receive_until
from tests.smoke.ports import counting
from tests.smoke.traffic import ping, reaches_nobody

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

NOBODY = "02:00:00:00:00:63"
ROUTERS = ["01:00:5e:00:00:02", "01:00:5e:00:00:16", "33:33:00:00:00:02", "33:33:00:00:00:16"]
RESERVED_GROUPS = ["01:80:c2:00:00:00", "01:80:c2:00:00:02", "01:80:c2:00:00:0e"]


def test_networks_with_the_same_addresses_do_not_meet(lab: Lab) -> None:
    networks = [lab.network(), lab.network()]
    pairs = [(lab.container(name, 1), lab.container(name, 2)) for name in networks]
    marks = [uuid.uuid4().bytes for _ in pairs]
    captures = [other.packet_socket() for _, other in pairs]
    for (sender, receiver), mark in zip(pairs, marks, strict=True):
        with sender.packet_socket() as out:
            for to in (receiver.mac, BROADCAST, NOBODY):
                out.send(ethernet(to, sender.mac, EXPERIMENTAL, mark))
    for (sender, receiver), mark, capture in zip(pairs, marks, captures, strict=True):
        with capture:
            receive_until(capture, mark)
            assert ping(sender.netns, receiver.ip4) == 3
            own = [frame for frame in receive_all(capture) if frame.type == EXPERIMENTAL]
            assert [frame.destination for frame in own] == [BROADCAST]
            assert mark in own[0].data
    assert reaches_nobody(pairs[0][0].netns, "10.9.0.9")


def test_unknown_destination_goes_to_the_uplink_only(lab: Lab) -> None:
    outside = lab.uplink("af_packet")
    network = lab.network(outside)
    sender, bystander = lab.container(network, 1), lab.container(network, 2)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        bystander.packet_socket() as seen,
        outside.packet_socket() as wire,
    ):
        out.send(ethernet(NOBODY, sender.mac, EXPERIMENTAL, mark))
        receive_until(wire, mark)
        out.send(ethernet(bystander.mac, sender.mac, EXPERIMENTAL, end))
        assert not [frame for frame in receive_until(seen, end) if mark in frame.data]


def test_unknown_destination_from_the_uplink_goes_nowhere(lab: Lab) -> None:
    outside = lab.uplink("af_packet")
    container = lab.container(lab.network(outside), 1)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        outside.packet_socket() as out,
        container.packet_socket() as seen,
        outside.packet_socket() as wire,
        counting(outside) as rise,
    ):
        out.send(ethernet(NOBODY, outside.mac, EXPERIMENTAL, mark))
        out.send(ethernet(container.mac, outside.mac, EXPERIMENTAL, end))
        assert not [frame for frame in receive_until(seen, end) if mark in frame.data]
        assert not [frame for frame in receive_all(wire) if mark in frame.data]
    assert rise["drops"] == {"no_destination": 1}


def test_unknown_destination_without_an_uplink_is_counted(lab: Lab) -> None:
    network = lab.network()
    sender, bystander = lab.container(network, 1), lab.container(network, 2)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        bystander.packet_socket() as seen,
        counting(sender) as rise,
    ):
        out.send(ethernet(NOBODY, sender.mac, EXPERIMENTAL, mark))
        out.send(ethernet(bystander.mac, sender.mac, EXPERIMENTAL, end))
        assert not [frame for frame in receive_until(seen, end) if mark in frame.data]
    assert rise["drops"] == {"no_destination": 1}


@pytest.mark.parametrize("group", RESERVED_GROUPS)
def test_frames_between_bridges_are_not_forwarded(lab: Lab, group: str) -> None:
    outside = lab.uplink("af_packet")
    network = lab.network(outside)
    sender, bystander = lab.container(network, 1), lab.container(network, 2)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        bystander.packet_socket() as seen,
        outside.packet_socket() as wire,
        counting(sender) as rise,
    ):
        out.send(ethernet(group, sender.mac, EXPERIMENTAL, mark))
        out.send(ethernet(BROADCAST, sender.mac, EXPERIMENTAL, end))
        for capture in (seen, wire):
            assert not [frame for frame in receive_until(capture, end) if mark in frame.data]
    assert rise["drops"] == {"reserved_group": 1}


def test_what_is_for_routers_goes_to_who_may_be_one(lab: Lab) -> None:
    outside = lab.uplink("af_packet")
    network = lab.network(outside)
    sender, bystander = lab.container(network, 1), lab.container(network, 2)
    router = lab.container(network, 3, spoof_check=False)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        bystander.packet_socket() as seen,
        router.packet_socket() as routed,
        outside.packet_socket() as wire,
    ):
        for group in ROUTERS:
            out.send(ethernet(group, sender.mac, EXPERIMENTAL, mark))
        out.send(ethernet(BROADCAST, sender.mac, EXPERIMENTAL, end))
        assert not [frame for frame in receive_until(seen, end) if mark in frame.data]
        for capture in (routed, wire):
            found = [frame for frame in receive_until(capture, end) if mark in frame.data]
            assert [frame.destination for frame in found] == ROUTERS
