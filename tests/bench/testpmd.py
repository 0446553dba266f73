"""testpmd, as the load and as the forwarder to compare with: started, commanded and read."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from tests.bench.cores import LOAD_CORE

_PROMPT: Final = b"testpmd> "
_TIMEOUT_S: Final = 30
_RECEIVED: Final = re.compile(r"RX-packets: (\d+)")
_BUSY: Final = re.compile(r"CPU cycles/packet=([\d.]+)")
_numbers = itertools.count()


class TestpmdError(Exception):
    """It ended, or did not answer; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Testpmd:
    """A testpmd that waits for commands."""

    process: subprocess.Popen[bytes]

    def command(self, line: str) -> str:
        """Carry out a command and give what it printed."""
        self._input.write(line.encode() + b"\n")
        self._input.flush()
        return self.read_prompt()

    def read_prompt(self) -> str:
        """Read until it waits for the next command."""
        printed = bytearray()
        assert self.process.stdout
        fd = self.process.stdout.fileno()
        while not printed.endswith(_PROMPT):
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                raise TestpmdError(printed.decode(errors="replace"))
            printed += chunk
        return printed.decode(errors="replace")

    def received(self) -> int:
        """Return how many packets its ports have received in all."""
        return sum(map(int, _RECEIVED.findall(self.command("show port stats all"))))

    def received_per_s(self, seconds: float) -> float:
        """Measure its rate of reception."""
        began_s, before = time.perf_counter(), self.received()
        time.sleep(seconds)
        after, ended_s = self.received(), time.perf_counter()
        return (after - before) / (ended_s - began_s)

    def clear_cycles(self) -> None:
        """Begin to count cycles anew."""
        self.command("clear fwd stats all")

    def cycles_per_packet(self) -> float:
        """Return busy cycles per received packet since `clear_cycles`."""
        printed = self.command("show fwd stats all")
        match = _BUSY.search(printed)
        if match is None:
            raise TestpmdError(printed)
        return float(match[1])

    @property
    def _input(self) -> IO[bytes]:
        assert self.process.stdin
        return self.process.stdin


@contextmanager
def testpmd(
    core: int,
    devices: Sequence[str],
    *options: str,
    memory_mb: int = 256,  # noqa: PT028
    netns: str | None = None,  # noqa: PT028
) -> Iterator[Testpmd]:
    """Run testpmd with its forwarding on a core; `devices` are what --vdev takes."""
    number = next(_numbers)
    words = [
        *(
            "stdbuf",
            "-oL",
            "dpdk-testpmd",
            "--no-pci",
            "--in-memory",
            "--single-file-segments",
            "--no-telemetry",
        ),
        *("-m", str(memory_mb), "--lcores", f"0@{LOAD_CORE},1@{core}"),
        *(f"--file-prefix=cvb-{os.getpid()}-{number}", *(f"--vdev={each}" for each in devices)),
        *("--", "-i", "--no-mlockall", *options),
    ]
    if netns is not None:
        words = ["ip", "netns", "exec", netns, *words]
    with tempfile.TemporaryDirectory(prefix="cvb-") as directory:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RUNTIME_DIRECTORY": directory},
        )
        try:
            started = Testpmd(process)
            started.read_prompt()
            yield started
        finally:
            process.kill()
            process.communicate()
