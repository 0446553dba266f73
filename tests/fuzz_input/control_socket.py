"""The dataplane's control socket against scripts of clients; only the engine is a fake.

Steps: `s` bytes; `m` a message, with its length before it; `f` so many descriptors with what is
sent next; `w` a long pause; `h` no more to send; `c` another client; `0` to `3` one of the clients;
`d` the client stops or begins to read; `e` the engine's next change fails; `g` handing over a
socket fails. After each the server serves all it has. `/S/` in a path is the folder for sockets.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from dataplane import connection, operations, server, unix_socket, wire
from dataplane.holding import Holding
from dataplane.operations import Answer, Operations
from dataplane.server import Server
from dataplane.stop import Stop
from dataplane.wire import Code, Request, WireError
from tests.fuzz_input.control_client import Client
from tests.fuzz_input.fake_engine import FakeEngine
from tests.fuzz_input.script import Clock, Descriptors, Step, open_fds, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH = struct.Struct(">I")
_PAUSE_S = 11.0
_MOST_CLIENTS = 4
_MOST_TURNS = 400
_MOST_HELD_BYTES = wire.MAX_REQUEST_BYTES + 4
_OPTIONS = SimpleNamespace(cores=(1,), idle="adaptive", pci=())
_FAILURES = (errno.ENOMEM, errno.ENOSPC, errno.EINVAL, errno.EEXIST, errno.EIO, errno.ENOTSUP)

_descriptors = Descriptors()
_folder = tempfile.TemporaryDirectory(prefix="cnv-")
_names = count()


class Fence:
    """Stands in for the module unix_socket: nothing outside of the test's folder is touched."""

    private_umask = staticmethod(unix_socket.private_umask)
    failing = False

    def remove_stale(self, path: str) -> None:
        self._check(path)
        unix_socket.remove_stale(path)

    def hand_over(self, path: str, uid: int, gid: int) -> None:
        if self.failing:
            self.failing = False
            raise WireError(Code.IO, f"{path}: is not the socket that was just made there")
        self._check(path)
        unix_socket.hand_over(path, uid, gid)

    @staticmethod
    def _check(path: str) -> None:
        if str(Path(path).parent) != _folder.name:
            raise WireError(Code.NOT_FOUND, "the directory cannot be used for a socket")


class Immovable:
    """Stands in for the control socket's place: no path outside of the test's folder is touched."""

    def move(self, path: str) -> None:
        raise WireError(Code.IO, f"the control socket cannot be moved to {path}")


class Watched(Operations):
    """Checks of each request that it is done wholly or not at all."""

    def __init__(self, engine: FakeEngine, stop: Stop) -> None:
        place, holding = cast("Any", Immovable()), Holding(cast("Any", engine))
        super().__init__(cast("Any", engine), cast("Any", _OPTIONS), place, holding, stop)
        self._fake = engine
        self.served = 0

    def handle(self, request: Request, fds: list[int]) -> Answer:
        self.served += 1
        before = self._fake.state()
        try:
            result = super().handle(request, fds)
        except WireError:
            assert self._fake.state() == before, f"{request} was refused and half done"
            raise
        finally:
            self.check()
        return result

    def check(self) -> None:
        """Compare what is remembered with what the engine was told."""
        assert {name: spec.uplink for name, spec in self._networks.items()} == self._fake.networks
        assert self._ports.keys() == self._fake.ports.keys()
        for name, spec in self._ports.items():
            assert spec.limits == self._fake.limits[name]
            assert len(self._fake.fds.get(name, [])) == (spec.queues if spec.kind == "tap" else 0)


class Script:
    """A chore of the server's loop: what the clients do, until there is no more; then it stops."""

    def __init__(self, script: Iterator[Step], address: str, clock: Clock, stop: Stop) -> None:
        self.due_s: float | None = 0.0
        self.watch: Callable[[], None] = lambda: None
        self._script = script
        self._address = address
        self._clock = clock
        self._stop = stop
        self._turns = 0
        self._clients = [Client(address)]
        self._current = self._clients[0]

    def act(self) -> None:
        """Let the clients go on; take the next step once nothing moves any more."""
        self._turns += 1
        self.watch()
        for client in self._clients:
            if client.go_on():
                self._quiet = 0
                break
        else:
            self._quiet += 1
        if self._turns > _MOST_TURNS:
            self._stop.request()
        elif self._quiet > 1:
            self._quiet = 0
            step = next(self._script, None)
            if step is None:
                self._stop.request()
            else:
                self._take(step)

    _quiet = 0

    def close(self) -> None:
        """Let the clients leave."""
        for client in self._clients:
            client.sock.close()

    def _take(self, step: Step) -> None:
        client = self._current
        payload = step.payload.replace(b"/S/", f"{_folder.name}/".encode())
        if step.kind == "s":
            client.queue(payload)
        elif step.kind == "m":
            client.queue(_LENGTH.pack(len(payload)) + payload)
        elif step.kind == "f":
            client.fds = _descriptors.some(step.number)
        elif step.kind == "d":
            client.deaf = not client.deaf
        elif step.kind == "h":
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_WR)
        else:
            self._elsewhere(step)

    def _elsewhere(self, step: Step) -> None:
        if step.kind == "w":
            self._clock.now_s += _PAUSE_S
        elif step.kind == "c" and len(self._clients) < _MOST_CLIENTS:
            self._current = Client(self._address)
            self._clients.append(self._current)
        elif step.kind in "0123":
            self._current = self._clients[int(step.kind) % len(self._clients)]
        elif step.kind == "e":
            _engine().failing = _FAILURES[step.number % len(_FAILURES)]
        elif step.kind == "g":
            _fence.failing = True


_fence = Fence()
_engines: list[FakeEngine] = []


def _engine() -> FakeEngine:
    return _engines[-1]


class OneLine(logging.Handler):
    """Checks that no log message breaks into lines, and that nothing unforeseen is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        assert "\n" not in record.getMessage()
        assert not record.exc_info, record.getMessage()


logging.getLogger("dataplane").propagate = False
logging.getLogger("dataplane").addHandler(OneLine())
logging.getLogger("dataplane").setLevel(logging.INFO)


class WatchedServer(Server):
    """Checks that what it holds for its clients is bounded."""

    clock: Clock

    def watch(self) -> None:
        for each in self._connections:
            assert each.deadline_s is None or each.deadline_s > self.clock.now_s
            assert len(each._decoder._buffer) <= _MOST_HELD_BYTES
            assert len(each.fds) <= (wire.MAX_FDS if each._decoder.started else 0) or each.closing
            assert len(each._unsent) <= wire.MAX_REPLY_BYTES + 4


def run(data: bytes) -> None:
    """Play a script against a server; raises where that does what it must not."""
    before, clock, stop = open_fds(), Clock(), Stop()
    modules = cast("Any", (connection, server))
    for module in modules:
        module.time = clock
    cast("Any", operations).unix_socket = _fence
    _fence.failing = False
    _engines[:] = [FakeEngine(Path(_folder.name))]
    # An abstract name: nothing in the file system has to be made and removed each time.
    address = f"\0cnv-fuzz-{os.getpid()}-{next(_names)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(address)
    listener.listen(8)
    watched = Watched(_engine(), stop)
    script = Script(steps(data), address, clock, stop)
    serving = WatchedServer(listener, watched, [script], stop)
    serving.clock, script.watch = clock, serving.watch
    try:
        serving.run()
        watched.check()
    finally:
        serving.close()
        script.close()
        watched.close()
        assert not _engine().ports
        assert not _engine().networks
        os.close(stop._read_fd)
        os.close(stop._write_fd)
    assert open_fds() == before, "a descriptor leaked"
