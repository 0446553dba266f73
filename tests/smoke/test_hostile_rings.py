"""Frontends that set their rings up as nobody should: nobody else notices."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    EVENT_IDX,
    NEED_REPLY,
    PACKED,
    RINGS_BYTES,
    RX,
    TX,
    Message,
)
from tests.hostile.stage import half_mapped

if TYPE_CHECKING:
    from tests.hostile.stage import Stage


@pytest.mark.parametrize("size", [0, 3, 255, 32769, 65536, 0xFFFFFFFF])
def test_ring_sizes(victim: Stage, size: int) -> None:
    with victim.frontend() as frontend:
        frontend.send(Message.SET_VRING_NUM, struct.pack("<II", TX, size), (), NEED_REPLY)
        frontend.wait_closed()


@pytest.mark.parametrize("features", [0, EVENT_IDX, PACKED], ids=["split", "events", "packed"])
@pytest.mark.parametrize("part", ["table", "avail", "used"])
@pytest.mark.parametrize("left", [0, 1, 3])
def test_rings_over_the_end(victim: Stage, part: str, left: int, features: int) -> None:
    """Nothing is written behind a region, whose last page has room for it to be seen."""
    with victim.stranger() as frontend:
        end = half_mapped(frontend, features)
        for vring in (RX, TX):
            frontend.set_up_vring(vring)
            frontend.set_addresses(vring, **{part: end - left})
            frontend.set_kick(vring, frontend.kicks[vring])
            frontend.enable(vring)
        assert frontend.settle()
        victim.send_to_all()
        assert not any(frontend.memory[end:])
        assert not victim.port.state()["ready"]


def test_a_ring_that_grows(victim: Stage) -> None:
    """Its addresses were right for the size that it had."""
    with victim.frontend() as frontend:
        end = frontend.size_bytes
        for vring in (RX, TX):
            frontend.set_addresses(vring, end - 256 * 16, end - 1024, end - 4096)
            frontend.set_size(vring, 32768)
        assert frontend.settle()
        assert not victim.port.state()["ready"]
        victim.send_to_all()


def test_a_size_too_late(victim: Stage) -> None:
    """A ring stopped and started without a size has nothing to note in what is done."""
    with victim.frontend() as frontend:
        for vring in (RX, TX):
            frontend.send(Message.GET_VRING_BASE, struct.pack("<II", vring, 0))
        for vring in (RX, TX):
            frontend.set_addresses(vring)
            frontend.set_call(vring, frontend.calls[vring])
            frontend.set_kick(vring, frontend.kicks[vring])
        frontend.offer(RX, [(RINGS_BYTES, 2048)] * 256)
        frontend.offer_frame(bytes(60), 10)
        victim.send_to_all()
        assert not victim.port.state()["ready"]


@pytest.mark.parametrize("before", [0, PACKED], ids=["split", "packed"])
def test_another_layout(victim: Stage, before: int) -> None:
    """Rings set up for one layout are not used with the other."""
    with victim.stranger() as frontend:
        end = half_mapped(frontend, before)
        for vring in (RX, TX):
            frontend.set_up_vring(vring)
            frontend.set_addresses(vring, 0, end - 4, end - 4)
            frontend.set_kick(vring, frontend.kicks[vring])
        frontend.set_features(PACKED ^ before | EVENT_IDX)
        for vring in (RX, TX):
            frontend.enable(vring)
        assert frontend.settle()
        victim.send_to_all()
        assert not any(frontend.memory[end:])
        assert not victim.port.state()["ready"]
