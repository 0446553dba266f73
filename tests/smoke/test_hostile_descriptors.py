"""Frontends that fill their rings with nonsense: nobody else notices."""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    BUFFER_BYTES,
    DESC_F_INDIRECT,
    DESC_F_NEXT,
    DESC_F_USED,
    DESC_F_WRITE,
    EVENT_IDX,
    INDIRECT,
    MERGEABLE,
    PACKED,
    RINGS_BYTES,
    RX,
    TX,
    Descriptor,
)
from tests.hostile.stage import half_mapped
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hostile.frontend import Frontend
    from tests.hostile.stage import Stage

MIB = 1 << 20


def chain(lengths: Sequence[int], address: int, flags: int) -> list[Descriptor]:
    last = len(lengths) - 1
    return [
        (address, size, flags | (DESC_F_NEXT if i < last else 0), i + 1)
        for i, size in enumerate(lengths)
    ]


def bad_tables(flags: int) -> dict[str, list[Descriptor]]:
    at, over = RINGS_BYTES, MIB - 8
    table = flags & DESC_F_WRITE | DESC_F_INDIRECT
    return {
        "a loop": [(at, 64, flags | DESC_F_NEXT, 0)],
        "a loop of two": [(at, 64, flags | DESC_F_NEXT, 1), (at, 64, flags | DESC_F_NEXT, 0)],
        "next beyond the ring": [(at, 64, flags | DESC_F_NEXT, 256)],
        "no length, all of the ring": chain([0] * 255 + [64], at, flags),
        "no length, in a loop": [(at, 0, flags | DESC_F_NEXT, 0)],
        "over the end": [(over, 2048, flags, 0)],
        "beyond": [(1 << 50, 2048, flags, 0)],
        "wrapping": [((1 << 64) - 8, 2048, flags, 0)],
        "as long as can be": [(0, 0xFFFFFFFF, flags, 0)],
        "longer than a frame": chain([60000] * 200, at, flags),
        "lengths that wrap": chain([0x80000000, 0x80000000, 64], at, flags),
        "an indirect table beyond": [(1 << 50, 160, table, 0)],
        "an indirect table over the end": [(over, 160, table, 0)],
        "an indirect table in itself": [(0, 160, table, 0)],
        "an indirect table as long as can be": [(0, 0xFFFFFFFF, table, 0)],
        "an empty indirect table": [(at, 0, table, 0), (at, 8, table, 0)],
        "only the header": [(at, 12, flags, 0)],
    }


@pytest.mark.parametrize("vring", [RX, TX], ids=["rx", "tx"])
@pytest.mark.parametrize("features", [0, MERGEABLE | INDIRECT], ids=["plain", "mergeable"])
def test_descriptors(victim: Stage, vring: int, features: int) -> None:
    flags = DESC_F_WRITE if vring == RX else 0
    for name, table in bad_tables(flags).items():
        with victim.frontend(features | INDIRECT) as frontend:
            frontend.offer_descriptors(vring, table, [0] * 256)
            victim.flood()
            assert frontend.settle(), name


def test_endless_chains(victim: Stage) -> None:
    """A ring full of chains as long as the ring, without a byte in all, holds up nobody."""
    table, avail, used = MIB, 2 * MIB, 3 * MIB
    size = 32768
    with victim.frontend(MERGEABLE, 4 * MIB) as frontend:
        for vring in (RX, TX):
            frontend.set_size(vring, size)
            frontend.set_addresses(vring, table, avail, used)
            frontend.set_kick(vring, frontend.kicks[vring])
        links = (struct.pack("<QIHH", RINGS_BYTES, 0, DESC_F_NEXT, i + 1) for i in range(size - 1))
        filled = b"".join(links)
        frontend.memory[table : table + len(filled)] = filled
        frontend.memory[avail : avail + 4] = struct.pack("<HH", 0, size)
        assert frontend.settle()
        victim.port.wait_ready()
        victim.flood()
        assert ping(victim.one.netns, victim.two.ip4) == 3


@pytest.mark.parametrize("features", [0, MERGEABLE], ids=["plain", "mergeable"])
@pytest.mark.parametrize("first", [1, 5, 11])
def test_a_header_in_pieces(victim: Stage, first: int, features: int) -> None:
    """Over more buffers than two it would be written behind the second."""
    with victim.stranger() as frontend:
        end = half_mapped(frontend, features)
        for vring in (RX, TX):
            frontend.set_up_vring(vring)
            frontend.enable(vring)
        victim.port.wait_ready()
        flags = DESC_F_WRITE
        table = [
            (RINGS_BYTES, first, flags | DESC_F_NEXT, 1),
            (end - 1, 1, flags | DESC_F_NEXT, 2),
            (RINGS_BYTES, 2048, flags, 0),
        ]
        frontend.offer_descriptors(RX, table, [0] * 256)
        victim.flood()
        assert frontend.settle()
        time.sleep(0.02)
        assert not any(frontend.memory[end:])


@pytest.mark.parametrize("vring", [RX, TX], ids=["rx", "tx"])
def test_indexes_that_jump(victim: Stage, vring: int) -> None:
    with victim.frontend() as frontend:
        for index in (256, 257, 65535, 0, 32768, 1):
            heads = [index % 300] * 256
            table = [(RINGS_BYTES, 2048, DESC_F_WRITE if vring == RX else 0, 0)] * 256
            frontend.offer_descriptors(vring, table, heads, index)
            victim.flood()
        assert frontend.settle()


def test_packed_buffers_too_small_for_a_header(victim: Stage) -> None:
    """Four frames at once go a way of their own into a packed ring."""
    with victim.frontend(PACKED) as frontend:
        for size in (1, 11):
            offer_packed(frontend, size)
            victim.flood()
            assert frontend.settle()
            time.sleep(0.02)
            assert not any(frontend.memory[RINGS_BYTES:])
        offer_packed(frontend, BUFFER_BYTES)
        victim.flood()
        wait_until(lambda: any(frontend.memory[RINGS_BYTES:]), "frames where there is room")


def offer_packed(frontend: Frontend, size: int) -> None:
    """Fill the first round of a packed ring with buffers to write to."""
    flags = DESC_F_WRITE | DESC_F_USED
    buffers = ((RINGS_BYTES + i * BUFFER_BYTES, size, i, flags) for i in range(256))
    filled = b"".join(struct.pack("<QIHH", *buffer) for buffer in buffers)
    frontend.memory[: len(filled)] = filled
    os.eventfd_write(frontend.kicks[RX], 1)


def test_packed_nonsense(victim: Stage) -> None:
    chooser = random.Random(1)
    with victim.frontend(PACKED | INDIRECT | EVENT_IDX | MERGEABLE) as frontend:
        for _ in range(50):
            frontend.memory[:RINGS_BYTES] = chooser.randbytes(RINGS_BYTES)
            for vring in (RX, TX):
                os.eventfd_write(frontend.kicks[vring], 1)
            victim.flood()
        assert frontend.settle()
