"""Whether anything grows: looked at each time that nothing is attached."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cni_virtio.ctl.agent_client import query
from tests.smoke.agent import Node

_COUNT_SLACK: Final = 2
_THREADS_SLACK: Final = 16
"""So many more threads may wait for connections after there have been many at once."""
_RSS_SLACK_KIB: Final = {"agent": 2048, "dataplane": 512}
"""What one process may grow by. Over 4,700 steps without a kill the agent's live Python objects
stayed the same to 0.1 %. Its RSS grew by 0.4 KiB a step, later 0.25 (free space between what the C
allocator has given out), and once by 940 KiB (the interpreter's table of strings, doubled)."""
_WARM_UP_SAMPLES: Final = 6
_SETTLES_S: Final = 5


@dataclass(frozen=True)
class Sample:
    """What is in use when nothing is attached, after so many steps."""

    step: int
    counts: dict[str, int]
    """What must be as it was in the beginning, whoever has been restarted since."""
    rss_kib: dict[tuple[str, int], int]
    """By who it is and its process id."""

    def brief(self) -> str:
        rss = {f"{who} KiB": kib for (who, _), kib in self.rss_kib.items()}
        return ", ".join(f"{what} {n}" for what, n in (self.counts | rss).items())


def settled(node: Node, step: int, before: Sequence[Sample]) -> Sample:
    """Take a sample once what is on its way out has gone: connections, taps that the kernel frees.

    What has not gone after some seconds stays in.
    """
    deadline_s = time.monotonic() + _SETTLES_S
    while True:
        found = sample(node, step)
        if not _grown_counts([*before, found]) or time.monotonic() > deadline_s:
            return found
        time.sleep(0.1)


def sample(node: Node, step: int) -> Sample:
    """Take a sample."""
    status = node.status()
    counts, rss_kib = {}, {}
    for who, pid in (("agent", status["pid"]), ("dataplane", status["dataplane"]["pid"])):
        counts[f"{who} fds"] = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        counts[f"{who} threads"] = len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
        rss_kib[who, pid] = _rss_kib(pid)
    pools = query(node.socket, "workers")["mbufs"].values()
    counts["mbufs"] = sum(pool["in_use"] for pool in pools)
    counts["files"] = sum(1 for path in node.directory.rglob("*") if path.name != "agent.log")
    counts["links"] = len(node.host.run("ip", "-o", "link").splitlines())
    counts["networks"] = len(query(node.socket, "networks")["networks"])
    return Sample(step, counts, rss_kib)


def _rss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def grown(samples: Sequence[Sample]) -> list[str]:
    """Name what grew, with figures."""
    return [*_grown_counts(samples), *_grown_rss(samples)]


def _grown_counts(samples: Sequence[Sample]) -> list[str]:
    """Compare with how it was after the first containers; one connection may just be open."""
    if not samples:
        return []
    first, last = samples[0], samples[-1]
    found = []
    for what, n in first.counts.items():
        slack = _THREADS_SLACK if what == "agent threads" else _COUNT_SLACK
        if last.counts[what] > n + slack:
            text = f"{what}: {n} at step {first.step}, {last.counts[what]} at step {last.step}"
            found.append(text)
    return found


def _grown_rss(samples: Sequence[Sample]) -> list[str]:
    found = []
    for who, slack_kib in _RSS_SLACK_KIB.items():
        slope, steps = rss_slope(samples, who)
        if slope * steps > slack_kib:
            found.append(f"RSS of the {who}: {slope:.2f} KiB more with each of {steps} steps")
    return found


def rss_slope(samples: Sequence[Sample], who: str) -> tuple[float, int]:
    """Give KiB per step, and over how many steps it was seen in the process that lived longest.

    One line is laid through the samples of each process, all with the same slope; those after its
    start do not count.
    """
    lives: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in samples:
        for (name, pid), kib in each.rss_kib.items():
            if name == who:
                lives[pid].append((each.step, kib))
    square = product = 0.0
    steps = 0
    for life in lives.values():
        settled = life[_WARM_UP_SAMPLES:]
        if len(settled) < 2:
            continue
        steps = max(steps, settled[-1][0] - settled[0][0])
        mean_step = sum(step for step, _ in settled) / len(settled)
        mean_kib = sum(kib for _, kib in settled) / len(settled)
        square += sum((step - mean_step) ** 2 for step, _ in settled)
        product += sum((step - mean_step) * (kib - mean_kib) for step, kib in settled)
    return (product / square if square else 0.0), steps
