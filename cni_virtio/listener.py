"""The agent's socket: who may ask, and how many are served at once."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cni_virtio import folders
from cni_virtio.framing import (
    REQUEST_PATIENCE_S,
    Frame,
    FrameError,
    Reply,
    drain,
    receive,
    reply_to,
    turn_away,
)
from dataplane import unix_socket
from dataplane.wire import WireError

log = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 256
_BACKLOG: Final = 1024  # a node that boots starts all its pods at once
_LEAST_WAITING: Final = 4
_MOST_WAITING: Final = 16


class ListenError(Exception):
    """The socket cannot be had; the text names it and says what to do."""


@dataclass(frozen=True)
class Handlers:
    """Who answers: a request that was read, one that was not, and one too many."""

    serve: Callable[[Frame], Reply]
    unreadable: Callable[[FrameError], Reply]
    busy: Callable[[], Reply]


class Listener:
    """Serves each connection in the thread that accepted it, a bounded number at once.

    A few threads wait for connections: to wake one takes a tenth of the time that it takes to hand
    a connection to a new one.
    """

    def __init__(self, path: Path, handlers: Handlers) -> None:
        self._path = path
        self._handlers = handlers
        self._socket = _listen(path)
        self._slots = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0
        self._closing = False

    def start(self) -> None:
        """Begin to accept."""
        self._add_threads()

    def close(self, patience_s: float) -> None:
        """Accept no more, remove the socket, and wait so long at most for the calls under way."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        with self._changed:
            if not self._changed.wait_for(lambda: not self._threads, patience_s):
                log.warning("%d calls are still under way", self._threads)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _add_threads(self) -> None:
        """Have enough threads wait."""
        with self._changed:
            while self._waiting < _LEAST_WAITING:
                try:
                    threading.Thread(target=self._run, name="listener", daemon=True).start()
                except RuntimeError as error:
                    log.warning("%s: those that there are go on", error)
                    return
                self._threads += 1
                self._waiting += 1

    def _run(self) -> None:
        try:
            while (connection := self._accept()) is not None:
                with self._changed:
                    self._waiting -= 1
                self._add_threads()
                self._admit(connection)
                with self._changed:
                    if self._waiting >= _MOST_WAITING:
                        return
                    self._waiting += 1
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _accept(self) -> socket.socket | None:
        """Wait for a connection; None if there will be no more."""
        while not self._closing:
            try:
                return self._socket.accept()[0]
            except OSError as error:
                if not self._closing:
                    log.warning("a connection could not be accepted: %s", error.strerror)
                    time.sleep(0.1)  # out of descriptors: some are given back soon
        return None

    def _admit(self, connection: socket.socket) -> None:
        pid, uid = unix_socket.peer_credentials(connection)
        if uid not in (0, os.geteuid()):
            log.warning("uid %d (pid %d) may not use this socket", uid, pid)
            connection.close()
        elif not self._slots.acquire(blocking=False):
            log.warning("turned away pid %d: %d calls are under way", pid, MAX_AT_ONCE)
            turn_away(connection, self._handlers.busy())
        else:
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self._answer(connection)
        finally:
            self._slots.release()

    def _answer(self, connection: socket.socket) -> None:
        try:
            frame = receive(connection, time.monotonic() + REQUEST_PATIENCE_S)
        except FrameError as error:
            log.warning("unreadable request: %s", error)
            reply_to(connection, self._handlers.unreadable(error))
            drain(connection)
            return
        if frame is None:
            return
        try:
            reply = self._handlers.serve(frame)
        finally:
            frame.close()
        reply_to(connection, reply)


def _listen(path: Path) -> socket.socket:
    """Listen, mode 0600, in place of a socket that a dead agent left."""
    try:
        folders.make(path.parent, 0o755)
        if who := unix_socket.who_serves(str(path)):
            raise ListenError(f"agent.socket: another agent ({who}) is already serving {path}")
        listener = unix_socket.listen(str(path))
    except WireError as error:
        raise ListenError(f"agent.socket: {error.message}") from None
    except OSError as error:
        raise ListenError(f"agent.socket: {path}: {error.strerror}") from None
    listener.setblocking(True)
    listener.listen(_BACKLOG)
    return listener
