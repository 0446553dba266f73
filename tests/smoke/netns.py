"""Network namespaces for tests: made, entered, and removed with all that runs in them."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.unit.dataplane_process import CORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

TRAFFIC_CORE = str(CORES[0])
"""Everything but the workers runs here, so that a worker has its core to itself."""

_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 64 << 20
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Netns:
    name: str

    @property
    def path(self) -> Path:
        return Path("/run/netns", self.name)

    def command(self, *words: str) -> list[str]:
        return ["taskset", "-c", TRAFFIC_CORE, "ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, check: bool = True, timeout_s: float = 30) -> str:
        """Run a command inside and give its standard output."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command inside, in the background, until the end of the block."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def ip(self, *lines: str) -> None:
        """Carry out lines of `ip -batch` inside."""
        subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines), text=True, check=True
        )

    def inside(self, work: Callable[[], T]) -> T:
        """Give what `work` returns when a thread inside calls it."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                if _libc.setns(fd, 0x40000000):  # CLONE_NEWNET, of this thread only
                    raise OSError(ctypes.get_errno(), f"setns {self.name}")
                os.close(fd)
                results.append(work())
            except BaseException as e:
                errors.append(e)

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def packet_socket(self, ifname: str = "eth0") -> socket.socket:
        """Open a raw socket that sends, and that receives whatever arrives from now on."""
        return self.inside(lambda: open_packet_socket(ifname))


def open_packet_socket(ifname: str) -> socket.socket:
    """Open a raw socket where this thread is; see Netns.packet_socket."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((ifname, _ETH_P_ALL))
    return sock


@contextmanager
def netns() -> Iterator[Netns]:
    """Make a namespace; at the end kill what runs in it and remove it."""
    space = Netns(f"cvs-{os.getpid()}-{next(_numbers)}")
    subprocess.run(["ip", "netns", "add", space.name], check=True)
    try:
        space.ip("link set lo up")
        yield space
    finally:
        listed = subprocess.run(
            ["ip", "netns", "pids", space.name], capture_output=True, text=True, check=False
        )
        for pid in listed.stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", space.name], check=True)
