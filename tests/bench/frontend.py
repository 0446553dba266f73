"""A vhost-user frontend's half of the protocol, and one that connects and then stays silent."""

from __future__ import annotations

import array
import os
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final

# Requests of the vhost-user protocol.
_GET_FEATURES: Final = 1
_SET_FEATURES: Final = 2
_SET_OWNER: Final = 3
_SET_MEM_TABLE: Final = 5
_SET_VRING_NUM: Final = 8
_SET_VRING_ADDR: Final = 9
_SET_VRING_BASE: Final = 10
_SET_VRING_KICK: Final = 12
_SET_VRING_CALL: Final = 13
_GET_PROTOCOL_FEATURES: Final = 15
_SET_PROTOCOL_FEATURES: Final = 16
_SET_VRING_ENABLE: Final = 18

_VERSION: Final = 1
_FEATURES: Final = 1 << 32 | 1 << 30
"""VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES."""
_RINGS: Final = 2
_RING: Final = 256
_RING_BYTES: Final = 16 << 10
AVAIL_AT: Final = 8 << 10
USED_AT: Final = 12 << 10
ADDRESS: Final = 1 << 40
"""Where the memory is, as the frontend calls it."""


def connect_silently(stack: ExitStack, path: Path) -> None:
    """Connect to a socket, with one queue pair; it stays so until the stack ends."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.connect(str(path))
    memory = os.memfd_create("rings")
    stack.callback(os.close, memory)
    os.ftruncate(memory, _RINGS * _RING_BYTES)
    shake_hands(stack, sock, memory, _RING, _RING_BYTES)


def shake_hands(
    stack: ExitStack, sock: socket.socket, memory: int, size: int, ring_bytes: int
) -> list[tuple[int, int]]:
    """Have the backend serve the rings in `memory`, which is at ADDRESS for it.

    Each of the two has `size` entries and its own `ring_bytes` of memory. Gives the eventfds of
    each ring: what the backend notifies by, and what it is notified by.
    """
    _send(sock, _SET_OWNER)
    _ask(sock, _GET_FEATURES)
    _send(sock, _SET_FEATURES, struct.pack("<Q", _FEATURES))
    _ask(sock, _GET_PROTOCOL_FEATURES)
    _send(sock, _SET_PROTOCOL_FEATURES, struct.pack("<Q", 0))
    region = struct.pack("<II4Q", 1, 0, ADDRESS, _RINGS * ring_bytes, ADDRESS, 0)
    _send(sock, _SET_MEM_TABLE, region, memory)
    events = [_set_up(stack, sock, ring, size, ring_bytes) for ring in range(_RINGS)]
    for ring in range(_RINGS):
        _send(sock, _SET_VRING_ENABLE, struct.pack("<II", ring, 1))
    return events


def _set_up(
    stack: ExitStack, sock: socket.socket, ring: int, size: int, ring_bytes: int
) -> tuple[int, int]:
    start = ADDRESS + ring * ring_bytes
    addresses = (start, start + USED_AT, start + AVAIL_AT, 0)
    _send(sock, _SET_VRING_NUM, struct.pack("<II", ring, size))
    _send(sock, _SET_VRING_BASE, struct.pack("<II", ring, 0))
    _send(sock, _SET_VRING_ADDR, struct.pack("<II4Q", ring, 0, *addresses))
    events = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
    for request, event in zip((_SET_VRING_CALL, _SET_VRING_KICK), events, strict=True):
        stack.callback(os.close, event)
        _send(sock, request, struct.pack("<Q", ring), event)
    return events


def _send(sock: socket.socket, request: int, payload: bytes = b"", fd: int | None = None) -> None:
    header = struct.pack("<III", request, _VERSION, len(payload))
    fds = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    sock.sendmsg([header, payload], fds)


def _ask(sock: socket.socket, request: int) -> None:
    _send(sock, request)
    sock.recv(256)
