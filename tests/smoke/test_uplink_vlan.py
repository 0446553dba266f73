"""Networks that share an uplink, told apart by their tags on the wire; containers see no tag."""

from __future__ import annotations

import socket
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import (
    BROADCAST,
    EXPERIMENTAL,
    IPV4,
    checksum_errors,
    ethernet,
    receive_until,
)
from tests.smoke.ports import Container, counting
from tests.smoke.traffic import DATA_HASH, send_data

if TYPE_CHECKING:
    from tests.smoke.topology import Driver, Lab

TAGS = [None, 100, 200]


@dataclass(frozen=True)
class Shared:
    outside: Container
    containers: dict[int | None, Container]
    """By the tag of their network; all have the same addresses."""


@pytest.fixture(scope="module", params=["af_xdp", "af_packet"])
def shared(request: pytest.FixtureRequest, module_lab: Lab) -> Shared:
    outside = module_lab.uplink(request.param)
    networks = {tag: module_lab.network(outside, tag) for tag in TAGS}
    containers = {tag: module_lab.container(name, 1) for tag, name in networks.items()}
    return Shared(outside, containers)


@pytest.mark.parametrize("tag", TAGS)
def test_frame_leaves_with_the_tag_of_its_network(shared: Shared, tag: int | None) -> None:
    container, mark = shared.containers[tag], uuid.uuid4().bytes
    with container.packet_socket() as out, shared.outside.packet_socket() as wire:
        for to in (shared.outside.mac, BROADCAST):
            out.send(ethernet(to, container.mac, EXPERIMENTAL, mark))
            frame = receive_until(wire, mark)[-1]
            assert (frame.vlan, frame.destination, frame.type) == (tag, to, EXPERIMENTAL)


@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize("tag", TAGS)
def test_frame_enters_the_network_of_its_tag(shared: Shared, tag: int | None, to_all: bool) -> None:
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    to = BROADCAST if to_all else shared.containers[tag].mac
    with ExitStack() as stack:
        captures = {
            tag: stack.enter_context(container.packet_socket())
            for tag, container in shared.containers.items()
        }
        out = stack.enter_context(shared.outside.packet_socket())
        out.send(ethernet(to, shared.outside.mac, EXPERIMENTAL, mark, vlan=tag))
        for each in TAGS:
            out.send(ethernet(BROADCAST, shared.outside.mac, EXPERIMENTAL, end, vlan=each))
        arrived = {each: receive_until(sock, end) for each, sock in captures.items()}
    seen = {each: [f for f in frames if mark in f.data] for each, frames in arrived.items()}
    assert {each: len(frames) for each, frames in seen.items()} == {
        each: int(each == tag) for each in TAGS
    }
    assert seen[tag][0].vlan is None


def test_tag_of_no_network_is_dropped(shared: Shared) -> None:
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with ExitStack() as stack:
        captures = [
            stack.enter_context(port.packet_socket()) for port in shared.containers.values()
        ]
        out = stack.enter_context(shared.outside.packet_socket())
        with counting(shared.outside) as rise:
            out.send(ethernet(BROADCAST, shared.outside.mac, EXPERIMENTAL, mark, vlan=300))
            for tag in TAGS:
                out.send(ethernet(BROADCAST, shared.outside.mac, EXPERIMENTAL, end, vlan=tag))
            for sock in captures:
                assert not [f for f in receive_until(sock, end) if mark in f.data]
    assert rise["drops"] == {"vlan": 1}


def test_tag_that_is_only_a_priority_is_untagged(shared: Shared) -> None:
    mark = uuid.uuid4().bytes
    with shared.outside.packet_socket() as out, shared.containers[None].packet_socket() as seen:
        out.send(ethernet(BROADCAST, shared.outside.mac, EXPERIMENTAL, mark, vlan=5 << 13))
        assert receive_until(seen, mark)[-1].vlan is None


def test_checksum_is_finished_behind_the_tag(shared: Shared) -> None:
    container, mark = shared.containers[100], uuid.uuid4().bytes
    container.know(shared.outside)
    sender = container.netns.inside(lambda: socket.socket(type=socket.SOCK_DGRAM))
    with sender, shared.outside.packet_socket() as wire:
        sender.sendto(mark, (shared.outside.ip4, 9))
        frame = receive_until(wire, mark)[-1]
    assert (frame.vlan, frame.type, checksum_errors(frame)) == (100, IPV4, [])


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_tcp_between_containers_that_meet_on_a_tagged_wire(
    lab: Lab, driver: Driver, family: str
) -> None:
    one_end, other_end = lab.joined_uplinks(driver)
    one = lab.container(lab.network(one_end, 100), 1)
    other = lab.container(lab.network(other_end, 100), 2)
    with counting(one_end) as rise:
        assert send_data(one.netns, other.netns, getattr(other, family)) == DATA_HASH
    assert rise["sw_gso_packets"] > 0
    # With its tag a full frame has 1,518 bytes; most are full.
    assert 1400 < rise["tx_bytes"] / rise["tx_packets"] <= 1518
