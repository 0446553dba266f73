"""A thousand attachments come and go: afterwards everything is as it was."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni_virtio.ctl.agent_client import query
from tests.smoke.agent import Node, containers, node
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until

ROUNDS, AT_ONCE, WARM_UP = 125, 8, 5
KINDS: dict[str, dict[str, Any]] = {
    "kernel": {"isGateway": True},
    "vhost-user": {"interface": "vhost-user", "name": "apps"},
}
RSS_SLACK_KIB = 2048
ARENA_BYTES = 64 << 20
"""What glibc reserves for each arena but the first, at a multiple of it (HEAP_MAX_SIZE)."""


@pytest.fixture
def here() -> Iterator[Node]:
    with node() as one:
        yield one


def come_and_go(here: Node, spaces: list[Netns], number: int) -> None:
    """Attach and detach one container per namespace, all at the same time."""
    keys = list(KINDS.values())

    def one(index: int) -> None:
        name, kind = f"c{number}-{index}", keys[(number + index) % len(keys)]
        here.add(name, spaces[index], **kind)
        here.delete(name, spaces[index], **kind)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(AT_ONCE)))


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def more_arenas(pid: int) -> int:
    """Count the arenas of the C allocator beyond the first: a used part, the rest reserved."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    ends = [[int(each, 16) for each in line.split()[0].split("-")] for line in lines]
    return sum(
        begin % ARENA_BYTES == 0 and begin + ARENA_BYTES == end and "---p" in rest
        for ((begin, _), (_, end)), rest in zip(itertools.pairwise(ends), lines[1:], strict=True)
    )


def sizes(here: Node) -> dict[str, int]:
    """What must not grow: descriptors, threads, files, interfaces, packet buffers in use."""
    status = here.status()
    found = {}
    for who, pid in (("agent", status["pid"]), ("dataplane", status["dataplane"]["pid"])):
        found[f"{who} fds"] = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        found[f"{who} threads"] = len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    pools = query(here.socket, "workers")["mbufs"].values()
    found["packet buffers"] = sum(pool["in_use"] for pool in pools)
    found["files"] = sum(1 for path in here.directory.rglob("*") if path.name != "agent.log")
    found["interfaces"] = len(here.host.run("ip", "-o", "link").splitlines())
    return found


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What grew, from what to what; a connection may be on its way out at the time of the look."""
    return {what: (n, after[what]) for what, n in before.items() if after[what] > n + 2}


@pytest.mark.timeout(300)
def test_a_thousand_cycles_leave_nothing(here: Node) -> None:
    with containers(AT_ONCE) as spaces:
        for number in range(WARM_UP):
            come_and_go(here, spaces, number)
        status = here.status()
        pids = (status["pid"], status["dataplane"]["pid"])
        before, memory = sizes(here), [rss_kib(pid) for pid in pids]
        for number in range(WARM_UP, WARM_UP + ROUNDS):
            come_and_go(here, spaces, number)
        # The kernel takes a while to free the last taps, for which a thread each waits.
        wait_until(lambda: not grown(before, sizes(here)), "all that was in use to be free", 5)
        assert [rss_kib(pid) for pid in pids] <= [kib + RSS_SLACK_KIB for kib in memory]
        assert more_arenas(status["pid"]) == 0
        assert here.ports() == set()
        assert here.left_over() == {}
