"""A container that sends under another's address is dropped and counted, and nothing else is."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import (
    ARP,
    BROADCAST,
    IPV4,
    IPV6,
    UDP,
    Frame,
    arp_request,
    ethernet,
    ipv4,
    neighbour_solicitation,
    receive_until,
    udp,
    udp6,
)
from tests.smoke.ports import Container, counting, wait_until
from tests.smoke.testpmd import running_testpmd

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

OTHER_MAC = "02:00:00:00:00:63"
OTHER_IP4, OTHER_IP6 = "10.9.0.99", "fd00:9::63"


def datagram(sender: Container, receiver: Container, mark: bytes, mac: str = "") -> bytes:
    packet = ipv4(sender.ip4, receiver.ip4, UDP, udp(9, 9, mark))
    return ethernet(receiver.mac, mac or sender.mac, IPV4, packet)


def datagram6(sender: Container, receiver: Container, mark: bytes, source: str) -> bytes:
    return ethernet(receiver.mac, sender.mac, IPV6, udp6(source, receiver.ip6, mark))


def forged_frame(reason: str, sender: Container, receiver: Container, mark: bytes) -> bytes:
    to, own = receiver.mac, sender.mac
    match reason:
        case "spoof_mac":
            return datagram(sender, receiver, mark, mac=OTHER_MAC)
        case "spoof_ipv4":
            return ethernet(to, own, IPV4, ipv4(OTHER_IP4, receiver.ip4, UDP, udp(9, 9, mark)))
        case "spoof_ipv6":
            return datagram6(sender, receiver, mark, OTHER_IP6)
        case "spoof_arp":
            return ethernet(BROADCAST, own, ARP, arp_request(own, OTHER_IP4, receiver.ip4) + mark)
        case "spoof_arp mac":
            asked = arp_request(OTHER_MAC, sender.ip4, receiver.ip4)
            return ethernet(BROADCAST, own, ARP, asked + mark)
        case "vlan":
            packet = ipv4(sender.ip4, receiver.ip4, UDP, udp(9, 9, mark))
            return ethernet(to, own, IPV4, packet, vlan=7)
        case _:
            raise ValueError(reason)


FORGERIES = ["spoof_mac", "spoof_ipv4", "spoof_ipv6", "spoof_arp", "spoof_arp mac", "vlan"]


def deliver(sender: Container, receiver: Container, *sent: bytes) -> list[Frame]:
    """Send frames and then an honest one; give what arrived up to that."""
    mark = uuid.uuid4().bytes
    with sender.packet_socket() as out, receiver.packet_socket() as capture:
        for frame in sent:
            out.send(frame)
        out.send(datagram(sender, receiver, mark))
        return receive_until(capture, mark)


@pytest.mark.parametrize("reason", FORGERIES)
def test_forged_frame_is_dropped_and_the_next_honest_one_passes(lab: Lab, reason: str) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.container(network, 2)
    mark = uuid.uuid4().bytes
    with counting(sender) as rise:
        arrived = deliver(sender, receiver, forged_frame(reason, sender, receiver, mark))
    assert not [frame for frame in arrived if mark in frame.data]
    assert rise["drops"] == {reason.split(maxsplit=1)[0]: 1}


@pytest.mark.parametrize("reason", [reason for reason in FORGERIES if reason != "vlan"])
def test_without_spoof_check_it_passes(lab: Lab, reason: str) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1, spoof_check=False), lab.container(network, 2)
    mark = uuid.uuid4().bytes
    with counting(sender) as rise:
        arrived = deliver(sender, receiver, forged_frame(reason, sender, receiver, mark))
    assert len([frame for frame in arrived if mark in frame.data]) == 1
    assert rise["drops"] == {}


def test_no_container_may_send_tags(lab: Lab) -> None:
    """A tag would reach another network on the uplink, so spoofCheck does not matter."""
    network = lab.network()
    sender, receiver = lab.container(network, 1, spoof_check=False), lab.container(network, 2)
    mark = uuid.uuid4().bytes
    with counting(sender) as rise:
        arrived = deliver(sender, receiver, forged_frame("vlan", sender, receiver, mark))
    assert not [frame for frame in arrived if mark in frame.data]
    assert rise["drops"] == {"vlan": 1}


def test_container_without_an_address_may_ask_for_one(lab: Lab) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.container(network, 2)
    discover = ipv4("0.0.0.0", "255.255.255.255", UDP, udp(68, 67, b"discover"))
    solicited_node = "ff02::1:ff00:1"
    probe = neighbour_solicitation("::", solicited_node, sender.ip6)
    arp_probe = arp_request(sender.mac, "0.0.0.0", sender.ip4)
    frames = [
        ethernet(BROADCAST, sender.mac, IPV4, discover),
        ethernet("33:33:ff:00:00:01", sender.mac, IPV6, probe),
        ethernet(BROADCAST, sender.mac, ARP, arp_probe),
    ]
    with counting(sender) as rise:
        arrived = [frame.data for frame in deliver(sender, receiver, *frames)]
    assert [frame for frame in frames if frame in arrived] == frames
    assert rise["drops"] == {}


def test_the_unspecified_address_is_for_asking_only(lab: Lab) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.container(network, 2)
    packet = ipv4("0.0.0.0", receiver.ip4, UDP, udp(9, 9, b"no question"))
    packet6 = udp6("::", receiver.ip6, b"no question")
    to_one = ipv4("0.0.0.0", receiver.ip4, UDP, udp(68, 67, b"asked of one, not of all"))
    no_ports = ipv4("0.0.0.0", "255.255.255.255", UDP, udp(68, 67, b"a later fragment"))
    no_ports = no_ports[:6] + b"\x00\x40" + no_ports[8:]
    forged = [
        ethernet(receiver.mac, sender.mac, IPV4, packet),
        ethernet(receiver.mac, sender.mac, IPV4, to_one),
        ethernet(BROADCAST, sender.mac, IPV4, no_ports),
        ethernet(receiver.mac, sender.mac, IPV6, packet6),
    ]
    with counting(sender) as rise:
        arrived = [frame.data for frame in deliver(sender, receiver, *forged)]
    assert not [frame for frame in forged if frame in arrived]
    assert rise["drops"] == {"spoof_ipv4": 3, "spoof_ipv6": 1}


@pytest.mark.parametrize("honest", [True, False])
def test_application_is_checked_too(lab: Lab, honest: bool) -> None:
    network = lab.network()
    receiver, sender = lab.container(network, 2), lab.application(network, 1)
    source = sender.ip4 if honest else OTHER_IP4
    options = (f"--tx-ip={source},{receiver.ip4}", f"--eth-peer=0,{receiver.mac}")
    with running_testpmd(sender, "txonly", *options):
        wait_until(lambda: sender.counters()["rx_packets"] > 1000, "testpmd sends")
    wait_until(lambda: not sender.state()["ready"], "its end is noticed")
    counters = sender.counters()
    assert counters["drops"] == ({} if honest else {"spoof_ipv4": counters["rx_packets"]})
    assert (receiver.counters()["tx_packets"] > 0) == honest
