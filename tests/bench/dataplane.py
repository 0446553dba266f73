"""Our dataplane as one of the forwarders: on hugepages, its worker on the forwarder's core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.smoke.netns import netns
from tests.smoke.topology import Lab
from tests.unit.dataplane_process import ROOT, Dataplane, short_directory

_LOG: Final = ROOT / "build/bench/dataplane.log"


@dataclass(frozen=True, slots=True)
class Cycles:
    """A worker's counters at one moment."""

    stats: dict[str, Any]

    def since(self, before: Cycles, name: str) -> int:
        """Return by how much a counter has risen."""
        return int(self.stats[name] - before.stats[name])

    def busy_per_packet(self, before: Cycles) -> float:
        """Return busy cycles per packet."""
        return self.since(before, "busy_cycles") / max(1, self.since(before, "packets"))


def cycles(lab: Lab) -> Cycles:
    """Read the one worker's counters."""
    return Cycles(lab.control.workers()["workers"][0])


@contextmanager
def bench_lab(idle: str = "adaptive", memory: str = "512Mi") -> Iterator[Lab]:
    """Start a dataplane in a netns of its own, and give a lab to build ports in."""
    with ExitStack() as stack:
        host = stack.enter_context(netns())
        directory = stack.enter_context(short_directory())
        process = host.inside(lambda: start(directory, idle, memory))
        stack.callback(stop, process)
        yield Lab(Dataplane(process, directory), host, stack)


def start(directory: Path, idle: str, memory: str) -> subprocess.Popen[str]:
    """Execute a dataplane whose socket is in a directory, and return once it is ready."""
    words = [
        *(sys.executable, "-m", "dataplane", "--socket", str(directory / "dataplane.sock")),
        *("--main-core", str(LOAD_CORE), "--cores", str(FORWARDER_CORE)),
        *("--memory", memory, "--idle", idle, "--log-level", "warning"),
    ]
    read_fd, write_fd = os.pipe()
    _LOG.parent.mkdir(parents=True, exist_ok=True)
    with _LOG.open("a") as log:
        process = subprocess.Popen(
            [*words, "--ready-fd", str(write_fd)],
            cwd=ROOT,
            pass_fds=[write_fd],
            stderr=log,
            text=True,
        )
    os.close(write_fd)
    with os.fdopen(read_fd) as ready:
        said = ready.readline()
    if said != "ready\n":
        process.kill()
        process.wait()
        raise RuntimeError(f"the dataplane does not start: {said or f'it ended, see {_LOG}'}")
    return process


def stop(process: subprocess.Popen[str]) -> None:
    """End a dataplane."""
    process.terminate()
    process.wait(30)
