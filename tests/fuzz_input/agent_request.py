"""The agent's socket against scripts of a client: every request is answered in its shape, or none.

What follows a request is real up to where the kernel, the disk and the dataplane come in.

Steps: `s` bytes; `q` a CNI request (lines of environment, an empty line, netconf); `o` an
operator's; `f` so many descriptors with what is sent next; `w` a long pause; `h` no more to send.
Each step waits until the agent wants to read more.
"""

from __future__ import annotations

import array
import json
import logging
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from cni_virtio import framing, listener
from cni_virtio.framing import CNI_MAGIC, OPERATOR_MAGIC, FrameError
from cni_virtio.listener import Handlers, Listener
from cni_virtio.operations import Operations
from cni_virtio.requests import Requests
from cni_virtio.spec import SUPPORTED_VERSIONS, Code
from cni_virtio.timings import Timings
from cni_virtio.upgrade import UpgradeError
from tests.fuzz_input.fake_verbs import NoDataplane, Verbs
from tests.fuzz_input.script import Clock, Descriptors, Step, open_fds, steps

_HEADER = struct.Struct("<4sIII")
_REPLY = struct.Struct("<II")
_SHIM_REPLY_MAX_BYTES = 8 << 20
_PAUSE_S = 11.0
_CODES = frozenset(Code) - {Code.INTERNAL}


class Client:
    """Plays a script, each step when the agent would have to wait for more."""

    def __init__(self, sock: socket.socket, script: Iterator[Step], clock: Clock) -> None:
        self._sock = sock
        self._script = script
        self._clock = clock
        self._fds: list[int] = []

    def go_on(self) -> bool:
        """Take the next step; False if there is none."""
        step = next(self._script, None)
        if step is None:
            return False
        if step.kind == "w":
            self._clock.now_s += _PAUSE_S
        elif step.kind == "h":
            self._sock.shutdown(socket.SHUT_WR)
        elif step.kind == "f":
            self._fds = descriptors.some(step.number)
        elif data := _bytes_of(step, len(self._fds)):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self._fds))]
            self._fds, with_it = [], rights if self._fds else []
            with suppress(BrokenPipeError):
                self._sock.sendmsg([data], with_it)
        return True


def _bytes_of(step: Step, fds: int) -> bytes:
    if step.kind == "s":
        return step.payload
    env, _, stdin = step.payload.partition(b"\n\n")
    if step.kind == "q":
        block = b"".join(line + b"\0" for line in env.split(b"\n"))
        return _HEADER.pack(CNI_MAGIC, len(block), len(stdin), int(fds == 1)) + block + stdin
    if step.kind == "o":
        payload = step.payload
        return _HEADER.pack(OPERATOR_MAGIC, 0, len(payload), int(fds == 1)) + payload
    return b""


class Connection(socket.socket):
    """The agent's end, on which waiting for a client means that the script goes on."""

    client: Client

    def recvmsg(self, *args: Any) -> Any:
        return self._when_there(super().recvmsg, *args)

    def recv(self, *args: Any) -> Any:
        return self._when_there(super().recv, *args)

    def _when_there(self, read: Callable[..., Any], *args: Any) -> Any:
        self.settimeout(0)
        while True:
            try:
                return read(*args)
            except BlockingIOError:
                if not self.client.go_on():
                    raise TimeoutError("the client sends no more") from None


class OneLine(logging.Handler):
    """Checks that no log message breaks into lines that others might be taken for."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        assert "\n" not in message, message
        assert "\r" not in message, message


class Supervisor:
    """One whose dataplane somebody else starts."""

    def messages(self) -> list[str]:
        return []

    def status(self) -> dict[str, Any]:
        return {"pid": None}

    def upgrade(self) -> dict[str, Any]:
        raise UpgradeError("its own supervisor restarts it")


class Watched(Requests):
    """Notes what kind of answer is due, and that no two are."""

    def __init__(self) -> None:
        node = SimpleNamespace(wanted=fake_verbs.wanted, state={}, config=fake_verbs.config)
        operations = Operations(
            cast("Any", node),
            cast("Any", Supervisor()),
            cast("Any", NoDataplane()),
            list,
            cast("Any", None),
            Timings(),
        )
        super().__init__(cast("Any", fake_verbs), operations, Timings())
        self.answers: list[str] = []

    def serve(self, frame: framing.Frame) -> framing.Reply:
        assert len(frame.fds) <= 1
        self.answers.append("cni" if frame.magic == CNI_MAGIC else "operator")
        return super().serve(frame)

    def unreadable(self, error: FrameError) -> framing.Reply:
        self.answers.append("cni")
        return super().unreadable(error)


fake_verbs = Verbs()
descriptors = Descriptors()
_requests = Watched()
_folder = tempfile.TemporaryDirectory(prefix="cnv-")
_listener = Listener(
    Path(_folder.name, "agent.sock"),
    Handlers(_requests.serve, _requests.unreadable, _requests.busy),
)
for _module in ("cni_virtio.requests", "cni_virtio.listener"):
    _log = logging.getLogger(_module)
    _log.propagate = False
    _log.addHandler(OneLine())
    _log.setLevel(logging.INFO)


def run(data: bytes) -> None:
    """Play a script against the agent's socket; raises where the agent does what it must not."""
    clock, before = Clock(), open_fds()
    for module in cast("Any", (framing, listener)):
        module.time = clock
    _requests.answers.clear()
    client, server = socket.socketpair()
    connection = Connection(fileno=server.detach())
    connection.client = Client(client, steps(data), clock)
    with client:
        _listener._admit(connection)
        client.settimeout(0)
        reply = _everything(client)
    assert open_fds() == before, "a descriptor leaked"
    assert len(_requests.answers) <= 1
    if _requests.answers:
        _check(reply, _requests.answers[0])
    else:
        assert not reply


def _everything(client: socket.socket) -> bytes:
    reply = b""
    with suppress(ConnectionResetError, BlockingIOError):
        while part := client.recv(1 << 20):
            reply += part
    return reply


def _check(reply: bytes, kind: str) -> None:
    assert len(reply) >= _REPLY.size
    status, size = _REPLY.unpack_from(reply)
    body = reply[_REPLY.size :]
    assert len(body) == size <= _SHIM_REPLY_MAX_BYTES
    assert status in (0, 1)
    if not body:
        assert status == 0
        return
    said = json.loads(body, parse_constant=_no_number)
    assert isinstance(said, dict)
    if kind == "operator":
        assert (status == 1) == ("error" in said)
    else:
        _check_cni(status, said)


def _check_cni(status: int, said: dict[str, Any]) -> None:
    assert said["cniVersion"] in SUPPORTED_VERSIONS
    if status == 0:
        return
    assert said["code"] in _CODES, said
    assert said["msg"].isprintable(), said
    assert len(said["msg"]) < 4096, said
    assert set(said) <= {"cniVersion", "code", "msg", "details"}


def _no_number(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")
