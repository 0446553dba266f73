"""Frontends whose memory is not what they say: nobody else notices."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    NEED_REPLY,
    RINGS_BYTES,
    RX,
    Region,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.stage import Stage

MIB = 1 << 20
PAGE = 4096
TOP = (1 << 64) - PAGE


REFUSED: dict[str, Region] = {
    "no bytes": (0, 0, 0, 0),
    "over the end of the file": (0, MIB + 1, 0, 0),
    "from beyond the end of the file": (0, PAGE, 0, MIB),
    "an offset that wraps": (0, 2 * PAGE, 0, TOP),
    "a size that wraps": (0, (1 << 64) - 1, 0, 1),
    "all addresses": (0, (1 << 64) - 1, 0, 0),
}
TAKEN: dict[str, list[Region]] = {
    "none": [],
    "overlapping": [(0, MIB, 0, 0), (PAGE, MIB // 2, PAGE, MIB // 2)],
    "unaligned": [(1, MIB - 3, 1, 3)],
    "guest addresses that wrap": [(TOP, 2 * PAGE, 0, 0)],
    "own addresses that wrap": [(0, 2 * PAGE, TOP, 0)],
}


@pytest.mark.parametrize("flags", [0, NEED_REPLY], ids=["", "reply"])
@pytest.mark.parametrize("region", REFUSED.values(), ids=REFUSED)
def test_refused_memory(victim: Stage, region: Region, flags: int) -> None:
    """Also of a frontend that is being served, whose memory before is gone by then."""
    good = (0, PAGE, 0, 0)
    for regions in ([region], [good, region]):
        with victim.frontend() as frontend:
            frontend.offer(RX, [(RINGS_BYTES, 2048)] * 256)
            frontend.share(regions, [frontend.memfd] * len(regions), flags)
            frontend.wait_closed()


@pytest.mark.parametrize("regions", TAKEN.values(), ids=TAKEN)
def test_odd_memory(victim: Stage, regions: list[Region]) -> None:
    with victim.frontend() as frontend:
        frontend.offer(RX, [(RINGS_BYTES, 2048)] * 256)
        frontend.share(regions, [frontend.memfd] * len(regions))
        victim.send_to_all()
        frontend.settle()


def test_more_memory_than_the_machine_has(victim: Stage) -> None:
    """All of it is there, as far as the file tells: it has holes."""
    half = machine_bytes() // 2 // MIB * MIB
    for regions in ([(0, 3 * half, 0, 0)], [(i * half, half, i * half, 0) for i in range(3)]):
        with victim.frontend() as frontend:
            os.ftruncate(frontend.memfd, 3 * half)
            frontend.share(regions, [frontend.memfd] * len(regions))
            frontend.wait_closed()


def test_memory_with_holes(victim: Stage) -> None:
    """Much of it, as a VM has whose memory is not allocated in advance."""
    half = machine_bytes() // 2 // MIB * MIB
    with victim.frontend() as frontend:
        os.ftruncate(frontend.memfd, half)
        frontend.share([(0, half, 0, 0)], [frontend.memfd])
        assert frontend.settle()


def machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_too_many_regions(victim: Stage) -> None:
    with victim.frontend() as frontend:
        frontend.share([(i * PAGE, PAGE, 0, 0) for i in range(9)], [frontend.memfd] * 9)
        frontend.wait_closed()


@pytest.mark.parametrize("kind", ["disk", "null", "zero", "pipe", "socket", "eventfd", "folder"])
def test_no_memory(victim: Stage, kind: str, tmp_path: Path) -> None:
    with victim.frontend() as frontend, ExitStack() as stack:
        fd = open_as(stack, kind, tmp_path)
        frontend.share([(0, PAGE, 0, 0)], [fd])
        frontend.wait_closed()


def open_as(stack: ExitStack, kind: str, tmp_path: Path) -> int:
    if kind == "disk":
        path = tmp_path / "memory"
        path.write_bytes(bytes(MIB))
        fd = os.open(path, os.O_RDWR)
    elif kind in ("null", "zero"):
        fd = os.open(f"/dev/{kind}", os.O_RDWR)
    elif kind == "socket":
        fd = socket.socket(socket.AF_UNIX).detach()
    elif kind == "eventfd":
        fd = os.eventfd(0)
    elif kind == "folder":
        fd = os.open(tmp_path, os.O_RDONLY)
    else:
        fd, other = os.pipe()
        stack.callback(os.close, other)
    stack.callback(os.close, fd)
    return fd


def test_memory_again_and_again(victim: Stage) -> None:
    with victim.frontend() as frontend:
        for i in range(1000):
            frontend.share([(0, MIB - PAGE * (i % 2), 0, 0)], [frontend.memfd])
        assert frontend.settle()
        victim.port.wait_ready()
