"""A vhost-user frontend that connects, sets its rings up, and then stays silent."""

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
_AVAIL_AT: Final = 8 << 10
_USED_AT: Final = 12 << 10
_ADDRESS: Final = 1 << 40
"""Where the memory is, as the frontend calls it."""


def connect_silently(stack: ExitStack, path: Path) -> None:
    """Connect to a socket, with one queue pair; it stays so until the stack ends."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.connect(str(path))
    memory = os.memfd_create("rings")
    stack.callback(os.close, memory)
    os.ftruncate(memory, _RINGS * _RING_BYTES)
    _send(sock, _SET_OWNER)
    _ask(sock, _GET_FEATURES)
    _send(sock, _SET_FEATURES, struct.pack("<Q", _FEATURES))
    _ask(sock, _GET_PROTOCOL_FEATURES)
    _send(sock, _SET_PROTOCOL_FEATURES, struct.pack("<Q", 0))
    region = struct.pack("<II4Q", 1, 0, _ADDRESS, _RINGS * _RING_BYTES, _ADDRESS, 0)
    _send(sock, _SET_MEM_TABLE, region, memory)
    for ring in range(_RINGS):
        _set_up(stack, sock, ring)
    for ring in range(_RINGS):
        _send(sock, _SET_VRING_ENABLE, struct.pack("<II", ring, 1))


def _set_up(stack: ExitStack, sock: socket.socket, ring: int) -> None:
    start = _ADDRESS + ring * _RING_BYTES
    addresses = (start, start + _USED_AT, start + _AVAIL_AT, 0)
    _send(sock, _SET_VRING_NUM, struct.pack("<II", ring, _RING))
    _send(sock, _SET_VRING_BASE, struct.pack("<II", ring, 0))
    _send(sock, _SET_VRING_ADDR, struct.pack("<II4Q", ring, 0, *addresses))
    for request in (_SET_VRING_CALL, _SET_VRING_KICK):
        event = os.eventfd(0)
        stack.callback(os.close, event)
        _send(sock, request, struct.pack("<Q", ring), event)


def _send(sock: socket.socket, request: int, payload: bytes = b"", fd: int | None = None) -> None:
    header = struct.pack("<III", request, _VERSION, len(payload))
    fds = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    sock.sendmsg([header, payload], fds)


def _ask(sock: socket.socket, request: int) -> None:
    _send(sock, request)
    sock.recv(256)
