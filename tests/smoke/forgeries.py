"""What a container may not send, by the reason under which it is dropped, and what it may."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tests.smoke.frames import (
    ARP,
    BROADCAST,
    EXPERIMENTAL,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TCP,
    UDP,
    arp,
    destination_options,
    ethernet,
    fragment,
    icmpv4,
    icmpv6,
    ip_bytes,
    ipv4,
    ipv6,
    link_layer_option,
    mac_bytes,
    udp,
    udp6,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RARP: Final = 0x8035
HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, NO_NEXT, DESTINATION = 0, 43, 44, 50, 51, 59, 60
ALL_NODES, ALL_ROUTERS, MLD_REPORTS = "ff02::1", "ff02::2", "ff02::16"
ALL_NODES_MAC, MLD_MAC = "33:33:00:00:00:01", "33:33:00:00:00:16"

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
REDIRECT, ECHO_REQUEST, MLDV2_REPORT = 137, 128, 143
SOURCE_OPTION, TARGET_OPTION = 1, 2
SOLICITED_OVERRIDE: Final = 0x60000000

OTHER_MAC: Final = "02:00:00:00:00:63"
OTHER_IP4, OTHER_IP6 = "10.9.0.99", "fd00:9::63"
TAG: Final = 7


class Station(Protocol):
    """Who sends, or is sent to."""

    @property
    def mac(self) -> str: ...

    @property
    def ip4(self) -> str: ...

    @property
    def ip6(self) -> str: ...


@dataclass(frozen=True)
class Pair:
    """From whom to whom."""

    me: Station
    you: Station

    @property
    def link_local(self) -> str:
        """The address that the kernel makes of my MAC."""
        mac = mac_bytes(self.me.mac)
        halves = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        return "fe80::" + halves.hex(":", 2)

    def frame(self, ethertype: int, payload: bytes, to: str = "", vlan: int | None = None) -> bytes:
        return ethernet(to or self.you.mac, self.me.mac, ethertype, payload, vlan)

    def v4(self, protocol: int, payload: bytes, source: str = "", **header: int) -> bytes:
        packet = ipv4(source or self.me.ip4, self.you.ip4, protocol, payload, **header)
        return self.frame(IPV4, packet)

    def v6(self, protocol: int, payload: bytes, source: str = "") -> bytes:
        return self.frame(IPV6, ipv6(source or self.me.ip6, self.you.ip6, protocol, payload))

    def arp(
        self, operation: int, sender: str, target: str, mac: str = "", to: str = BROADCAST
    ) -> bytes:
        return self.frame(ARP, arp(operation, mac or self.me.mac, sender, target), to)

    def icmp6(self, kind: int, body: bytes, source: str = "", to: str = "") -> bytes:
        """Build the ICMPv6 message alone: from me to you if not said otherwise."""
        return icmpv6(source or self.me.ip6, to or self.you.ip6, kind, body)

    def nd(self, kind: int, body: bytes, source: str = "") -> bytes:
        """Build a frame to all nodes, as most of neighbour discovery is."""
        source = source or self.link_local
        message = icmpv6(source, ALL_NODES, kind, body)
        return self.frame(IPV6, ipv6(source, ALL_NODES, ICMPV6, message), ALL_NODES_MAC)

    def advertisement(self, target: str, options: bytes, source: str = "") -> bytes:
        body = struct.pack("!I", SOLICITED_OVERRIDE) + ip_bytes(target) + options
        return self.nd(NEIGHBOUR_ADVERTISEMENT, body, source or self.me.ip6)

    def solicitation(self, target: str, options: bytes, source: str = "") -> bytes:
        body = bytes(4) + ip_bytes(target) + options
        return self.nd(NEIGHBOUR_SOLICITATION, body, source)

    def own(self, option: int) -> bytes:
        return link_layer_option(option, self.me.mac)


_ROUTER: Final = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
"""A router advertisement's body: hop limit, flags, lifetime and timers."""
_OFFER: Final = bytes([2, 1, 6, 0]) + bytes(232)
_ADVERTISE: Final = bytes([2, 0, 0, 1])
_REDIRECTED: Final = bytes(4) + ip_bytes(OTHER_IP6) + ip_bytes("fd00:9::1")


def _router(p: Pair) -> bytes:
    return p.icmp6(ROUTER_ADVERTISEMENT, _ROUTER)


def _false_neighbour(p: Pair) -> bytes:
    return p.icmp6(NEIGHBOUR_ADVERTISEMENT, bytes(4) + ip_bytes(OTHER_IP6))


def _snap(p: Pair, oui: bytes) -> bytes:
    packet = b"\xaa\xaa\x03" + oui + struct.pack("!H", IPV4) + ipv4(OTHER_IP4, p.you.ip4, UDP, b"")
    return p.frame(len(packet), packet)


FORGERIES: Final[Mapping[str, Mapping[str, Callable[[Pair], bytes]]]] = {
    "spoof_mac": {
        "of another": lambda p: ethernet(p.you.mac, OTHER_MAC, EXPERIMENTAL, b"mac"),
        "of all": lambda p: ethernet(p.you.mac, BROADCAST, EXPERIMENTAL, b"mac"),
    },
    "spoof_ipv4": {
        "another's": lambda p: p.v4(UDP, udp(9, 9, b"ip4"), OTHER_IP4),
        "nobody's": lambda p: p.v4(UDP, udp(9, 9, b"ip4"), "0.0.0.0"),
        "dhcp request to one": lambda p: p.v4(UDP, udp(68, 67, b"ip4"), "0.0.0.0"),
        "the receiver's": lambda p: p.v4(TCP, bytes(20), p.you.ip4),
    },
    "spoof_ipv6": {
        "another's": lambda p: p.frame(IPV6, udp6(OTHER_IP6, p.you.ip6, b"ip6")),
        "nobody's": lambda p: p.frame(IPV6, udp6("::", p.you.ip6, b"ip6")),
        "another's behind options": lambda p: p.v6(
            DESTINATION, destination_options(UDP) + udp(9, 9, b""), OTHER_IP6
        ),
        "echo from nobody": lambda p: p.nd(ECHO_REQUEST, bytes(4), "::"),
        "advertisement from nobody": lambda p: p.nd(
            NEIGHBOUR_ADVERTISEMENT, bytes(4) + ip_bytes(p.me.ip6), "::"
        ),
        "later fragment from nobody": lambda p: p.v6(
            FRAGMENT, fragment(ICMPV6, 8, False) + bytes(32), "::"
        ),
    },
    "spoof_arp": {
        "request with another's address": lambda p: p.arp(1, OTHER_IP4, p.you.ip4),
        "request with another's MAC": lambda p: p.arp(1, p.me.ip4, p.you.ip4, OTHER_MAC),
        "reply with another's address": lambda p: p.arp(2, OTHER_IP4, p.you.ip4, to=p.you.mac),
        "reply with another's MAC": lambda p: p.arp(2, p.me.ip4, p.you.ip4, OTHER_MAC),
        "gratuitous request": lambda p: p.arp(1, OTHER_IP4, OTHER_IP4),
        "gratuitous reply": lambda p: p.arp(2, OTHER_IP4, OTHER_IP4),
        "probe of another's address": lambda p: p.arp(1, "0.0.0.0", OTHER_IP4),
        "reply from nobody": lambda p: p.arp(2, "0.0.0.0", p.me.ip4),
        "of IEEE 802 networks": lambda p: p.frame(
            ARP, b"\0\x06" + arp(1, p.me.mac, p.me.ip4, p.you.ip4)[2:]
        ),
        "reverse reply": lambda p: p.frame(RARP, arp(4, p.me.mac, p.me.ip4, OTHER_IP4)),
    },
    "spoof_nd": {
        "another's address": lambda p: p.advertisement(OTHER_IP6, p.own(TARGET_OPTION)),
        "another's address, no MAC": lambda p: p.advertisement(OTHER_IP6, b""),
        "another's MAC": lambda p: p.advertisement(
            p.me.ip6, link_layer_option(TARGET_OPTION, OTHER_MAC)
        ),
        "another's MAC second": lambda p: p.advertisement(
            p.me.ip6, p.own(TARGET_OPTION) + link_layer_option(TARGET_OPTION, OTHER_MAC)
        ),
        "long MAC": lambda p: p.advertisement(
            p.me.ip6, b"\x02\x02" + mac_bytes(p.me.mac) + bytes(8)
        ),
        "option of no length": lambda p: p.advertisement(p.me.ip6, bytes(8)),
        "option cut off": lambda p: p.advertisement(p.me.ip6, b"\x0e\x03" + bytes(8)),
        "half an option": lambda p: p.advertisement(p.me.ip6, bytes(4)),
        "solicitation with another's MAC": lambda p: p.solicitation(
            p.you.ip6, link_layer_option(SOURCE_OPTION, OTHER_MAC)
        ),
        "is another's address taken": lambda p: p.solicitation(OTHER_IP6, b"", "::"),
        "router solicitation with another's MAC": lambda p: p.nd(
            ROUTER_SOLICITATION, bytes(4) + link_layer_option(SOURCE_OPTION, OTHER_MAC)
        ),
        "behind hop-by-hop options": lambda p: p.v6(
            HOP_BY_HOP, destination_options(ICMPV6) + _false_neighbour(p)
        ),
        "behind two extension headers": lambda p: p.v6(
            HOP_BY_HOP,
            destination_options(DESTINATION) + destination_options(ICMPV6) + _false_neighbour(p),
        ),
    },
    "rogue_ra": {
        "from the link-local address": lambda p: p.nd(ROUTER_ADVERTISEMENT, _ROUTER),
        "to one": lambda p: p.v6(ICMPV6, _router(p)),
        "behind hop-by-hop options": lambda p: p.v6(
            HOP_BY_HOP, destination_options(ICMPV6) + _router(p)
        ),
        "behind eight options": lambda p: p.v6(
            DESTINATION,
            destination_options(DESTINATION) * 7 + destination_options(ICMPV6) + _router(p),
        ),
        "behind a long option": lambda p: p.v6(
            DESTINATION, destination_options(ICMPV6, 31) + _router(p)
        ),
        "behind a routing header": lambda p: p.v6(
            ROUTING, bytes([ICMPV6, 0, 3, 0, 0, 0, 0, 0]) + _router(p)
        ),
        "behind authentication": lambda p: p.v6(AH, bytes([ICMPV6, 4]) + bytes(22) + _router(p)),
        "behind mobility, host identity and Shim6 headers": lambda p: p.v6(
            135,
            destination_options(139)
            + destination_options(140)
            + destination_options(ICMPV6)
            + _router(p),
        ),
        "the only fragment": lambda p: p.v6(FRAGMENT, fragment(ICMPV6, 0, False) + _router(p)),
        "the first fragment": lambda p: p.v6(FRAGMENT, fragment(ICMPV6, 0, True) + _router(p)),
        "a fragment in a fragment": lambda p: p.v6(
            FRAGMENT, fragment(FRAGMENT, 0, False) + fragment(ICMPV6, 0, True) + _router(p)
        ),
        "of IPv4": lambda p: p.v4(ICMP, icmpv4(9, 0, b"\x01\x02\x07\x08" + bytes(8))),
    },
    "rogue_redirect": {
        "of IPv6": lambda p: p.nd(REDIRECT, _REDIRECTED),
        "of IPv6 behind options": lambda p: p.v6(
            DESTINATION, destination_options(ICMPV6) + p.icmp6(REDIRECT, _REDIRECTED)
        ),
        "of IPv4": lambda p: p.v4(ICMP, icmpv4(5, 1, ip_bytes(p.me.ip4) + bytes(28))),
    },
    "rogue_dhcp": {
        "offer": lambda p: p.v4(UDP, udp(67, 68, _OFFER)),
        "offer to all": lambda p: p.frame(
            IPV4, ipv4(p.me.ip4, "255.255.255.255", UDP, udp(67, 68, _OFFER)), BROADCAST
        ),
        "offer from another port": lambda p: p.v4(UDP, udp(6767, 68, _OFFER)),
        "offer behind IPv4 options": lambda p: p.v4(UDP, udp(67, 68, _OFFER), option_words=2),
        "offer's first fragment": lambda p: p.v4(UDP, udp(67, 68, _OFFER), fragment_field=0x2000),
        "DHCPv6 reply": lambda p: p.v6(UDP, udp(547, 546, _ADVERTISE)),
        "DHCPv6 reply behind options": lambda p: p.v6(
            DESTINATION, destination_options(UDP) + udp(547, 546, _ADVERTISE)
        ),
        "DHCPv6 reply's first fragment": lambda p: p.v6(
            FRAGMENT, fragment(UDP, 0, True) + udp(547, 546, _ADVERTISE + bytes(4))
        ),
    },
    "hidden_headers": {
        "in the next fragment": lambda p: p.v6(
            FRAGMENT, fragment(DESTINATION, 0, True) + destination_options(DESTINATION)
        ),
        "type in the next fragment": lambda p: p.v6(
            FRAGMENT, fragment(DESTINATION, 0, True) + destination_options(ICMPV6)
        ),
        "behind nine options": lambda p: p.v6(
            DESTINATION,
            destination_options(DESTINATION) * 8 + destination_options(ICMPV6) + _router(p),
        ),
        "beyond the end": lambda p: p.v6(DESTINATION, bytes([ICMPV6, 255]) + bytes(22)),
        "beyond the length": lambda p: p.frame(
            IPV6, ipv6(p.me.ip6, p.you.ip6, ICMPV6, b"") + _router(p)
        ),
        "advertisement in a fragment": lambda p: p.v6(
            FRAGMENT,
            fragment(ICMPV6, 0, False)
            + p.icmp6(NEIGHBOUR_ADVERTISEMENT, bytes(4) + ip_bytes(p.me.ip6)),
        ),
        "advertisement cut off": lambda p: p.v6(
            ICMPV6, p.icmp6(NEIGHBOUR_ADVERTISEMENT, bytes(4) + ip_bytes(p.me.ip6))[:16]
        ),
        "IPv4 header too short": lambda p: p.v4(UDP, udp(67, 68, _OFFER), header_words=4),
        "IPv4 in SNAP": lambda p: _snap(p, bytes(3)),
        "IPv4 in SNAP's tunnel": lambda p: _snap(p, b"\0\0\xf8"),
    },
}
"""To be dropped where there is a spoof check."""

TAGGED: Final[Mapping[str, Callable[[Pair], bytes]]] = {
    "802.1Q": lambda p: p.frame(EXPERIMENTAL, b"tag", vlan=TAG),
    "802.1Q priority alone": lambda p: p.frame(EXPERIMENTAL, b"tag", vlan=0),
    "802.1Q nested": lambda p: p.frame(0x8100, struct.pack("!HH", TAG, EXPERIMENTAL), vlan=TAG),
    "802.1ad": lambda p: p.frame(0x88A8, struct.pack("!HH", TAG, EXPERIMENTAL)),
    "before 802.1ad": lambda p: p.frame(0x9100, struct.pack("!HH", TAG, EXPERIMENTAL)),
}
"""To be dropped as "vlan", spoof check or not: a tag would reach another network on the uplink."""

HONEST: Final[Mapping[str, Callable[[Pair], bytes]]] = {
    "UDP": lambda p: p.v4(UDP, udp(9, 9, b"honest")),
    "UDP over IPv6": lambda p: p.frame(IPV6, udp6(p.me.ip6, p.you.ip6, b"honest")),
    "TCP to the port of a DHCP client": lambda p: p.v4(TCP, struct.pack("!HH", 9, 68) + bytes(16)),
    "UDP from the link-local address": lambda p: p.frame(
        IPV6, udp6(p.link_local, p.you.ip6, b"honest")
    ),
    "other types": lambda p: p.frame(EXPERIMENTAL, b"honest"),
    "other types that look like SNAP": lambda p: p.frame(EXPERIMENTAL, b"\xaa\xaa\x03\0\0\0"),
    "LLC": lambda p: p.frame(9, b"\x42\x42\x03honest"),
    "ARP request": lambda p: p.arp(1, p.me.ip4, p.you.ip4),
    "ARP reply": lambda p: p.arp(2, p.me.ip4, p.you.ip4, to=p.you.mac),
    "ARP announcement": lambda p: p.arp(1, p.me.ip4, p.me.ip4),
    "ARP announcement by reply": lambda p: p.arp(2, p.me.ip4, p.me.ip4),
    "ARP probe": lambda p: p.arp(1, "0.0.0.0", p.me.ip4),
    "RARP request": lambda p: p.frame(RARP, arp(3, p.me.mac, "0.0.0.0", "0.0.0.0"), BROADCAST),
    "solicitation": lambda p: p.solicitation(p.you.ip6, p.own(SOURCE_OPTION), p.me.ip6),
    "solicitation, link-local": lambda p: p.solicitation(p.you.ip6, p.own(SOURCE_OPTION)),
    "is my address taken": lambda p: p.solicitation(p.me.ip6, b"", "::"),
    "is my address taken, with a nonce": lambda p: p.solicitation(
        p.me.ip6, b"\x0e\x01nonce!", "::"
    ),
    "is my link-local address taken": lambda p: p.solicitation(p.link_local, b"", "::"),
    "advertisement": lambda p: p.advertisement(p.me.ip6, p.own(TARGET_OPTION)),
    "advertisement without options": lambda p: p.advertisement(p.me.ip6, b""),
    "advertisement of the link-local address": lambda p: p.advertisement(
        p.link_local, p.own(TARGET_OPTION), p.link_local
    ),
    "router solicitation": lambda p: p.nd(ROUTER_SOLICITATION, bytes(4) + p.own(SOURCE_OPTION)),
    "router solicitation from nobody": lambda p: p.nd(ROUTER_SOLICITATION, bytes(4), "::"),
    "multicast report from nobody": lambda p: p.frame(
        IPV6,
        ipv6(
            "::",
            MLD_REPORTS,
            HOP_BY_HOP,
            destination_options(ICMPV6) + icmpv6("::", MLD_REPORTS, MLDV2_REPORT, bytes(4)),
        ),
        MLD_MAC,
    ),
    "echo request": lambda p: p.v6(ICMPV6, p.icmp6(ECHO_REQUEST, b"honest")),
    "echo request of IPv4": lambda p: p.v4(ICMP, icmpv4(8, 0, b"honest..")),
    "DHCP discovery": lambda p: p.frame(
        IPV4, ipv4("0.0.0.0", "255.255.255.255", UDP, udp(68, 67, b"honest")), BROADCAST
    ),
    "DHCP renewal": lambda p: p.v4(UDP, udp(68, 67, b"honest")),
    "DHCPv6 solicitation": lambda p: p.v6(UDP, udp(546, 547, b"honest"), p.link_local),
    "first fragment": lambda p: p.v4(UDP, udp(9, 9, b"honest.."), fragment_field=0x2000),
    "later fragment": lambda p: p.v4(UDP, udp(67, 68, b"data"), fragment_field=8),
    "first fragment of IPv6": lambda p: p.v6(
        FRAGMENT, fragment(UDP, 0, True) + udp(9, 9, b"honest..")
    ),
    "later fragment of IPv6": lambda p: p.v6(FRAGMENT, fragment(ICMPV6, 64, False) + _router(p)),
    "options": lambda p: p.v6(DESTINATION, destination_options(UDP) + udp(9, 9, b"honest")),
    "IPv4 options": lambda p: p.v4(UDP, udp(9, 9, b"honest"), option_words=2),
    "ESP": lambda p: p.v6(ESP, bytes(16)),
    "no next header": lambda p: p.v6(NO_NEXT, b""),
}


def forgeries(pair: Pair) -> list[tuple[str, bytes]]:
    """Give every forged frame, tagged ones too, with the reason under which it is dropped."""
    forged = [
        (reason, build(pair)) for reason, all_ in FORGERIES.items() for build in all_.values()
    ]
    return forged + [("vlan", build(pair)) for build in TAGGED.values()]
