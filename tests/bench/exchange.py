"""Sends UDP datagrams to one who turns them round, so many under way, and times their return."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from tests.bench.cores import LOAD_CORE, on_core
from tests.smoke.netns import Netns

PAYLOAD_BYTES: Final = 18
"""The least frame: 60 bytes, 64 with its checksum."""

_PORT: Final = 9
_UDP_SEGMENT: Final = 103
_SO_ATTACH_FILTER: Final = 26
_TIMEOUT_S: Final = 1
_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What came back to the interface, in how much time, and how long each batch took."""

    packets: int
    seconds: float
    round_trips_us: list[float]

    def percentile(self, percent: int) -> float:
        """Return how long so many in a hundred batches took at most."""
        ordered = sorted(self.round_trips_us)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@dataclass(frozen=True, slots=True)
class Load:
    """Datagrams sent by one system call, and how many such batches are under way."""

    datagrams: int = 1
    batches: int = 1


def exchange(space: Netns, address: str, load: Load, seconds: float) -> Exchanged:
    """Send a batch whenever one has come back."""
    sock = space.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sock, on_core(LOAD_CORE):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TIMEOUT_S, 0))
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, PAYLOAD_BYTES)
        _receive_marked(sock)
        sock.connect((address, _PORT))
        _reach(sock)
        before = _received(space)
        elapsed_s, round_trips_us = _exchange(sock, load, seconds)
        return Exchanged(_received(space) - before, elapsed_s, round_trips_us)


def _received(space: Netns) -> int:
    """Return how many frames eth0 of a netns has received."""
    return int(space.run("cat", "/sys/class/net/eth0/statistics/rx_packets"))


def _exchange(sock: socket.socket, load: Load, seconds: float) -> tuple[float, list[float]]:
    # Only the last of a batch is received: reading each would load the core more than sending.
    batch = bytes(PAYLOAD_BYTES * (load.datagrams - 1)) + _marked()
    under_way: deque[int] = deque()
    took_ns: list[int] = []
    began_ns = now_ns = time.perf_counter_ns()
    end_ns = began_ns + int(seconds * 1e9)
    for _ in range(load.batches):
        under_way.append(time.perf_counter_ns())
        sock.send(batch)
    while now_ns < end_ns:
        sock.recv(PAYLOAD_BYTES)
        now_ns = time.perf_counter_ns()
        took_ns.append(now_ns - under_way.popleft())
        under_way.append(now_ns)
        sock.send(batch)
    return (now_ns - began_ns) / 1e9, [each / 1e3 for each in took_ns]


def _reach(sock: socket.socket) -> None:
    """Wait until the other end turns datagrams round."""
    for _ in range(_TRIES):
        sock.send(_marked())
        try:
            sock.recv(PAYLOAD_BYTES)
        except BlockingIOError:
            continue
        return
    raise RuntimeError("nothing comes back")


def _marked() -> bytes:
    return b"\1" + bytes(PAYLOAD_BYTES - 1)


def _receive_marked(sock: socket.socket) -> None:
    """Let the kernel drop all datagrams whose first byte is not 1 (classic BPF)."""
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 8),  # load the byte after the UDP header
            (0x15, 0, 1, 1),  # is it 1?
            (0x06, 0, 0, 0xFFFF),  # take the datagram
            (0x06, 0, 0, 0),  # drop it
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filtered = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
