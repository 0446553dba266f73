"""How a request comes in over the agent's socket, and how the reply goes out."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from cni_virtio import descriptors

CNI_MAGIC: Final = b"CNV1"
OPERATOR_MAGIC: Final = b"CNV2"
MAX_STDIN_BYTES: Final = 1 << 20
MAX_ENV_BYTES: Final = 64 << 10
REQUEST_PATIENCE_S: Final = 10.0
_HEADER: Final = struct.Struct("<4sIII")
_REPLY: Final = struct.Struct("<II")
_FLAG_FD: Final = 1
_FDS: Final = "descriptors"
_REPLY_PATIENCE_S: Final = 10.0
_DRAIN_PATIENCE_S: Final = 1.0
_FD_BYTES: Final = array.array("i").itemsize


class FrameError(Exception):
    """A request that cannot be read; `too_big` names the part that is over a limit."""

    def __init__(self, text: str, too_big: str = "") -> None:
        super().__init__(text)
        self.too_big = too_big


@dataclass
class Frame:
    """A request as it came. `fd` is an open namespace, which `close` closes."""

    magic: bytes
    env: bytes
    stdin: bytes
    fds: list[int] = field(default_factory=list)

    @property
    def fd(self) -> int | None:
        """The descriptor that rode along, or None."""
        return self.fds[0] if self.fds else None

    def close(self) -> None:
        """Close what rode along."""
        while self.fds:
            os.close(self.fds.pop())


Reply = tuple[int, bytes]
"""Exit status of the client, and what it writes to stdout."""


def receive(connection: socket.socket, deadline_s: float) -> Frame | None:
    """Read one request; None if the client closed without a word.

    Raises FrameError for what is no request, OSError if the client is gone.
    """
    fds: list[int] = []
    try:
        header = _receive_header(connection, deadline_s, fds)
        if not header:
            return None
        magic, env_bytes, stdin_bytes, flags = _HEADER.unpack(header)
        if magic not in (CNI_MAGIC, OPERATOR_MAGIC):
            raise FrameError(f"starts with {magic!r}: not from this plugin's version")
        if env_bytes > MAX_ENV_BYTES:
            text = f"the environment has {env_bytes} bytes, over the limit of {MAX_ENV_BYTES}"
            raise FrameError(text, "environment")
        if stdin_bytes > MAX_STDIN_BYTES:
            text = f"the netconf has {stdin_bytes} bytes, over the limit of {MAX_STDIN_BYTES}"
            raise FrameError(text, "stdin")
        if len(fds) != flags & _FLAG_FD:
            raise FrameError(f"announces flags {flags} and brings {len(fds)} descriptors")
        body = _receive_exactly(connection, env_bytes + stdin_bytes, deadline_s)
        return Frame(magic, body[:env_bytes], body[env_bytes:], fds)
    except BaseException:
        while fds:
            os.close(fds.pop())
        raise


def _receive_header(connection: socket.socket, deadline_s: float, fds: list[int]) -> bytes:
    """Read the header and the descriptors with it; b"" if the client closed at once."""
    data = b""
    while len(data) < _HEADER.size:
        _set_patience(connection, deadline_s)
        part, ancillary, flags, _ = connection.recvmsg(
            _HEADER.size - len(data), socket.CMSG_SPACE(4 * _FD_BYTES), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += array.array("i", payload[: len(payload) - len(payload) % _FD_BYTES])
        if flags & socket.MSG_CTRUNC:
            if fds:
                raise FrameError("brings more descriptors than the one of a namespace")
            raise FrameError(f"its namespace got lost{descriptors.remedy(errno.EMFILE)}", _FDS)
        if not part:
            if data:
                raise FrameError(f"ended after {len(data)} bytes of its header")
            return b""
        data += part
    return data


def _receive_exactly(connection: socket.socket, size: int, deadline_s: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        _set_patience(connection, deadline_s)
        part = connection.recv(min(size - len(data), 1 << 16))
        if not part:
            raise FrameError(f"ended after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def _set_patience(connection: socket.socket, deadline_s: float) -> None:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise FrameError(f"was not complete after {REQUEST_PATIENCE_S:g} s")
    connection.settimeout(left_s)


def reply_to(connection: socket.socket, reply: Reply) -> None:
    """Send a reply. Raises OSError if the client is gone."""
    status, stdout = reply
    connection.settimeout(_REPLY_PATIENCE_S)
    connection.sendall(_REPLY.pack(status, len(stdout)) + stdout)


def drain(connection: socket.socket) -> None:
    """Read what is still coming: closed before that, the client might lose the reply."""
    connection.shutdown(socket.SHUT_WR)
    deadline_s = time.monotonic() + _DRAIN_PATIENCE_S
    with contextlib.suppress(FrameError):
        _receive_exactly(connection, MAX_ENV_BYTES + MAX_STDIN_BYTES, deadline_s)


def turn_away(connection: socket.socket, reply: Reply) -> None:
    """Answer without reading: a short reply fits into the socket's buffer, so nobody waits."""
    status, stdout = reply
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(_REPLY.pack(status, len(stdout)) + stdout)
