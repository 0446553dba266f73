"""Ping many hosts from one namespace over one socket per family, without a process for each."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from cni_virtio import netns

_ECHO: Final = struct.Struct("!BBHHH")
_PAYLOAD: Final = bytes(range(48))
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
_SAMPLES: Final = 3
_ATTEMPTS: Final = 5


class Pinger:
    """Raw ICMP sockets inside a namespace. A context manager; needs root there."""

    def __init__(self, netns_fd: int | None) -> None:
        self._ident = os.getpid() & 0xFFFF
        self._sequence = 0
        with netns.entered(netns_fd):
            self._sockets = {
                4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
                6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
            }

    def __enter__(self) -> Pinger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sock in self._sockets.values():
            sock.close()

    def rtts_us(self, targets: Iterable[str], timeout_s: float = 3.0) -> dict[str, float | None]:
        """Return for each address the best of a few round trips, or None if it never answers."""
        addresses = list(dict.fromkeys(targets))
        answering = self._sweep(addresses, timeout_s)
        rtts: dict[str, float | None] = dict.fromkeys(addresses)
        for address in addresses:
            if address in answering:
                samples = [self._sweep([address], timeout_s).get(address) for _ in range(_SAMPLES)]
                rtts[address] = min((rtt for rtt in samples if rtt is not None), default=None)
        return rtts

    def _sweep(self, addresses: list[str], timeout_s: float) -> dict[str, float]:
        """Send one request to each, again and again to the silent ones; return RTTs in us.

        A kernel whose link has just come up may not answer neighbour solicitations for a second.
        """
        rtts: dict[str, float] = {}
        for _ in range(_ATTEMPTS):
            silent = [address for address in addresses if address not in rtts]
            rtts |= self._round(silent, timeout_s / _ATTEMPTS)
        return rtts

    def _round(self, addresses: list[str], timeout_s: float) -> dict[str, float]:
        if not addresses:
            return {}
        rtts: dict[str, float] = {}
        self._sequence = (self._sequence + 1) & 0xFFFF
        sent = {address: now for address in addresses if (now := self._send(address))}
        deadline = time.perf_counter() + timeout_s
        while len(rtts) < len(sent) and (left := deadline - time.perf_counter()) > 0:
            readable, _, _ = select.select(list(self._sockets.values()), [], [], left)
            now = time.perf_counter()
            for sock in readable:
                source = self._receive(sock)
                if source in sent and source not in rtts:
                    rtts[source] = (now - sent[source]) * 1e6
        return rtts

    def _send(self, address: str) -> float | None:
        version = ipaddress.ip_address(address).version
        head = _ECHO.pack(_REQUEST[version], 0, 0, self._ident, self._sequence)
        checksum = _checksum(head + _PAYLOAD) if version == 4 else 0  # the kernel fills in IPv6's
        head = _ECHO.pack(_REQUEST[version], 0, checksum, self._ident, self._sequence)
        now = time.perf_counter()
        try:
            self._sockets[version].sendto(head + _PAYLOAD, (address, 0))
        except OSError:  # no route, or the neighbour is known not to answer
            return None
        return now

    def _receive(self, sock: socket.socket) -> str | None:
        """Return who answered this round, None for any other packet."""
        data, source = sock.recvfrom(2048)
        version = 4 if sock.family == socket.AF_INET else 6
        start = (data[0] & 0xF) * 4 if version == 4 else 0
        if len(data) < start + _ECHO.size:
            return None
        kind, _, _, ident, sequence = _ECHO.unpack_from(data, start)
        if (kind, ident, sequence) != (_REPLY[version], self._ident, self._sequence):
            return None
        return str(source[0])


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
