"""A vhost-user frontend by hand, which says whatever a test wants it to say.

The protocol is QEMU's docs/interop/vhost-user.rst, the rings are split ones (virtio 1.1, 2.6).
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

RINGS_BYTES: Final = 0x10000
"""From here on memory holds buffers."""
BUFFER_BYTES: Final = 2048
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<III")
_DESCRIPTOR: Final = struct.Struct("<QIHH")
_NET_HEADER_BYTES: Final = 12
_DESC_F_WRITE: Final = 2
_RING_BYTES: Final = 0x4000
_AVAIL, _USED = 0x1000, 0x2000
RX, TX = 0, 1
"""Vrings, from the frontend's side."""


class Message(IntEnum):
    """Request codes."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ENABLE = 18


VIRTIO_F_VERSION_1: Final = 1 << 32
VHOST_USER_F_PROTOCOL_FEATURES: Final = 1 << 30


class Frontend:
    """One connection, with memory of one region whose guest addresses are its offsets."""

    def __init__(self, path: Path, size_bytes: int = 1 << 20, memfd_flags: int = 0) -> None:
        self.size_bytes = size_bytes
        self.memfd = os.memfd_create("frontend", memfd_flags)
        os.ftruncate(self.memfd, size_bytes)
        self.memory = mmap.mmap(self.memfd, size_bytes)
        self.kicks = [os.eventfd(0), os.eventfd(0)]
        self.calls = [os.eventfd(0), os.eventfd(0)]
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5)
        self._socket.connect(os.fspath(path))

    def close(self) -> None:
        """Leave."""
        self._socket.close()
        for fd in (self.memfd, *self.kicks, *self.calls):
            os.close(fd)

    def send(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send one message."""
        message = _HEADER.pack(request, _VERSION, len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.sendmsg([message], rights)

    def ask(self, request: int) -> int:
        """Send a message and give the number that is its reply."""
        self.send(request)
        _, _, size = _HEADER.unpack(self._receive(_HEADER.size))
        return int.from_bytes(self._receive(size), "little")

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the backend has closed the connection")
            data += part
        return data

    def begin(self) -> None:
        """Do what every frontend does, as it should be done: one queue pair of 256, enabled."""
        self.send(Message.SET_OWNER)
        assert self.ask(Message.GET_FEATURES) & VIRTIO_F_VERSION_1
        features = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES
        self.send(Message.SET_FEATURES, struct.pack("<Q", features))
        self.share_memory()
        for vring in (RX, TX):
            self.set_up_vring(vring)
        for vring in (RX, TX):
            self.send(Message.SET_VRING_ENABLE, struct.pack("<II", vring, 1))

    def share_memory(self) -> None:
        """Share all of the memory, as it is."""
        region = struct.pack("<QQQQ", 0, self.size_bytes, 0, 0)
        self.send(Message.SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [self.memfd])

    def set_up_vring(self, vring: int) -> None:
        """Tell where a ring of 256 descriptors is."""
        at = vring * _RING_BYTES
        self.send(Message.SET_VRING_NUM, struct.pack("<II", vring, 256))
        self.send(Message.SET_VRING_BASE, struct.pack("<II", vring, 0))
        addresses = struct.pack("<IIQQQQ", vring, 0, at, at + _USED, at + _AVAIL, 0)
        self.send(Message.SET_VRING_ADDR, addresses)
        self.send(Message.SET_VRING_CALL, struct.pack("<Q", vring), [self.calls[vring]])
        self.send(Message.SET_VRING_KICK, struct.pack("<Q", vring), [self.kicks[vring]])

    def offer(self, vring: int, buffers: Sequence[tuple[int, int]]) -> None:
        """Put buffers (address, bytes) into a ring, for the first time, and kick."""
        at = vring * _RING_BYTES
        flags = _DESC_F_WRITE if vring == RX else 0
        for i, (address, size) in enumerate(buffers):
            self.memory[at + 16 * i : at + 16 * (i + 1)] = _DESCRIPTOR.pack(address, size, flags, 0)
        ring = struct.pack(f"<{len(buffers)}H", *range(len(buffers)))
        avail = at + _AVAIL
        self.memory[avail + 4 : avail + 4 + len(ring)] = ring
        self.memory[avail + 2 : avail + 4] = struct.pack("<H", len(buffers))
        os.eventfd_write(self.kicks[vring], 1)

    def offer_frame(self, frame: bytes, count: int = 1) -> None:
        """Send a frame so many times."""
        content = bytes(_NET_HEADER_BYTES) + frame
        self.memory[RINGS_BYTES : RINGS_BYTES + len(content)] = content
        self.offer(TX, [(RINGS_BYTES, len(content))] * count)
