"""How far apart the two cores are: a hypervisor moves them, which slows packets down by half.

Virtual cores whose real ones share a cache hand a line over several times faster than others do.
They stay where they are for seconds, whoever runs on them; so runs are compared only while they
are near each other.
"""

from __future__ import annotations

import functools
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.bench.cores import FORWARDER_CORE, LOAD_CORE

_SOURCE: Final = Path(__file__).with_suffix(".c")
_PROGRAM: Final = Path("build/bench/core_distance")
_FAR: Final = 1.7
"""Times the least distance seen."""
_POLL_S: Final = 0.1

_least_ns = float("inf")


def core_distance_ns() -> float:
    """Measure a cache line's round trip between the cores, also while the forwarder polls."""
    global _least_ns  # noqa: PLW0603
    words = [_program(), str(LOAD_CORE), str(FORWARDER_CORE)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    distance_ns = float(done.stdout)
    _least_ns = min(_least_ns, distance_ns)
    return distance_ns


def are_near(distance_ns: float) -> bool:
    """Tell whether the cores were, at this distance, as near as they have been seen."""
    return distance_ns < _FAR * _least_ns


def wait_until_near(deadline_s: float) -> float:
    """Wait for the cores to be near, or until a time.monotonic(); gives their distance."""
    while not are_near(distance_ns := core_distance_ns()) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return distance_ns


@functools.cache
def _program() -> str:
    _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    words = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run([*words, "-o", str(_PROGRAM), str(_SOURCE)], check=True)
    return str(_PROGRAM)
