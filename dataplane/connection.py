"""One client of the control socket: what it has sent so far, and what it has yet to read."""

from __future__ import annotations

import array
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from dataplane.wire import MAX_FDS, Code, Decoder, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

STALL_TIMEOUT_S = 10.0
"""How long a message may be under way, in either direction."""

_CHUNK_BYTES = 1 << 16
_FD_BYTES = array.array("i").itemsize


class Connection:
    """A non-blocking socket that carries one message at a time.

    No more is read than the message at hand, and no request is read while a reply waits for its
    reader; so a client that sends without reading fills its own socket and nothing of ours.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fds: list[int] = []
        """Descriptors that came with the message at hand; closed here unless taken out."""
        self.fds_lost = False
        """More came with it than this process may open."""
        self.deadline_s: float | None = None
        self.closing = False
        """Close as soon as what was sent is written."""
        self._decoder = Decoder()
        self._unsent = memoryview(b"")

    @property
    def sending(self) -> bool:
        """Whether a reply waits for the client to read."""
        return len(self._unsent) > 0

    def receive(self) -> bytes | None:
        """Give the body of the next message once it is complete.

        :raises WireError: the bytes are no message; the connection cannot go on.
        :raises ConnectionError: the client is gone.
        """
        while True:
            try:
                chunk = self._receive_chunk(min(self._decoder.wanted, _CHUNK_BYTES))
            except BlockingIOError:
                self._set_deadline(self._decoder.started)
                return None
            if not chunk:
                raise ConnectionResetError("closed by the client")
            for body in self._decoder.feed(chunk):
                return body

    def send(self, frame: bytes, fds: Sequence[int] = ()) -> None:
        """Send a frame, now or as the client reads; with its first byte, and now, descriptors.

        :raises OSError: the client is gone, or takes no descriptors now.
        """
        self._unsent = memoryview(frame)
        self.deadline_s = None
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.sock.sendmsg([self._unsent], rights, socket.MSG_NOSIGNAL)
            self._unsent = self._unsent[sent:]
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes of an unsent frame.

        :raises ConnectionError: the client is gone.
        """
        with suppress(BlockingIOError):
            while self._unsent:
                sent = self.sock.send(self._unsent, socket.MSG_NOSIGNAL)
                self._unsent = self._unsent[sent:]
        self._set_deadline(self.sending)

    def close_fds(self) -> None:
        """Close the descriptors that nobody took, at the end of the message at hand."""
        self.fds_lost = False
        while self.fds:
            os.close(self.fds.pop())

    def close(self) -> None:
        """Close the socket and all that came through it."""
        self.close_fds()
        self.sock.close()

    def _receive_chunk(self, most_bytes: int) -> bytes:
        chunk, ancillary, flags, _ = self.sock.recvmsg(
            most_bytes, socket.CMSG_LEN(MAX_FDS * _FD_BYTES), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(data) - len(data) % _FD_BYTES
                self.fds += array.array("i", data[:whole])
        truncated = bool(flags & socket.MSG_CTRUNC)
        if len(self.fds) > MAX_FDS or (truncated and len(self.fds) == MAX_FDS):
            reason = f"over {MAX_FDS} file descriptors came with one message"
            raise WireError(Code.NO_RESOURCE, reason)
        self.fds_lost |= truncated
        return chunk

    def _set_deadline(self, under_way: bool) -> None:
        if not under_way:
            self.deadline_s = None
        elif self.deadline_s is None:
            self.deadline_s = time.monotonic() + STALL_TIMEOUT_S
