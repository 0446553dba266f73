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
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

RINGS_BYTES: Final = 0x10000
"""From here on memory holds buffers."""
BUFFER_BYTES: Final = 2048
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<III")
_DESCRIPTOR: Final = struct.Struct("<QIHH")
_NET_HEADER_BYTES: Final = 12
_RING_BYTES: Final = 0x4000
_AVAIL, _USED = 0x1000, 0x2000
RX, TX = 0, 1
"""Vrings, from the frontend's side."""


class Message(IntEnum):
    """Request codes."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    GET_CONFIG = 24
    SET_CONFIG = 25
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    SET_STATUS = 39
    GET_STATUS = 40


NEED_REPLY: Final = 8
"""Flag of a message."""
EVENT_IDX: Final = 1 << 29
INDIRECT: Final = 1 << 28
MERGEABLE: Final = 1 << 15
PACKED: Final = 1 << 34
VIRTIO_F_VERSION_1: Final = 1 << 32
VHOST_USER_F_PROTOCOL_FEATURES: Final = 1 << 30
DESC_F_NEXT, DESC_F_WRITE, DESC_F_INDIRECT = 1, 2, 4
DESC_F_USED: Final = 1 << 15
"""In a packed ring; alone it makes a descriptor available in the round that begins with 0."""
Descriptor = tuple[int, int, int, int]
"""Address, bytes, flags, next."""
Region = tuple[int, int, int, int]
"""Guest address, bytes, the frontend's own address, offset in the file."""


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()
        for fd in (self.memfd, *self.kicks, *self.calls):
            os.close(fd)

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0
    ) -> None:
        """Send one message."""
        message = _HEADER.pack(request, _VERSION | flags, len(payload)) + payload
        self.send_bytes(message, fds)

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send what may be no message."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.sendmsg([data], rights)

    def wait_closed(self) -> None:
        """Wait until the backend has closed the connection, whatever it says before."""
        with suppress(ConnectionResetError):
            while self._socket.recv(4096):
                pass

    def settle(self) -> bool:
        """Wait until all that was sent has been handled; whether the connection is still there."""
        try:
            self.ask(Message.GET_FEATURES)
        except ConnectionError:
            return False
        return True

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

    def begin(self, features: int = 0) -> None:
        """Do what every frontend does, as it should be done: one queue pair of 256, enabled."""
        self.introduce(features)
        self.share_memory()
        for vring in (RX, TX):
            self.set_up_vring(vring)
        for vring in (RX, TX):
            self.enable(vring)

    def introduce(self, features: int = 0) -> None:
        """Negotiate the least, and these features."""
        self.send(Message.SET_OWNER)
        assert self.ask(Message.GET_FEATURES) & VIRTIO_F_VERSION_1
        self.set_features(features)

    def set_features(self, features: int) -> None:
        """Want these features, and the least."""
        features |= VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES
        self.send(Message.SET_FEATURES, struct.pack("<Q", features))

    def enable(self, vring: int, *, on: bool = True) -> None:
        """Switch a ring on or off."""
        self.send(Message.SET_VRING_ENABLE, struct.pack("<II", vring, on))

    def share_memory(self) -> None:
        """Share all of the memory, as it is."""
        self.share([(0, self.size_bytes, 0, 0)], [self.memfd])

    def share(self, regions: Sequence[Region], fds: Sequence[int], flags: int = 0) -> None:
        """Share regions, one to each descriptor."""
        table = b"".join(struct.pack("<QQQQ", *region) for region in regions)
        payload = struct.pack("<II", len(regions), 0) + table
        self.send(Message.SET_MEM_TABLE, payload, fds, flags)

    def set_up_vring(self, vring: int) -> None:
        """Tell where a ring of 256 descriptors is."""
        self.set_size(vring, 256)
        self.send(Message.SET_VRING_BASE, struct.pack("<II", vring, 0))
        self.set_addresses(vring)
        self.set_call(vring, self.calls[vring])
        self.set_kick(vring, self.kicks[vring])

    def stop_vring(self, vring: int) -> None:
        """Have the backend stop a ring, and tell how far it came."""
        self.send(Message.GET_VRING_BASE, struct.pack("<II", vring, 0))
        self._receive(_HEADER.size + 8)

    def set_size(self, vring: int, descriptors: int) -> None:
        """Tell a ring's size."""
        self.send(Message.SET_VRING_NUM, struct.pack("<II", vring, descriptors))

    def set_addresses(
        self,
        vring: int,
        table: int | None = None,
        avail: int | None = None,
        used: int | None = None,
    ) -> None:
        """Tell where the parts of a ring are, or others than those which are used here."""
        at = vring * _RING_BYTES
        table = at if table is None else table
        avail = at + _AVAIL if avail is None else avail
        used = at + _USED if used is None else used
        payload = struct.pack("<IIQQQQ", vring, 0, table, used, avail, 0)
        self.send(Message.SET_VRING_ADDR, payload)

    def set_kick(self, vring: int, fd: int) -> None:
        """Share what is written to when there is something new."""
        self.send(Message.SET_VRING_KICK, struct.pack("<Q", vring), [fd])

    def set_call(self, vring: int, fd: int) -> None:
        """Share what the backend writes to."""
        self.send(Message.SET_VRING_CALL, struct.pack("<Q", vring), [fd])

    def offer(self, vring: int, buffers: Sequence[tuple[int, int]]) -> None:
        """Put buffers (address, bytes) into a ring, for the first time, and kick."""
        flags = DESC_F_WRITE if vring == RX else 0
        chains = [(address, size, flags, 0) for address, size in buffers]
        self.offer_descriptors(vring, chains, range(len(chains)))

    def offer_descriptors(
        self,
        vring: int,
        table: Sequence[Descriptor],
        heads: Sequence[int],
        index: int | None = None,
    ) -> None:
        """Fill a ring's table, make chains available by their heads, and kick."""
        at = vring * _RING_BYTES
        filled = b"".join(_DESCRIPTOR.pack(*descriptor) for descriptor in table)
        self.memory[at : at + len(filled)] = filled
        ring = struct.pack(f"<{len(heads)}H", *heads)
        avail = at + _AVAIL
        self.memory[avail + 4 : avail + 4 + len(ring)] = ring
        self.offer_next(vring, len(heads) if index is None else index)

    def offer_next(self, vring: int, index: int) -> None:
        """Make the chains before this index available, as they are in the ring, and kick."""
        at = vring * _RING_BYTES + _AVAIL
        self.memory[at + 2 : at + 4] = struct.pack("<H", index)
        os.eventfd_write(self.kicks[vring], 1)

    def used(self, vring: int) -> int:
        """Tell how many chains the backend has returned, modulo 65536."""
        at = vring * _RING_BYTES + _USED
        return int.from_bytes(self.memory[at + 2 : at + 4], "little")

    def offer_frame(self, frame: bytes, count: int = 1) -> None:
        """Send a frame so many times."""
        content = bytes(_NET_HEADER_BYTES) + frame
        self.memory[RINGS_BYTES : RINGS_BYTES + len(content)] = content
        self.offer(TX, [(RINGS_BYTES, len(content))] * count)
