"""Inputs put together: what input.c takes apart, of frames that topology.c's ports could send."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from tests.smoke.frames import (
    IPV4,
    IPV6,
    TCP,
    UDP,
    destination_options,
    fragment,
    ip_bytes,
    ipv4,
    ipv6,
)

UPLINK, TWIN, BARE_UPLINK, TAP, VHOST, FREE, LIMITED, TAGGED_TAP, TAGGED_VHOST = range(9)
UNTAGGED_TAP, UNTAGGED_VHOST, OTHER_TAP, OTHER_VHOST = range(9, 13)
PORTS: Final = range(13)
UNKNOWN, ALL = 14, 15
"""Destinations beside the ports, which are counted from 1."""

ALL_OFFLOADS, LIMITS = 0x3F, 0x40
NEEDS_CSUM, DATA_VALID = 1, 2
TCPV4, UFO, TCPV6, ECN = 1, 3, 4, 0x80
NIC_PARTIAL, NIC_GOOD, NIC_BAD, NIC_STRIPPED, NIC_HASH = 1, 2, 3, 4, 8
VLAN, QINQ = 0x8100, 0x88A8
ETHERNET_BYTES: Final = 14
LONGEST: Final = 65535
FRAME_BYTES_MAX: Final = LONGEST + 129
"""As in fuzz.h; nothing is between the two."""


@dataclass(frozen=True)
class Vnet:
    """A virtio-net header, whatever it claims."""

    flags: int = 0
    gso: int = 0
    header_bytes: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        sizes = (self.header_bytes, self.gso_size, self.csum_start, self.csum_offset)
        return struct.pack("<BBHHHH", self.flags, self.gso, *sizes)


@dataclass(frozen=True)
class Frame:
    """One frame, `length` bytes long if its own bytes are fewer; sent as if by the port itself."""

    data: bytes
    vnet: Vnet = field(default_factory=Vnet)
    to: int = 0
    own: bool = True
    queue: int = 0
    split: int = 0
    length: int = 0

    def pack(self) -> bytes:
        beyond = max(self.length - LONGEST, 0)  # what a jumbo buffer takes at most, or nothing
        control = self.to | self.own << 4 | self.queue << 5 | bool(beyond) << 6
        head = struct.pack(
            "<B10sBHH", control, self.vnet.pack(), self.split, len(self.data), self.length - beyond
        )
        return head + self.data


def seed(
    ingress: int,
    *frames: Frame,
    mtus: int = 0,
    offloads: int = ALL_OFFLOADS,
    allocations: int = 0,
    rate: int = 0,
) -> bytes:
    """Put one input together."""
    head = bytes([ingress, mtus, offloads, allocations, rate])
    return head + b"".join(frame.pack() for frame in frames)


@dataclass(frozen=True)
class Station:
    """What topology.c gives to a port."""

    number: int

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:{self.number + 1:02x}"

    @property
    def ip4(self) -> str:
        return f"10.9.0.{self.number + 1}"

    @property
    def ip6(self) -> str:
        return f"fd00:9::{self.number + 1:x}"


def tcp(flags: int = 0x18, options: bytes = b"", payload: bytes = b"") -> bytes:
    size = (20 + len(options)) // 4
    return struct.pack("!HHIIBBHHH", 40000, 80, 1000, 1, size << 4, flags, 500, 0, 0) + (
        options + payload
    )


def ether(ethertype: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """Build a frame whose addresses the target fills in."""
    head = bytes.fromhex("0200000000050200000000040000")[:12]
    for kind, tci in tags:
        head += struct.pack("!HH", kind, tci)
    return head + struct.pack("!H", ethertype) + payload


def segments(family: int, l4: bytes, vlan: tuple[tuple[int, int], ...] = ()) -> tuple[bytes, int]:
    """Build the first bytes of a large TCP packet; with them, where TCP begins."""
    network = (
        ipv4("10.9.0.4", "10.9.0.5", TCP, l4)
        if family == 4
        else ipv6("fd00:9::4", "fd00:9::5", TCP, l4)
    )
    size = 20 if family == 4 else 40
    return ether(IPV4 if family == 4 else IPV6, network, *vlan), ETHERNET_BYTES + 4 * len(
        vlan
    ) + size


def large(family: int, length: int = 9000, to: int = 0, split: int = 0) -> Frame:
    """Build a TCP packet still to be segmented."""
    data, start = segments(family, tcp(options=bytes(12)))
    gso = TCPV4 if family == 4 else TCPV6
    vnet = Vnet(NEEDS_CSUM, gso, start + 32, 1448, start, 16)
    return Frame(data, vnet, to, length=length, split=split)


def dictionary() -> list[bytes]:
    """Give what is hard to guess."""
    macs = [bytes.fromhex(Station(n).mac.replace(":", "")) for n in PORTS]
    addresses = [ip_bytes(ip) for n in PORTS for ip in (Station(n).ip4, Station(n).ip6)]
    types = [struct.pack("!H", t) for t in (IPV4, IPV6, 0x0806, 0x8035, VLAN, QINQ, 0x9100)]
    tags = [struct.pack("!HH", VLAN, tci) for tci in (0, 7, 100)]
    return [
        *macs,
        *addresses,
        *types,
        *tags,
        b"\x01\x80\xc2\x00\x00\x00",
        b"\xff" * 6,
        b"\xaa\xaa\x03\x00\x00\x00",
        destination_options(60),
        fragment(UDP, 0, True),
    ]
