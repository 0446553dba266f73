"""Nobody draws another's packets to itself: a container's address stays where the port is."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.smoke.frames import BROADCAST, EXPERIMENTAL, Frame, ethernet, receive_all, receive_until
from tests.smoke.ports import counting

if TYPE_CHECKING:
    from tests.smoke.ports import Container
    from tests.smoke.topology import Driver, Lab

LEARNED_MOST = 4096
"""Of a network; memory for them is part of the network's."""
FLOOD = 5 * LEARNED_MOST


def entries(lab: Lab, network: str, mac: str) -> list[tuple[str, bool]]:
    """Give where an address is known to be, and whether for good."""
    found: list[dict[str, Any]] = lab.control.fdb(network)["entries"]
    return [(each["port"], each["static"]) for each in found if each["mac"] == mac]


def claim(liar: Container, mac: str, *others: Container) -> None:
    """Send as another: to all, to some, and to the address itself."""
    end = uuid.uuid4().bytes
    with liar.packet_socket() as out, others[0].packet_socket() as seen:
        for to in (BROADCAST, *(each.mac for each in others), mac):
            for _ in range(10):
                out.send(ethernet(to, mac, EXPERIMENTAL, b"that is me"))
        out.send(ethernet(others[0].mac, mac, EXPERIMENTAL, end))
        receive_until(seen, end)


def strays(sender: Container, receiver: Container, bystander: Container) -> list[Frame]:
    """Send to one; give what another sees of it."""
    mark = uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        receiver.packet_socket() as there,
        bystander.packet_socket() as elsewhere,
    ):
        out.send(ethernet(receiver.mac, sender.mac, EXPERIMENTAL, mark))
        receive_until(there, mark)
        return [frame for frame in receive_all(elsewhere) if mark in frame.data]


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_container_that_may_spoof_draws_nothing_to_itself(lab: Lab, driver: Driver) -> None:
    outside = lab.uplink(driver)
    network = lab.network(outside)
    victim, sender = lab.container(network, 1), lab.container(network, 2)
    liar = lab.container(network, 3, spoof_check=False)
    for stolen in (victim, outside):
        claim(liar, stolen.mac, sender, outside if stolen is victim else victim)
        assert strays(sender, stolen, liar) == []
    assert entries(lab, network, victim.mac) == [(victim.name, True)]
    assert (liar.name, False) not in entries(lab, network, outside.mac)


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_outside_world_does_not_draw_a_container_out(lab: Lab, driver: Driver) -> None:
    outside = lab.uplink(driver)
    network = lab.network(outside)
    victim, sender = lab.container(network, 1), lab.container(network, 2)
    claim(outside, victim.mac, sender)
    assert entries(lab, network, victim.mac) == [(victim.name, True)]
    assert strays(sender, victim, outside) == []


def test_flood_of_addresses_is_bounded_and_moves_nobody(lab: Lab) -> None:
    outside = lab.uplink("af_packet")
    networks = [lab.network(outside), lab.network(outside, 100)]
    victim, sender = lab.container(networks[0], 1), lab.container(networks[0], 2)
    with outside.packet_socket() as out, counting(outside) as rise:
        for number in range(FLOOD):
            mac = f"02:01:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
            out.send(ethernet(victim.mac, mac, EXPERIMENTAL, b"flood"))
        claim(outside, victim.mac, sender)
    assert rise["rx_packets"] > LEARNED_MOST
    learned = [each for each in lab.control.fdb(networks[0])["entries"] if not each["static"]]
    assert LEARNED_MOST / 2 < len(learned) <= LEARNED_MOST
    assert lab.control.fdb(networks[1])["entries"] == []
    assert entries(lab, networks[0], victim.mac) == [(victim.name, True)]
    assert strays(sender, victim, outside) == []


def test_networks_of_one_uplink_meet_outside_only(lab: Lab) -> None:
    """To all, to its MAC, or with its MAC as source: nothing comes to another network's member."""
    outside = lab.uplink("af_packet")
    here, there = lab.network(outside, 100), lab.network(outside, 200)
    sender = lab.container(here, 1, spoof_check=False)
    neighbour, stranger = lab.container(here, 2), lab.container(there, 3)
    mark, end = uuid.uuid4().bytes, uuid.uuid4().bytes
    with (
        sender.packet_socket() as out,
        outside.packet_socket() as wire,
        stranger.packet_socket() as seen,
        outside.packet_socket() as far,
    ):
        out.send(ethernet(BROADCAST, sender.mac, EXPERIMENTAL, mark))
        out.send(ethernet(stranger.mac, sender.mac, EXPERIMENTAL, mark))
        out.send(ethernet(stranger.mac, stranger.mac, EXPERIMENTAL, mark))
        out.send(ethernet(neighbour.mac, stranger.mac, EXPERIMENTAL, mark))
        out.send(ethernet(stranger.mac, sender.mac, EXPERIMENTAL, end))
        out_there = receive_until(wire, end)
        far.send(ethernet(BROADCAST, outside.mac, EXPERIMENTAL, end, vlan=200))
        assert not [frame for frame in receive_until(seen, end) if mark in frame.data]
    assert {frame.vlan for frame in out_there if mark in frame.data} == {100}
    assert entries(lab, here, stranger.mac) == []
    assert entries(lab, there, stranger.mac) == [(stranger.name, True)]
