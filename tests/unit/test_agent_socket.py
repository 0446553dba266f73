"""The agent's socket against clients of every kind."""

from __future__ import annotations

import array
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_virtio import listener as module
from cni_virtio.framing import MAX_STDIN_BYTES, Frame, FrameError, Reply
from cni_virtio.listener import Handlers, Listener, ListenError

HEADER = struct.Struct("<4sIII")


AS_NOBODY = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
client.connect(sys.argv[1])
print(client.recv(100))
"""


class Echo:
    """Handlers that answer with what they saw."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.handlers = Handlers(self.serve, self.unreadable, lambda: (1, b"busy"))

    def serve(self, frame: Frame) -> Reply:
        self.gate.wait(10)
        inode = os.fstat(frame.fd).st_ino if frame.fd is not None else 0
        return 0, b"|".join([frame.magic, frame.env, frame.stdin, str(inode).encode()])

    def unreadable(self, error: FrameError) -> Reply:
        return 1, f"{error.too_big}:{error}".encode()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def path(tmp_path: Path, echo: Echo) -> Iterator[Path]:
    socket_path = tmp_path / "run" / "agent.sock"
    listener = Listener(socket_path, echo.handlers)
    listener.start()
    try:
        yield socket_path
    finally:
        echo.gate.set()
        listener.close(10)
        assert not socket_path.exists()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(path))  # with a time limit it would fail where the queue is full
    client.settimeout(5)
    return client


def answer(client: socket.socket) -> tuple[int, bytes]:
    data = b""
    while part := client.recv(65536):
        data += part
    status, length = struct.unpack_from("<II", data)
    assert length == len(data) - 8
    return status, data[8:]


def request(env: bytes = b"A=1\0", stdin: bytes = b"{}", flags: int = 0) -> bytes:
    return HEADER.pack(b"CNV1", len(env), len(stdin), flags) + env + stdin


def ask(path: Path, data: bytes, fds: list[int] | None = None) -> tuple[int, bytes]:
    with connect(path) as client:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = client.sendmsg([data], rights)
        if sent < len(data):
            client.sendall(data[sent:])
        return answer(client)


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_request_comes_through_whole(path: Path) -> None:
    assert ask(path, request()) == (0, b"CNV1|A=1\0|{}|0")


def test_a_request_may_come_in_single_bytes(path: Path) -> None:
    with connect(path) as client:
        for byte in request():
            client.sendall(bytes([byte]))
        assert answer(client) == (0, b"CNV1|A=1\0|{}|0")


def test_the_largest_request_is_served(path: Path) -> None:
    stdin = b"x" * MAX_STDIN_BYTES
    status, body = ask(path, request(b"", stdin))
    assert status == 0
    assert len(body) == len(stdin) + len(b"CNV1|||0")


def test_the_descriptor_rides_along_and_is_closed_again(path: Path, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        before = open_fds()
        for _ in range(20):
            status, body = ask(path, request(flags=1), [fd])
            assert (status, body.split(b"|")[-1]) == (0, str(tmp_path.stat().st_ino).encode())
        eventually(lambda: open_fds() <= before)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"not from this plugin's version"),
        (HEADER.pack(b"CNV1", 1 << 20, 0, 0), b"environment:the environment has 1048576 bytes"),
        (HEADER.pack(b"CNV1", 0, 1 << 30, 0), b"stdin:the netconf has 1073741824 bytes"),
        (HEADER.pack(b"CNV1", 0, 2, 1) + b"{}", b"announces flags 1 and brings 0 descriptors"),
    ],
    ids=["garbage", "environment", "stdin", "no descriptor"],
)
def test_what_is_no_request_gets_an_answer(path: Path, data: bytes, said: bytes) -> None:
    status, body = ask(path, data)
    assert status == 1
    assert said in body


def test_surplus_descriptors_are_refused_and_closed(path: Path, tmp_path: Path) -> None:
    fds = [os.open(tmp_path, os.O_RDONLY) for _ in range(12)]
    try:
        before = open_fds()
        for flags, count in ((1, 2), (1, 12), (0, 1), (0, 2), (0, 4), (2, 1)):
            status, body = ask(path, request(flags=flags), fds[:count])
            assert status == 1
            assert b"descriptors" in body
        eventually(lambda: open_fds() <= before)
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("size", [0, 5, 16, 18])
def test_a_client_that_vanishes_harms_nobody(path: Path, size: int) -> None:
    for _ in range(50):
        with connect(path) as client:
            client.sendall(request()[:size])
    assert ask(path, request())[0] == 0


def test_half_a_request_does_not_pin_a_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_PATIENCE_S", 0.2)
    with connect(path) as client:
        client.sendall(request()[:10])
        started_s = time.monotonic()
        with pytest.raises((struct.error, ConnectionResetError)):
            answer(client)  # timed out: closed without a word
        assert time.monotonic() - started_s < 3


def test_one_too_many_is_told_so(
    tmp_path: Path, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 3)
    listener = Listener(tmp_path / "agent.sock", echo.handlers)
    listener.start()
    echo.gate.clear()
    clients = [connect(tmp_path / "agent.sock") for _ in range(3)]
    try:
        for client in clients:
            client.sendall(request())
        eventually(lambda: listener._threads - listener._waiting == 3)
        with connect(tmp_path / "agent.sock") as late:
            assert answer(late) == (1, b"busy")
        echo.gate.set()
        assert [answer(client)[0] for client in clients] == [0, 0, 0]
        assert ask(tmp_path / "agent.sock", request())[0] == 0
    finally:
        echo.gate.set()
        for client in clients:
            client.close()
        listener.close(10)


def test_many_rapid_connections(path: Path) -> None:
    before, threads = open_fds(), threading.active_count()
    for _ in range(2000):
        connect(path).close()
    assert ask(path, request())[0] == 0
    most = threads + module._MOST_WAITING
    eventually(lambda: open_fds() <= before and threading.active_count() <= most)


def test_only_the_owner_may_ask(path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid: not root")
def test_others_are_turned_away_even_if_the_mode_lets_them(echo: Echo) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent.sock")
        listener = Listener(path, echo.handlers)
        listener.start()
        Path(folder).chmod(0o755)
        path.chmod(0o666)
        try:
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, str(path)], check=False, capture_output=True
            )
            assert done.stdout == b"b''\n"
        finally:
            listener.close(10)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(path: Path, echo: Echo) -> None:
    with pytest.raises(ListenError, match=rf"another agent \(pid {os.getpid()}\) is already"):
        Listener(path, echo.handlers)
    assert ask(path, request())[0] == 0
    stale = path.parent / "stale.sock"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(stale))
    dead.close()
    listener = Listener(stale, echo.handlers)
    listener.start()
    assert ask(stale, request())[0] == 0
    listener.close(10)


def test_what_is_no_socket_is_left_alone(tmp_path: Path, echo: Echo) -> None:
    (tmp_path / "agent.sock").write_text("precious")
    with pytest.raises(ListenError, match=r"agent\.socket: .* is not a socket"):
        Listener(tmp_path / "agent.sock", echo.handlers)
    assert (tmp_path / "agent.sock").read_text() == "precious"


def test_calls_under_way_end_before_the_listener_does(tmp_path: Path, echo: Echo) -> None:
    listener = Listener(tmp_path / "agent.sock", echo.handlers)
    listener.start()
    echo.gate.clear()
    with connect(tmp_path / "agent.sock") as client:
        client.sendall(request())
        eventually(lambda: listener._threads > listener._waiting)
        closing = threading.Thread(target=listener.close, args=(10,))
        closing.start()
        time.sleep(0.05)
        assert closing.is_alive()
        echo.gate.set()
        assert answer(client)[0] == 0
        closing.join(5)
        assert not closing.is_alive()
