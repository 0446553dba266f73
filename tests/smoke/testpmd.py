"""dpdk-testpmd as the user-space application in a container."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from tests.smoke.netns import TRAFFIC_CORE
from tests.smoke.ports import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_numbers = itertools.count()

ORDINARY_PAGES = ("--no-huge", "--no-shconf")
HUGEPAGES = ("--in-memory", "--single-file-segments")
"""One file for all memory: a vhost-user frontend may share no more than eight."""


class Socket(Protocol):
    """A vhost-user port from the application's side."""

    @property
    def path(self) -> Path:
        """Where the application finds it."""

    @property
    def mac(self) -> str:
        """What the application sends from."""

    def wait_ready(self) -> None:
        """Wait until the dataplane has taken note of the application."""


@contextmanager
def running_testpmd(
    port: Socket,
    mode: str,
    *options: str,
    device: str = "",
    eal: Sequence[str] = (),
    memory: Sequence[str] = ORDINARY_PAGES,
    inside: Sequence[str] = (),
    idle: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run testpmd on a port's socket in a forward mode; give it when packets can pass.

    `inside` is the command that runs a command where the application is. With `idle` it runs
    while nothing else on its core would.
    """
    number = next(_numbers)
    words = [
        *inside,
        *(("chrt", "--idle", "0") if idle else ()),
        *("stdbuf", "-oL", "taskset", "-c", TRAFFIC_CORE, "dpdk-testpmd", "--no-pci", "-m", "64"),
        *(*memory, "--lcores", f"0@{TRAFFIC_CORE},1@{TRAFFIC_CORE}"),
        f"--file-prefix=cvs-{os.getpid()}-{number}",
        f"--vdev=net_virtio_user{number},path={port.path},mac={port.mac}{device}",
        *(*eal, "--", f"--forward-mode={mode}", "--no-mlockall", "--no-flush-rx"),
        # Without a period it would end at the end of its standard input.
        *("--total-num-mbufs=4096", "--stats-period=60", *options),
    ]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory(prefix="cvs-") as directory:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RUNTIME_DIRECTORY": directory},
        )
        try:
            wait_until(lambda: _ended(process) or _forwards(log), "testpmd starts to forward")
            assert not _ended(process), "testpmd ended"
            port.wait_ready()
            yield process
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace"))
            raise
        finally:
            process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _forwards(log: IO[bytes]) -> bool:
    """Say whether testpmd has set up its rings: a port is ready a little earlier."""
    return b"packet forwarding - ports=" in os.pread(log.fileno(), 1 << 20, 0)
