"""Inputs to begin with, of every kind that the engine tells apart."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.fuzz.inputs import (
    ALL,
    ALL_OFFLOADS,
    BARE_UPLINK,
    DATA_VALID,
    ECN,
    ETHERNET_BYTES,
    FRAME_BYTES_MAX,
    FREE,
    LIMITED,
    LIMITS,
    LONGEST,
    NEEDS_CSUM,
    NIC_GOOD,
    NIC_HASH,
    NIC_PARTIAL,
    NIC_STRIPPED,
    OTHER_TAP,
    OTHER_VHOST,
    PORTS,
    QINQ,
    TAGGED_TAP,
    TAGGED_VHOST,
    TAP,
    TCPV4,
    TCPV6,
    TWIN,
    UFO,
    UNKNOWN,
    UNTAGGED_TAP,
    UNTAGGED_VHOST,
    UPLINK,
    VHOST,
    VLAN,
    Frame,
    Station,
    Vnet,
    ether,
    large,
    seed,
    segments,
    tcp,
)
from tests.smoke.forgeries import HONEST, Pair, forgeries
from tests.smoke.frames import (
    IPV4,
    IPV6,
    TCP,
    UDP,
    arp,
    destination_options,
    fragment,
    ipv4,
    ipv6,
    udp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def peers(number: int) -> list[int]:
    """Where a port's frames can go."""
    networks = (
        (TAP, VHOST, FREE, LIMITED),
        (TAGGED_TAP, TAGGED_VHOST, UPLINK, TWIN),
        (UNTAGGED_TAP, UNTAGGED_VHOST, UPLINK, TWIN),
        (OTHER_TAP, OTHER_VHOST, BARE_UPLINK),
    )
    return sorted({p for n in networks if number in n for p in n if p != number})


def plain() -> Iterator[bytes]:
    """Give each port's frames to each peer, to all, and to nobody known."""
    datagram = ether(IPV4, ipv4("10.9.0.4", "10.9.0.5", UDP, udp(9, 9, bytes(40))))
    for ingress in PORTS:
        for to in (*(p + 1 for p in peers(ingress)), UNKNOWN, ALL):
            vnet = Vnet(NEEDS_CSUM, 0, 0, 0, 34, 6)
            yield seed(ingress, Frame(datagram, vnet, to), Frame(datagram, to=to))
            yield seed(ingress, Frame(datagram, to=to), rate=to % 14 << 4)
            yield seed(ingress, Frame(datagram, to=to, length=9000, split=1), mtus=0x55)


def tagged() -> Iterator[bytes]:
    """Give frames with tags, one and two and cut off, of networks and of none."""
    inner = ipv4("10.9.0.4", "10.9.0.5", UDP, udp(9, 9, bytes(40)))
    for ingress in (UPLINK, TWIN, BARE_UPLINK, TAP, TAGGED_VHOST):
        for tags in (
            ((VLAN, 100),),
            ((VLAN, 7),),
            ((VLAN, 5),),
            ((VLAN, 0x6064), (VLAN, 7)),
            ((QINQ, 100), (VLAN, 100)),
            ((0x9100, 1),),
        ):
            frame = ether(IPV4, inner, *tags)
            for to in (TAGGED_TAP + 1, OTHER_VHOST + 1, ALL):
                partial = Vnet(NEEDS_CSUM | NIC_HASH, 0, 0, 0, 34 + 4 * len(tags), 6)
                yield seed(ingress, Frame(frame, partial, to), Frame(frame, to=to, split=20))
            yield seed(ingress, *(Frame(frame[:n], to=ALL) for n in range(12, 24)))
        stripped = Vnet(NIC_STRIPPED | NIC_GOOD, csum_offset=100)
        yield seed(ingress, Frame(ether(IPV4, inner), stripped, TAGGED_VHOST + 1))


def segmented() -> Iterator[bytes]:
    """Give large packets from everywhere to everywhere, with and without offloads."""
    for ingress in PORTS:
        for to in (*(p + 1 for p in peers(ingress)), UNKNOWN):
            for family in (4, 6):
                for offloads in (ALL_OFFLOADS, 0, 0x09, 0x36):
                    yield seed(ingress, large(family, to=to, split=60), offloads=offloads)
        yield seed(ingress, large(4, length=LONGEST), large(6, length=LONGEST), offloads=0)
        yield seed(
            ingress, *(large(4, FRAME_BYTES_MAX, to + 1) for to in peers(ingress)), mtus=0x77
        )
        for flags in (0x01, 0x08, 0x80, 0xFF):
            data, start = segments(4, tcp(flags))
            vnet = Vnet(NEEDS_CSUM, TCPV4 | ECN, start + 20, 1000, start, 16)
            yield seed(ingress, Frame(data, vnet, UNKNOWN, length=4000), offloads=0)
        yield seed(ingress, *[large(4, length=20000, to=UNKNOWN)] * 8, allocations=40, offloads=0)
    for vlan in ((VLAN, 100),), ((VLAN, 7),), ((VLAN, 100), (VLAN, 3)):
        data, start = segments(6, tcp(), vlan)
        vnet = Vnet(NIC_PARTIAL, TCPV6, start + 20, 500, start, 16)
        for ingress in (UPLINK, TWIN, BARE_UPLINK):
            for to in (TAGGED_TAP, TAGGED_VHOST, OTHER_TAP, OTHER_VHOST):
                yield seed(ingress, Frame(data, vnet, to + 1, length=5000, split=100), offloads=0)


def tiny_segments() -> Iterator[bytes]:
    """Give packets of as many segments as there may be, and of more."""
    data, start = segments(4, tcp())
    for size, length in ((8, 54 + 8 * 2048), (8, 54 + 8 * 2048 + 1), (8, LONGEST), (36, LONGEST)):
        vnet = Vnet(NEEDS_CSUM, TCPV4, start + 20, size, start, 16)
        for ingress in (TAP, VHOST):
            for to in peers(ingress):
                yield seed(ingress, Frame(data, vnet, to + 1, length=length))


def lies() -> Iterator[bytes]:
    """Give virtio-net headers that contradict the packet."""
    data, start = segments(4, tcp(options=bytes(12)))
    data6, start6 = segments(6, tcp())
    datagram = ether(IPV4, ipv4("10.9.0.4", "10.9.0.5", UDP, udp(9, 9, bytes(40))))
    vnets = [
        Vnet(NEEDS_CSUM, gso, header, size, at, offset)
        for gso in (0, TCPV4, TCPV6, UFO, TCPV4 | ECN, 0x7F)
        for header in (0, LONGEST)
        for size in (0, 1, 7, 8, LONGEST)
        for at, offset in (
            (start, 16),
            (start6, 16),
            (start, 6),
            (LONGEST, 16),
            (3000, 3000),
            (start - 1, 17),
            (0, 0),
        )
    ]
    vnets += [Vnet(flags, gso, 54, 1000) for flags in (0, DATA_VALID, 0xFF) for gso in (0, TCPV4)]
    for i, vnet in enumerate(vnets):
        ingress = (TAP, VHOST, TAGGED_TAP, TAGGED_VHOST, TWIN)[i % 5]
        to = peers(ingress)[0] + 1
        frames = (
            Frame(bytes_, vnet, to, length=length)
            for bytes_ in (data, data6, datagram)
            for length in (0, 3000)
        )
        yield seed(ingress, *frames, offloads=(0, ALL_OFFLOADS)[i // 5 % 2])
    for offset in (0x00, 0x40, 0xF0):
        header = bytearray(data)
        header[start + 12] = offset
        vnet = Vnet(NEEDS_CSUM, TCPV4, 54, 100, start, 16)
        for ingress in (TAP, VHOST):
            yield seed(ingress, Frame(bytes(header), vnet, FREE + 1, length=3000), offloads=0)


def extended() -> Iterator[bytes]:
    """Give IPv6 extension chains, IPv4 options and fragments."""
    chains = [
        destination_options(UDP) + udp(546, 547, bytes(8)),
        destination_options(60, 3) + destination_options(UDP) + udp(9, 9, bytes(8)),
        destination_options(60) * 8 + destination_options(TCP) + tcp(),
        destination_options(60, 31) + destination_options(TCP) + tcp(),
        destination_options(60, 31) * 2 + destination_options(TCP) + tcp(),
        fragment(UDP, 0, True) + udp(9, 9, bytes(64)),
        fragment(UDP, 1280, False) + bytes(64),
        struct.pack("!BBHIII", UDP, 4, 0, 1, 1, 1) + bytes(8) + udp(9, 9, b""),
    ]
    for ingress in (TAP, VHOST, UPLINK):
        for first, chain in zip((60, 60, 60, 60, 60, 44, 44, 51), chains, strict=True):
            packet = ether(IPV6, ipv6("fd00:9::4", "fd00:9::5", first, chain))
            at = packet.rfind(tcp()) if tcp() in packet else 62
            vnet = Vnet(NEEDS_CSUM, TCPV6 if tcp() in packet else 0, 0, 600, at, 16)
            for length in (0, 4000):
                to = peers(ingress)[0] + 1
                yield seed(
                    ingress,
                    Frame(packet, vnet, to, length=length),
                    Frame(packet[:-9], vnet, to),
                    offloads=0,
                )
        for words in range(16):
            changed = bytearray(segments(4, bytes(40) + tcp())[0])
            changed[ETHERNET_BYTES] = 0x40 | words
            vnet = Vnet(NEEDS_CSUM, TCPV4, 0, 100, ETHERNET_BYTES + 4 * words, 16)
            yield seed(ingress, Frame(bytes(changed), vnet, 5, length=800), offloads=0)
        for offset in (0x2000, 0x00B9, 0x4000):
            changed = bytearray(segments(4, tcp())[0])
            changed[20:22] = struct.pack("!H", offset)
            yield seed(ingress, Frame(bytes(changed), Vnet(NEEDS_CSUM, 0, 0, 0, 34, 16), ALL))


def beyond_the_first_buffer() -> Iterator[bytes]:
    """Give one long extension header, so that TCP begins about where a buffer of 2 KiB ends."""
    for units in (246, 247, 248):
        packet = ether(IPV6, ipv6("fd00:9::4", "fd00:9::5", 60, bytes([TCP, units])))
        start = ETHERNET_BYTES + 40 + 8 * (units + 1)
        vnet = Vnet(NEEDS_CSUM, TCPV6, 0, 100, start, 16)
        for ingress in (LIMITED, VHOST, UPLINK, TAP):
            for limits in (0, LIMITS):
                to = peers(ingress)[0] + 1
                yield seed(ingress, Frame(packet, vnet, to, length=3000), offloads=limits, rate=6)


def verified() -> Iterator[bytes]:
    """Give checksums that the ingress says are right, or not, or half done."""
    for ingress in PORTS:
        for family in (4, 6):
            data, start = segments(family, tcp(payload=bytes(101)))
            for flags in range(4):
                vnet = Vnet(flags, 0, 0, 0, start, 16)
                to = peers(ingress)[0] + 1
                yield seed(ingress, Frame(data, vnet, to), Frame(data, vnet, ALL, length=4000))
                for offloads in (1, 8):
                    yield seed(ingress, Frame(data, vnet, ALL), offloads=offloads)


def limited() -> Iterator[bytes]:
    """Give more than ports with limits may send or be sent, also without buffers."""
    for rate in range(8):
        for ingress in (TAP, LIMITED, VHOST, UPLINK, UNTAGGED_TAP):
            to = (UNTAGGED_TAP if ingress in (UPLINK, UNTAGGED_VHOST) else LIMITED) + 1
            frames = tuple(
                Frame(large(4).data, large(4).vnet, to, length=n, queue=n % 2)
                for n in (60, 1501, 9000, 60000) * 3
            )
            offloads = LIMITS | (ALL_OFFLOADS if rate % 2 else 0)
            for allocations in (0, rate * 5):
                yield seed(ingress, *frames, offloads=offloads, rate=rate, allocations=allocations)
            yield seed(ingress, *frames, offloads=offloads, rate=rate | (to << 4) & 0xF0)
            yield seed(
                ingress,
                large(6, to=ALL),
                Frame(large(4).data, to=ALL, length=1200),
                offloads=offloads,
                rate=8 | rate,
            )


def spoofed() -> Iterator[bytes]:
    """Give what the spoof check is there for, of both kinds of ports, also cut off."""
    for ingress, to in ((TAP, VHOST), (VHOST, TAP), (TAGGED_VHOST, TAGGED_TAP)):
        pair = Pair(Station(ingress), Station(to))
        frames = [frame for _, frame in forgeries(pair)] + [make(pair) for make in HONEST.values()]
        for frame in frames:
            cuts = (frame[: len(frame) * n // 4] for n in (4, 3, 2))
            yield seed(ingress, *(Frame(cut, own=False) for cut in cuts))
    request = arp(1, "02:00:00:00:00:04", "10.9.0.4", "10.9.0.5")
    for ingress in PORTS:
        yield seed(ingress, Frame(ether(0x0806, request), to=ALL), Frame(b"\x01", own=False))


def seeds() -> list[bytes]:
    """Give all, the short ones first."""
    kinds = (
        plain,
        tagged,
        segmented,
        tiny_segments,
        lies,
        extended,
        beyond_the_first_buffer,
        verified,
        limited,
        spoofed,
    )
    return sorted({data for kind in kinds for data in kind()}, key=lambda data: (len(data), data))
