"""Frames by hand: built, read back, and their checksums verified."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, VLAN, IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
EXPERIMENTAL = 0x88B5
"""The type that IEEE 802 leaves to local experiments."""
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_TP_STATUS_CSUMNOTREADY = 0x08
_TP_STATUS_VLAN_VALID = 0x10


@dataclass(frozen=True)
class Frame:
    data: bytes
    """Without the VLAN tag."""
    vlan: int | None
    trusted: bool = False
    """The receiver takes its checksum, not yet filled in, to be right."""

    @property
    def destination(self) -> str:
        return self.data[:6].hex(":")

    @property
    def source(self) -> str:
        return self.data[6:12].hex(":")

    @property
    def type(self) -> int:
        return int.from_bytes(self.data[12:14])


def ethernet(
    destination: str, source: str, ethertype: int, payload: bytes, vlan: int | None = None
) -> bytes:
    tag = b"" if vlan is None else struct.pack("!HH", VLAN, vlan)
    header = mac_bytes(destination) + mac_bytes(source) + tag + struct.pack("!H", ethertype)
    return (header + payload).ljust(60, b"\0")


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    option_words: int = 0,
    fragment_field: int = 0,
    header_words: int = 0,
) -> bytes:
    """Build a packet; with option_words of no-operations, or a header that says it is shorter."""
    addresses = ip_bytes(source) + ip_bytes(destination) + b"\1" * (4 * option_words)
    first = 0x40 | (header_words or 5 + option_words)
    total_bytes = 12 + len(addresses) + len(payload)
    header = struct.pack("!BBHHHBBH", first, 0, total_bytes, 0, fragment_field, 64, protocol, 0)
    checksum = internet_checksum(header + addresses)
    return header[:10] + struct.pack("!H", checksum) + addresses + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
    return header + ip_bytes(source) + ip_bytes(destination) + payload


def destination_options(next_header: int, units: int = 0) -> bytes:
    """Build an extension header of 8 bytes and `units` more times 8, all padding."""
    padding = 4 + 8 * units
    return struct.pack("!BBBB", next_header, units, 1, padding) + bytes(padding)


def fragment(next_header: int, offset_bytes: int, more: bool) -> bytes:
    """Build the extension header of a fragment."""
    return struct.pack("!BBHI", next_header, 0, offset_bytes | more, 1)


def udp(source_port: int, destination_port: int, payload: bytes) -> bytes:
    """Build a datagram without a checksum, which only IPv4 permits."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def udp6(source: str, destination: str, payload: bytes, port: int = 9) -> bytes:
    """Build an IPv6 packet with a datagram."""
    bare = udp(port, port, payload)
    checksum = l4_checksum(ip_bytes(source) + ip_bytes(destination), UDP, bare)
    return ipv6(source, destination, UDP, bare[:6] + struct.pack("!H", checksum) + bare[8:])


def arp(operation: int, mac: str, sender: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac_bytes(mac) + ip_bytes(sender) + bytes(6) + ip_bytes(target)


def icmpv4(kind: int, code: int, body: bytes) -> bytes:
    """Build a message; `body` is what follows the checksum."""
    checksum = internet_checksum(struct.pack("!BBH", kind, code, 0) + body)
    return struct.pack("!BBH", kind, code, checksum) + body


def icmpv6(source: str, destination: str, kind: int, body: bytes) -> bytes:
    """Build a message; `body` is what follows the checksum."""
    bare = struct.pack("!BBH", kind, 0, 0) + body
    checksum = l4_checksum(ip_bytes(source) + ip_bytes(destination), ICMPV6, bare)
    return bare[:2] + struct.pack("!H", checksum) + body


def link_layer_option(kind: int, mac: str) -> bytes:
    """Build an option of neighbour discovery."""
    return bytes([kind, 1]) + mac_bytes(mac)


def receive(sock: socket.socket, timeout_s: float) -> Frame | None:
    """Give the next frame, or None if none comes in time."""
    if not select.select([sock], [], [], timeout_s)[0]:
        return None
    data, ancillary, _, _ = sock.recvmsg(1 << 17, 256)
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", value[:20])
            vlan = tci & 0xFFF if status & _TP_STATUS_VLAN_VALID else None
            return Frame(data, vlan, bool(status & _TP_STATUS_CSUMNOTREADY))
    return Frame(data, None)


def receive_until(sock: socket.socket, marker: bytes, timeout_s: float = 5) -> list[Frame]:
    """Give the frames up to and with the one that contains `marker`."""
    frames: list[Frame] = []
    deadline_s = time.monotonic() + timeout_s
    while frame := receive(sock, max(deadline_s - time.monotonic(), 0)):
        frames.append(frame)
        if marker in frame.data:
            return frames
    raise AssertionError(f"no frame with {marker!r} within {timeout_s} s, but {len(frames)} others")


def receive_all(sock: socket.socket) -> list[Frame]:
    """Give the frames that have arrived."""
    frames: list[Frame] = []
    while frame := receive(sock, 0):
        frames.append(frame)
    return frames


def checksum_errors(frame: Frame) -> list[str]:
    """Name the checksums of an IP packet that are wrong."""
    packet = frame.data[14:]
    if frame.type == IPV4:
        header_bytes = 4 * (packet[0] & 15)
        wrong = ["ipv4"] if internet_checksum(packet[:header_bytes]) else []
        total_bytes = int.from_bytes(packet[2:4])
        return wrong + _l4_errors(packet[12:20], packet[9], packet[header_bytes:total_bytes])
    if frame.type == IPV6:
        total_bytes = 40 + int.from_bytes(packet[4:6])
        return _l4_errors(packet[8:40], packet[6], packet[40:total_bytes])
    return []


def _l4_errors(addresses: bytes, protocol: int, payload: bytes) -> list[str]:
    if protocol not in (TCP, UDP, ICMPV6) or (protocol == UDP and payload[6:8] == b"\0\0"):
        return []
    return [f"l4 protocol {protocol}"] if l4_checksum(addresses, protocol, payload) else []


def l4_checksum(addresses: bytes, protocol: int, payload: bytes) -> int:
    """Sum the pseudo-header and the payload: 0 for one whose checksum is right."""
    return internet_checksum(addresses + struct.pack("!II", len(payload), protocol) + payload)


def internet_checksum(data: bytes) -> int:
    total = int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF
    return (0xFFFF - total) % 0xFFFF


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip_bytes(text: str) -> bytes:
    return ipaddress.ip_address(text).packed
