"""Others take the hugepages of a killed dataplane: containers go on without, and return to some."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_virtio.ctl.agent_client import query
from tests.smoke.agent import Node, containers, node_without_agent
from tests.smoke.outages import is_back, link
from tests.smoke.ports import wait_until
from tests.smoke.prerequisites import free_hugepages
from tests.smoke.stream import stream

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
NO_MORE_PAGES = (
    *("unshare", "--mount", "--propagation", "slave", "sh", "-c"),
    f'mount --bind {POOL} {POOL} && mount -o remount,bind,ro {POOL} && exec "$@"',
    "sh",
)
"""Executes the agent where the kernel gives it no more of them than there are."""
PAGES, PAGE_BYTES = 64, 2 << 20
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 0x8000
"""With MAP_HUGETLB and MAP_POPULATE, which Python does not name."""


@pytest.fixture
def here() -> Iterator[Node]:
    with free_hugepages(PAGES), node_without_agent(memory="128Mi") as one:
        one.confinement = NO_MORE_PAGES
        one.start()
        assert uses_hugepages(one)
        yield one


def uses_hugepages(one: Node) -> bool:
    uses: bool = one.status()["dataplane"]["memory"]["huge"]
    return uses


@contextmanager
def killed_and_its_pages_taken(one: Node) -> Iterator[None]:
    """Kill the dataplane, and take its pages before the agent can start another."""
    pid = one.status()["dataplane"]["pid"]
    os.kill(one.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: free_pages() >= PAGES, "its pages are free")
        taken = mmap.mmap(-1, free_pages() * PAGE_BYTES, flags=FLAGS)
    finally:
        os.kill(one.pid, signal.SIGCONT)
    with taken:
        yield


def free_pages() -> int:
    return int(Path(POOL, "free_hugepages").read_text())


def page_notes(one: Node) -> list[str]:
    return [text for text in one.status()["messages"] if "ordinary pages" in text]


def test_containers_go_on_without_hugepages_and_return_to_them(here: Node) -> None:
    with containers(2) as (a, b):
        here.add("a", a)
        address = here.add("b", b).address
        has, ports = [link(space) for space in (a, b)], here.ports()
        assert page_notes(here) == []
        with stream(a, b, address) as numbers:
            with killed_and_its_pages_taken(here):
                wait_until(lambda: is_back(here, ports), "all ports are back")
                (note,) = page_notes(here)
                assert "no hugepages of 2 MiB" in note
                assert note.endswith("cni-virtioctl upgrade goes over to them")
                assert note.split(";")[0] in here.log()
                assert not uses_hugepages(here)
                read = numbers.read
                wait_until(lambda: numbers.read > read, "the connection goes on")
            query(here.socket, "upgrade", timeout_s=60)
            assert uses_hugepages(here)
            assert page_notes(here) == []
        numbers.assert_whole()
        assert [link(space) for space in (a, b)] == has
        assert here.ports() == ports
