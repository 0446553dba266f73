"""A frontend that takes away memory which it has shared: nobody else notices."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import BUFFER_BYTES, RINGS_BYTES, RX, TX, Frontend
from tests.smoke.frames import ethernet
from tests.smoke.ports import Application, Container, wait_until
from tests.smoke.prerequisites import free_hugepages
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

BROADCAST = "ff:ff:ff:ff:ff:ff"
BUFFERS = [(RINGS_BYTES + BUFFER_BYTES * i, BUFFER_BYTES) for i in range(256)]


@contextmanager
def connected(
    port: Application, memfd_flags: int = 0, size_bytes: int = 1 << 20
) -> Iterator[Frontend]:
    frontend = Frontend(port.path, size_bytes, memfd_flags)
    try:
        frontend.begin()
        port.wait_ready()
        yield frontend
    finally:
        frontend.close()


@contextmanager
def reconnected(port: Application) -> Iterator[Frontend]:
    """Connect again, as soon as the backend has noticed the end of the connection before."""
    deadline_s = time.monotonic() + 5
    with ExitStack() as stack:
        while True:
            try:
                frontend = stack.enter_context(connected(port))
                break
            except ConnectionError:
                assert time.monotonic() < deadline_s
        yield frontend


def frame_of(port: Application) -> bytes:
    return ethernet(BROADCAST, port.mac, 0x88B5, bytes(100))


def assert_served_again(port: Application) -> None:
    """A frontend that behaves finds the port as if nothing had been."""
    with reconnected(port) as frontend:
        before = port.counters()["rx_packets"]
        frontend.offer_frame(frame_of(port), 10)
        wait_until(lambda: port.counters()["rx_packets"] == before + 10, "its frames arrive")
        assert not port.state()["memory_lost"]


@pytest.fixture
def others(lab: Lab) -> tuple[Container, Container, Application]:
    network = lab.network()
    return lab.container(network, 1), lab.container(network, 2), lab.application(network, 3)


@pytest.mark.parametrize("left_bytes", [RINGS_BYTES, 0], ids=["buffers", "rings"])
@pytest.mark.parametrize("vring", [RX, TX], ids=["rx", "tx"])
def test_the_dataplane_lives(
    others: tuple[Container, Container, Application], vring: int, left_bytes: int
) -> None:
    one, two, port = others
    with connected(port) as frontend:
        if vring == RX:
            frontend.offer(RX, BUFFERS)
        os.ftruncate(frontend.memfd, left_bytes)
        if vring == TX and left_bytes:
            frontend.offer(TX, BUFFERS)
        os.eventfd_write(frontend.kicks[vring], 1)
        one.netns.run("ping", "-b", "-c", "3", "-i", "0.1", "-W", "1", "10.9.0.255", check=False)
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        assert not port.state()["ready"]
        assert ping(one.netns, two.ip4) == 3
    assert_served_again(port)


def test_huge_pages(others: tuple[Container, Container, Application]) -> None:
    one, two, port = others
    with free_hugepages(2), connected(port, os.MFD_HUGETLB, 4 << 20) as frontend:
        frontend.offer(RX, [((2 << 20) + BUFFER_BYTES * i, BUFFER_BYTES) for i in range(256)])
        os.ftruncate(frontend.memfd, 2 << 20)
        one.netns.run("ping", "-b", "-c", "3", "-i", "0.1", "-W", "1", "10.9.0.255", check=False)
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        assert ping(one.netns, two.ip4) == 3
    assert_served_again(port)
