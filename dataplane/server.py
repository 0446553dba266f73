"""The control socket's loop: accept, read a request, have it done, reply. It makes no decisions."""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from dataplane import unix_socket
from dataplane.connection import STALL_TIMEOUT_S, Connection
from dataplane.wire import (
    MAX_REPLY_BYTES,
    Code,
    Request,
    WireError,
    decode,
    encode,
    error_reply,
    ok_reply,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dataplane.operations import Operations
    from dataplane.stop import Stop

MAX_CONNECTIONS = 64

_OUT_OF_FDS = "the dataplane is out of file descriptors: raise its limit (LimitNOFILE)"
_DEAF_S = 0.1

log = logging.getLogger("dataplane")


class Chore(Protocol):
    """What the loop does besides."""

    @property
    def due_s(self) -> float | None:
        """When it is due: a monotonic time, or None for never."""

    def act(self) -> None:
        """Do it if it is due."""


class Server:
    """Serves the operations on a listening socket until `stop` is requested, in one thread."""

    def __init__(
        self, listener: socket.socket, operations: Operations, chores: Sequence[Chore], stop: Stop
    ) -> None:
        self._listener = listener
        self._operations = operations
        self._chores = chores
        self._stop = stop
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        # Given up for a moment when descriptors run out, to turn the next client away.
        self._spare_fd = _spare_fd()
        self._deaf_until_s: float | None = None

    @property
    def has_connections(self) -> bool:
        """Whether there is any client."""
        return bool(self._connections)

    def run(self) -> None:
        """Serve until stopped. The listener and the connections stay open for `close`."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        while not self._stop.requested:
            arrivals = False
            for key, _ in self._selector.select(self._patience_s()):
                if isinstance(key.data, Connection):
                    self._advance(key.data)
                elif key.fileobj is self._listener:
                    arrivals = True
                else:
                    self._stop.drain()
            self._drop_stalled()
            self._listen_again()
            for chore in self._chores:
                chore.act()
            if arrivals:
                # Last, so that clients that have left make room for those who come.
                self._accept()

    def close(self) -> None:
        """Close the connections and the listener."""
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._listener.close()
        self._give_up_spare_fd()

    def _patience_s(self) -> float | None:
        dues_s = [*(c.due_s for c in self._chores), *(c.deadline_s for c in self._connections)]
        deadlines = [due_s for due_s in (*dues_s, self._deaf_until_s) if due_s is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _drop_stalled(self) -> None:
        now_s = time.monotonic()
        for connection in list(self._connections):
            if connection.deadline_s is not None and connection.deadline_s <= now_s:
                log.warning("client dropped: a message was under way for %g s", STALL_TIMEOUT_S)
                self._drop(connection)

    def _accept(self) -> None:
        for _ in range(max(1, MAX_CONNECTIONS - len(self._connections))):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                else:
                    log.warning("a connection could not be accepted: %s", e)
                return
            self._admit(Connection(sock))

    def _turn_away(self) -> None:
        """Close the next connection although descriptors have run out.

        Left waiting, it would keep the listener readable and this loop spinning.
        """
        log.warning("a client was turned away: %s", _OUT_OF_FDS)
        self._give_up_spare_fd()
        with suppress(OSError):
            self._listener.accept()[0].close()
        self._spare_fd = _spare_fd()
        if self._spare_fd is None:  # the limit has been lowered below what is open
            self._selector.unregister(self._listener)
            self._deaf_until_s = time.monotonic() + _DEAF_S

    def _give_up_spare_fd(self) -> None:
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None

    def _listen_again(self) -> None:
        """Look at the listener again some time after descriptors had run out altogether."""
        if self._deaf_until_s is not None and self._deaf_until_s <= time.monotonic():
            self._deaf_until_s = None
            self._spare_fd = _spare_fd()
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _admit(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        pid, uid = unix_socket.peer_credentials(connection.sock)
        if uid not in (0, os.geteuid()):
            log.warning("client refused: uid %d (pid %d) may not use this socket", uid, pid)
            error = WireError(Code.INVALID, f"uid {uid} may not use this socket")
        elif len(self._connections) > MAX_CONNECTIONS:
            log.warning("client refused: %d connections are open already", MAX_CONNECTIONS)
            error = WireError(Code.NO_RESOURCE, f"{MAX_CONNECTIONS} connections are open already")
        else:
            return
        self._send(connection, encode(error_reply(None, error)), closing=True)

    def _advance(self, connection: Connection) -> None:
        """Take the step that the socket is ready for."""
        try:
            if connection.sending:
                connection.flush()
                self._settle(connection)
            elif (body := connection.receive()) is not None:
                self._serve(connection, body)
        except WireError as e:
            log.warning("client dropped: %s", e.message)
            self._send(connection, encode(error_reply(None, e)), closing=True)
        except OSError:
            self._drop(connection)
        except Exception as e:
            # Whatever one client sends, the others and the packets must not pay for it.
            log.exception("client dropped")
            error = WireError(Code.INTERNAL, f"{type(e).__name__}: {e}")
            self._send(connection, encode(error_reply(None, error)), closing=True)

    def _serve(self, connection: Connection, body: bytes) -> None:
        request = Request.from_json(decode(body))
        fds: Sequence[int] = ()
        if connection.fds_lost:
            error = WireError(Code.NO_RESOURCE, _OUT_OF_FDS)
            frame = encode(error_reply(request.id, error))
        else:
            frame, fds = self._reply(request, connection.fds)
        connection.close_fds()
        self._send(connection, frame, fds)

    def _reply(self, request: Request, fds: list[int]) -> tuple[bytes, Sequence[int]]:
        try:
            answer = self._operations.handle(request, fds)
            return encode(ok_reply(request.id, answer.result), MAX_REPLY_BYTES), answer.fds
        except WireError as e:
            log.info("%s refused: %s", ascii(request.op), e.message)
            error = e
        except Exception as e:
            log.exception("%s failed", ascii(request.op))
            error = WireError(Code.INTERNAL, f"{type(e).__name__}: {e}")
        return encode(error_reply(request.id, error), MAX_REPLY_BYTES), ()

    def _send(
        self,
        connection: Connection,
        frame: bytes,
        fds: Sequence[int] = (),
        *,
        closing: bool = False,
    ) -> None:
        connection.closing = closing
        try:
            connection.send(frame, fds)
        except OSError:
            self._drop(connection)
        else:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Wait for what the connection needs next, or end it."""
        if connection.sending:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        elif connection.closing:
            self._drop(connection)
        else:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.close()


def _spare_fd() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
