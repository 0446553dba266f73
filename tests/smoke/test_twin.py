"""An uplink's twin: the host's kernel keeps its network while containers share the wire."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from dataplane.client import DataplaneError
from tests.smoke.frames import BROADCAST, EXPERIMENTAL, Frame, ethernet, receive_until
from tests.smoke.ports import Container, Twin, counting
from tests.smoke.traffic import DATA_HASH, iperf3, ping, received_bytes, send_data

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

LLDP = "01:80:c2:00:00:0e"
TAG = 100


@dataclass(frozen=True)
class Shared:
    outside: Container
    twin: Twin
    container: Container
    tagged: Container
    """In the network of TAG."""


@pytest.fixture(scope="module", params=["af_xdp", "af_packet"])
def shared(request: pytest.FixtureRequest, module_lab: Lab) -> Shared:
    outside = module_lab.uplink(request.param)
    twin = module_lab.twin(outside, 50)
    container = module_lab.container(module_lab.network(outside), 1)
    tagged = module_lab.container(module_lab.network(outside, TAG), 2)
    return Shared(outside, twin, container, tagged)


def seen(sender: Container, receivers: list[Container], frame: bytes) -> list[list[Frame]]:
    """Send a frame; give what each receiver has of it, by the end of a broadcast after it."""
    mark, end = mark_of(frame), uuid.uuid4().bytes
    with ExitStack() as stack:
        captures = [stack.enter_context(each.packet_socket()) for each in receivers]
        out = stack.enter_context(sender.packet_socket())
        out.send(frame)
        out.send(ethernet(BROADCAST, sender.mac, EXPERIMENTAL, end))
        arrived = [receive_until(capture, end) for capture in captures]
    return [[each for each in frames if mark in each.data] for frames in arrived]


def marked(to: str, source: str, vlan: int | None = None) -> bytes:
    """Make a frame whose last bytes are unique, and which needs no padding."""
    return ethernet(to, source, EXPERIMENTAL, bytes(64) + uuid.uuid4().bytes, vlan=vlan)


def mark_of(frame: bytes) -> bytes:
    return frame[-16:]


def test_it_has_the_mac_of_the_uplink(shared: Shared) -> None:
    assert shared.twin.mac == shared.outside.state()["mac"] == shared.twin.state()["mac"]


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_host_outside_and_container_reach_one_another(shared: Shared, family: str) -> None:
    outside, twin, container = shared.outside, shared.twin, shared.container
    for source, target in ((twin, outside), (outside, twin), (container, twin), (twin, container)):
        assert ping(source.netns, getattr(target, family)) == 3
    assert ping(container.netns, getattr(outside, family)) == 3


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_tcp_of_the_host(shared: Shared, family: str) -> None:
    outside, twin, container = shared.outside, shared.twin, shared.container
    assert send_data(twin.netns, outside.netns, getattr(outside, family)) == DATA_HASH
    assert send_data(outside.netns, twin.netns, getattr(twin, family)) == DATA_HASH
    with counting(twin) as rise:
        summary = iperf3(container.netns, twin.netns, getattr(twin, family))
    assert received_bytes(summary) > 1e6
    assert rise["tx_gso_packets"] > 0


def test_broadcast_reaches_each_once(shared: Shared) -> None:
    outside, twin, container = shared.outside, shared.twin, shared.container
    for sender, others in (
        (outside, [twin, container]),
        (twin, [outside, container]),
        (container, [outside, twin]),
    ):
        found = seen(sender, others, marked(BROADCAST, sender.mac))
        assert [len(frames) for frames in found] == [1, 1]


def test_link_control_is_between_wire_and_host(shared: Shared) -> None:
    outside, twin, container = shared.outside, shared.twin, shared.container
    frame = marked(LLDP, outside.mac)
    assert [len(f) for f in seen(outside, [twin, container], frame)] == [1, 0]
    frame = marked(LLDP, twin.mac)
    assert [len(f) for f in seen(twin, [outside, container], frame)] == [1, 0]


def test_unicast_of_others_stays_away_from_the_host(shared: Shared) -> None:
    outside, twin, container = shared.outside, shared.twin, shared.container
    assert seen(outside, [twin], marked("02:00:00:00:00:77", outside.mac)) == [[]]
    assert seen(outside, [twin], marked(container.mac, outside.mac)) == [[]]
    assert seen(container, [twin], marked(outside.mac, container.mac)) == [[]]


def test_what_the_host_sends_back_unchanged_leaves(shared: Shared) -> None:
    """As a forwarder on the twin does, whose frames have the twin's address on them."""
    outside, twin = shared.outside, shared.twin
    assert [len(f) for f in seen(twin, [outside], marked(twin.mac, outside.mac))] == [1]


def test_the_host_has_every_tag(shared: Shared) -> None:
    outside, twin, tagged = shared.outside, shared.twin, shared.tagged
    for tag in (TAG, 777):
        (frames,) = seen(outside, [twin], marked(twin.mac, outside.mac, vlan=tag))
        assert [frame.vlan for frame in frames] == [tag]
        (frames,) = seen(twin, [outside], marked(outside.mac, twin.mac, vlan=tag))
        assert [frame.vlan for frame in frames] == [tag]
    (frames,) = seen(tagged, [twin], marked(twin.mac, tagged.mac))
    assert [frame.vlan for frame in frames] == [TAG]
    frame = marked(tagged.mac, twin.mac, vlan=TAG)
    with tagged.packet_socket() as capture, twin.packet_socket() as out:
        out.send(frame)
        assert receive_until(capture, mark_of(frame))[-1].vlan is None


def test_one_twin_and_no_uplink_without_it(shared: Shared, module_lab: Lab) -> None:
    with pytest.raises(DataplaneError, match="exists and has"):
        module_lab.twin(shared.outside, 51)
    with pytest.raises(DataplaneError, match=r"still has|is the uplink"):
        module_lab.control.port_del(shared.outside.name)
