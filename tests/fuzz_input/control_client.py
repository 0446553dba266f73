"""A client of the control socket that never waits, and looks at each reply that it gets."""

from __future__ import annotations

import array
import socket
from typing import Any

from dataplane import wire
from dataplane.wire import Code, Decoder


class Client:
    """One connection: what it sent and is told."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.deaf = False
        self.fds: list[int] = []
        self._unsent = b""
        self._rights: list[int] = []
        self._decoder = Decoder(wire.MAX_REPLY_BYTES)

    def queue(self, data: bytes) -> None:
        """Have bytes sent as the server takes them."""
        if not self._unsent:
            self._rights, self.fds = self.fds, []
        self._unsent += data

    def go_on(self) -> bool:
        """Send and read what is possible; False if that was nothing."""
        return self._send() | self._read()

    def _send(self) -> bool:
        if not self._unsent:
            return False
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self._rights))]
        try:
            sent = self.sock.sendmsg([self._unsent], rights if self._rights else [])
        except BlockingIOError:
            return False
        except OSError:
            self._unsent = b""
            return True
        self._unsent, self._rights = self._unsent[sent:], []
        return True

    def _read(self) -> bool:
        if self.deaf:
            return False
        try:
            chunk = self.sock.recv(1 << 16)
        except (BlockingIOError, ConnectionResetError):
            return False
        for body in self._decoder.feed(chunk):
            _check_reply(wire.decode(body))
        return bool(chunk)


def _check_reply(reply: dict[str, Any]) -> None:
    assert set(reply) == {"id", "ok", "result" if reply["ok"] else "error"}, reply
    if reply["ok"]:
        assert isinstance(reply["result"], dict)
        return
    error = reply["error"]
    assert set(error) == {"code", "message", "field"}
    assert Code(error["code"]) is not Code.INTERNAL, reply
    assert error["message"].isprintable(), reply
    assert len(error["message"]) < 1024, reply
