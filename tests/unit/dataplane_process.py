"""A real dataplane process for tests, and the ways to talk to it."""

from __future__ import annotations

import array
import ctypes
import fcntl
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataplane import wire
from dataplane.client import DataplaneClient
from dataplane.wire import Decoder, NetworkSpec, PortSpec, VhostSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("dataplane._engine") is None,
    reason="the engine is not built: run ./dev setup",
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="changes its uid or makes a tap: not root"
)

ROOT = Path(__file__).parents[2]
NOBODY = 65534
START_TIMEOUT_S = 30
REFUSED = "the seccomp filter refuses"
"""What the dataplane says of a system call that it has no leave to make."""
CORES = sorted(os.sched_getaffinity(0))
ENGINE_OPTIONS = ["--no-huge", "--memory", "128Mi"]
CORE_OPTIONS = ["--main-core", str(CORES[0]), "--cores", str(CORES[-1])]


@dataclass(frozen=True)
class Dataplane:
    process: subprocess.Popen[str]
    directory: Path

    @property
    def path(self) -> str:
        return str(self.directory / "dataplane.sock")

    def client(self) -> DataplaneClient:
        return DataplaneClient(self.path)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With a timeout set, connecting to a full backlog would fail at once.
        sock.connect(self.path)
        sock.settimeout(15)
        return sock

    def open_fds(self) -> int:
        """Count descriptors once those of clients that just left are closed."""
        with self.client_that_closes() as control:
            control.version()
        counts = [-1, -2]
        while counts[-1] != counts[-2]:
            time.sleep(0.05)
            counts.append(len(list(Path(f"/proc/{self.process.pid}/fd").iterdir())))
        return counts[-1]

    @contextmanager
    def client_that_closes(self) -> Iterator[DataplaneClient]:
        control = self.client()
        try:
            yield control
        finally:
            control.close()

    def assert_alive(self) -> None:
        with self.client_that_closes() as control:
            assert control.version()["pid"] == self.process.pid


def command(socket_path: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "dataplane", "--socket", socket_path),
        *(*CORE_OPTIONS, *ENGINE_OPTIONS, *options),
    ]


@contextmanager
def running(directory: Path, *options: str) -> Iterator[Dataplane]:
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        command(str(directory / "dataplane.sock"), "--ready-fd", str(write_fd), *options),
        cwd=ROOT,
        pass_fds=[write_fd],
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_fd)
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()))
    reader.start()
    try:
        with os.fdopen(read_fd) as ready:
            said = ready.readline()
        assert said == "ready\n", f"{said!r}, exit status {process.poll()}, log: {log}"
        yield Dataplane(process, directory)
    finally:
        process.terminate()
        try:
            process.wait(START_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            reader.join()
            if process.stderr:
                process.stderr.close()
            sys.stderr.writelines(log)
    assert not any(REFUSED in line for line in log)


@contextmanager
def short_directory(within: str | None = None) -> Iterator[Path]:
    """Make a directory whose path leaves room for a socket's name; pytest's are too long."""
    directory = Path(tempfile.mkdtemp(prefix="cnv-", dir=within))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def read_reply(sock: socket.socket) -> dict[str, Any] | None:
    """Give the next reply, or None at the end of the connection."""
    decoder = Decoder(wire.MAX_REPLY_BYTES)
    while True:
        try:
            chunk = sock.recv(decoder.wanted)
        except ConnectionResetError:
            return None
        if not chunk:
            return None
        for body in decoder.feed(chunk):
            return wire.decode(body)


def request(op: str, request_id: int = 1, **args: object) -> bytes:
    return wire.encode({"id": request_id, "op": op, "args": args})


def send_with_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def vhost_port(directory: Path, name: str = "pod:c1/eth0", number: int = 1) -> PortSpec:
    return PortSpec(
        name=name,
        kind="vhost",
        role="container",
        network="pods",
        mac=f"02:00:00:00:01:{number:02x}",
        vhost=VhostSpec(str(directory / f"v{number}.sock")),
    )


TAP = PortSpec("pod:t1/eth0", "tap", "container", "pods", mac="02:00:00:00:00:01")


def open_tap(ifname: str = "cnvt0") -> int:
    """Open a tap in a network namespace that only the tap itself keeps alive."""
    opened: list[int | OSError] = []

    def work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(0x40000000):  # CLONE_NEWNET, of this thread only
                raise OSError(ctypes.get_errno(), "unshare")
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            opened.append(fd)
            tap_with_vnet_header = 0x0002 | 0x1000 | 0x4000
            asked = struct.pack("16sH22x", ifname.encode(), tap_with_vnet_header)
            fcntl.ioctl(fd, 0x400454CA, asked)  # TUNSETIFF
        except OSError as e:
            opened.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(opened[-1], OSError):
        raise opened[-1]
    return opened[-1]


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def dataplane() -> Iterator[Dataplane]:
    """A dataplane for tests that leave it as they found it."""
    with short_directory() as path, running(path) as dataplane:
        yield dataplane
        assert dataplane.process.poll() is None, "the dataplane died during the tests"


@pytest.fixture
def control(dataplane: Dataplane, socket_dir: Path) -> Iterator[DataplaneClient]:
    """A client of the shared dataplane with a network named pods, and no port left behind."""
    control = dataplane.client()
    control.network_add(NetworkSpec("pods"))
    yield control
    for port in control.ports()["ports"]:
        control.port_del(port["spec"]["name"])
    for network in control.networks()["networks"]:
        control.network_del(network["spec"]["name"])
    control.close()
