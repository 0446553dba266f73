"""A frontend that takes away memory which it has shared: nobody else notices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import BUFFER_BYTES, RINGS_BYTES, RX, TX
from tests.hostile.stage import assert_served_again, connected, ping_broadcast
from tests.smoke.ports import Application, Container, wait_until
from tests.smoke.prerequisites import free_hugepages
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

BUFFERS = [(RINGS_BYTES + BUFFER_BYTES * i, BUFFER_BYTES) for i in range(256)]


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
        ping_broadcast(one)
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        assert not port.state()["ready"]
        assert ping(one.netns, two.ip4) == 3
    assert_served_again(port)


def test_huge_pages(others: tuple[Container, Container, Application]) -> None:
    one, two, port = others
    with free_hugepages(2), connected(port, os.MFD_HUGETLB, 4 << 20) as frontend:
        frontend.offer(RX, [((2 << 20) + BUFFER_BYTES * i, BUFFER_BYTES) for i in range(256)])
        os.ftruncate(frontend.memfd, 2 << 20)
        ping_broadcast(one)
        wait_until(lambda: port.state()["memory_lost"], "the loss is told")
        assert ping(one.netns, two.ip4) == 3
    assert_served_again(port)
