"""Cores that others keep busy: a poll-mode worker shares them badly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_SAMPLE_S: Final = 0.1
_BUSY_SHARE: Final = 0.7
_IDLE_FIELDS: Final = (3, 4)  # idle and iowait (proc(5))


def busy_shares(before: str, after: str) -> dict[int, float]:
    """Return the share of time that each core was busy between two readings of /proc/stat."""
    first, second = _times(before), _times(after)
    shares = {}
    for core, ticks in second.items():
        passed = [new - old for new, old in zip(ticks, first.get(core, ticks), strict=True)]
        total = sum(passed)
        if total > 0:
            shares[core] = 1 - sum(passed[field] for field in _IDLE_FIELDS) / total
    return shares


def notes(cores: Sequence[int], sample_s: float = _SAMPLE_S) -> list[str]:
    """Look at cores for a moment and return a line for each that others use."""
    before = _STAT.read_text("ascii")
    time.sleep(sample_s)
    shares = busy_shares(before, _STAT.read_text("ascii"))
    return [
        f"core {core} is {shares[core]:.0%} busy with other work, which costs packets: keep it free"
        " (isolcpus, a cpuset, taskset), or name another in dataplane.cores"
        for core in cores
        if shares.get(core, 0) >= _BUSY_SHARE
    ]


def _times(stat: str) -> dict[int, list[int]]:
    times = {}
    for line in stat.splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdecimal():
            times[int(name[3:])] = [int(each) for each in ticks[:8]]
    return times
