"""Frontends that take memory away so that it costs the dataplane, or others, as much as it can."""

from __future__ import annotations

import os
import struct
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    DESC_F_INDIRECT,
    DESC_F_NEXT,
    INDIRECT,
    RINGS_BYTES,
    RX,
    TX,
    Frontend,
)
from tests.hostile.stage import assert_served_again, connected, reconnected
from tests.smoke.frames import EXPERIMENTAL, ethernet
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.ports import Application
    from tests.smoke.topology import Lab

PAGE = 4096
REGION = 1 << 32
FRAMES, PIECES = 32, 256
STRIDE_BYTES = 2 * PAGE
REGION_BYTES = FRAMES * PIECES * STRIDE_BYTES
HOSTILE = 5
NET_HEADER_BYTES = 12


def test_what_is_lost_costs_one_mapping(lab: Lab) -> None:
    """Not one for every page: a process has 65,530."""
    network = lab.network()
    one, two = lab.container(network, 1), lab.container(network, 2)
    before = mappings(lab)
    with ExitStack() as stack:
        ports = [lab.application(network, 3 + number) for number in range(HOSTILE)]
        for port in ports:
            stack.enter_context(many_pages_lost(port))
            wait_until(partial(has_lost_memory, port), "the loss is told")
        assert mappings(lab) <= before + 4 * HOSTILE
        assert ping(one.netns, two.ip4) == 3
    assert_served_again(ports[0])


def test_not_served_again_on_the_same_connection(lab: Lab) -> None:
    port = lab.application(lab.network(), 3)
    with connected(port) as frontend:
        os.ftruncate(frontend.memfd, 0)
        os.eventfd_write(frontend.kicks[TX], 1)
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        os.ftruncate(frontend.memfd, frontend.size_bytes)
        for vring in (RX, TX):
            frontend.stop_vring(vring)
        frontend.share_memory()
        for vring in (RX, TX):
            frontend.set_up_vring(vring)
            frontend.enable(vring)
        assert frontend.settle()
        state = port.state()
        assert state["memory_lost"]
        assert not state["ready"]
    assert_served_again(port)


@pytest.mark.parametrize("is_mapped", [False, True], ids=["addresses", "notification"])
def test_lost_before_it_is_served(lab: Lab, is_mapped: bool) -> None:
    """The thread of all sockets is the first that meets it."""
    port = lab.application(lab.network(), 3)
    with Frontend(port.path) as frontend:
        frontend.introduce()
        frontend.share_memory()
        if is_mapped:
            for vring in (RX, TX):
                frontend.set_up_vring(vring)
        assert frontend.settle()
        os.ftruncate(frontend.memfd, 0)
        for vring in (RX, TX):
            if not is_mapped:
                frontend.set_up_vring(vring)
            frontend.enable(vring)
        assert frontend.settle()
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        assert not port.state()["ready"]
    assert_served_again(port)


def test_nobody_else_is_blamed(lab: Lab) -> None:
    """A queue that sleeps is woken, for which the ring is written to: its memory is gone."""
    network = lab.network()
    sink = lab.container(network, 1)
    other, hostile = lab.application(network, 3), lab.application(network, 4)
    frame = ethernet(sink.mac, other.mac, EXPERIMENTAL, bytes(100))
    with connected(other) as busy, kept_busy(busy, frame):
        for _ in range(HOSTILE):
            with reconnected(hostile) as frontend:
                time.sleep(0.15)  # until its queue is watched
                os.ftruncate(frontend.memfd, 0)
                os.eventfd_write(frontend.kicks[TX], 1)
                wait_until(
                    lambda: other.state()["memory_lost"] or hostile.state()["memory_lost"],
                    "the loss is told",
                )
            assert not other.state()["memory_lost"]
            assert other.state()["ready"]


def has_lost_memory(port: Application) -> bool:
    return bool(port.state()["memory_lost"])


def mappings(lab: Lab) -> int:
    """How many the dataplane has, if it is alive."""
    return len(Path(f"/proc/{lab.dataplane.process.pid}/maps").read_text().splitlines())


@contextmanager
def many_pages_lost(port: Application) -> Iterator[Frontend]:
    """One burst in so many pieces that each is in a page of its own, of memory that is gone."""
    with Frontend(port.path) as frontend, ExitStack() as stack:
        region = os.memfd_create("frontend")
        stack.callback(os.close, region)
        os.ftruncate(region, REGION_BYTES)
        frontend.introduce(INDIRECT)
        regions = [(0, frontend.size_bytes, 0, 0), (REGION, REGION_BYTES, REGION, 0)]
        frontend.share(regions, [frontend.memfd, region])
        for vring in (RX, TX):
            frontend.set_up_vring(vring)
        for vring in (RX, TX):
            frontend.enable(vring)
        port.wait_ready()
        os.ftruncate(region, 0)
        tables = b"".join(indirect_table(frame) for frame in range(FRAMES))
        frontend.memory[RINGS_BYTES : RINGS_BYTES + len(tables)] = tables
        chains = [(RINGS_BYTES + PAGE * i, PAGE, DESC_F_INDIRECT, 0) for i in range(FRAMES)]
        frontend.offer_descriptors(TX, chains, range(FRAMES))
        yield frontend


def indirect_table(frame: int) -> bytes:
    first = REGION + frame * PIECES * STRIDE_BYTES
    return b"".join(
        struct.pack("<QIHH", first + i * STRIDE_BYTES, 16, DESC_F_NEXT, i + 1)
        for i in range(PIECES - 1)
    ) + struct.pack("<QIHH", first + (PIECES - 1) * STRIDE_BYTES, 16, 0, 0)


@contextmanager
def kept_busy(frontend: Frontend, frame: bytes) -> Iterator[None]:
    """Send without an end, from a process of its own."""
    content = bytes(NET_HEADER_BYTES) + frame
    frontend.memory[RINGS_BYTES : RINGS_BYTES + len(content)] = content
    frontend.offer(TX, [(RINGS_BYTES, len(content))] * 256)
    child = os.fork()
    if child == 0:
        send_for_ever(frontend)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def send_for_ever(frontend: Frontend) -> None:
    """Until the parent ends, too."""
    parent = os.getppid()
    index = 256
    while os.getppid() == parent:
        index = (index + 1) & 0xFFFF
        frontend.offer_next(TX, index)
        while (index - frontend.used(TX)) & 0xFFFF > 200 and os.getppid() == parent:
            pass
    os._exit(0)
