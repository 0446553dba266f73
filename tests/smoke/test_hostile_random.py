"""Frontends that do anything at all: nobody else notices."""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.hostile.frontend import (
    EVENT_IDX,
    INDIRECT,
    MERGEABLE,
    NEED_REPLY,
    PACKED,
    RINGS_BYTES,
    RX,
    TX,
    Frontend,
    Message,
)

if TYPE_CHECKING:
    from tests.hostile.stage import Stage

MIB = 1 << 20
PAGE = 4096
TOP = (1 << 64) - PAGE
FUZZ_S = 4.0
SEED = "1"


def test_at_random(victim: Stage) -> None:
    """Messages that are each nearly right; in another order by HOSTILE_SEED=random or a number."""
    chosen = os.environ.get("HOSTILE_SEED", SEED)
    seed = time.time_ns() if chosen == "random" else int(chosen)
    print(f"HOSTILE_SEED={seed}")  # shown on failure
    chooser = random.Random(seed)
    until_s = time.monotonic() + FUZZ_S
    while time.monotonic() < until_s:
        with suppress(ConnectionError), victim.stranger() as frontend:
            if chooser.random() < 0.8:
                frontend.begin(chooser.choice([0, PACKED, EVENT_IDX, INDIRECT | MERGEABLE]))
            for _ in range(chooser.randrange(200)):
                random_step(frontend, chooser)
            frontend.settle()


def random_step(frontend: Frontend, chooser: random.Random) -> None:
    vring = chooser.choice([RX, TX])
    number = chooser.choice([0, 1, 2, 256, 300, 32768, 65535, PAGE, MIB - 4, MIB, TOP])
    fds = [frontend.memfd, frontend.kicks[vring], frontend.calls[vring]]
    request = chooser.choice(list(Message))
    payload = struct.pack("<IIQQQQ", vring, number & 0xFFFFFFFF, number, number, number, 0)
    steps = (
        lambda: frontend.set_size(vring, number & 0xFFFF),
        lambda: frontend.set_size(vring, 1 << chooser.randrange(16)),
        lambda: frontend.set_addresses(
            vring, **{chooser.choice(["table", "avail", "used"]): number}
        ),
        lambda: frontend.set_up_vring(vring),
        lambda: frontend.set_kick(vring, chooser.choice(fds)),
        lambda: frontend.set_call(vring, chooser.choice(fds)),
        lambda: frontend.enable(vring, on=chooser.random() < 0.7),
        lambda: frontend.set_features(chooser.choice([0, PACKED, EVENT_IDX, MERGEABLE])),
        lambda: frontend.share([(0, max(number % MIB, PAGE), 0, 0)], [frontend.memfd]),
        frontend.share_memory,
        lambda: frontend.send(Message.GET_VRING_BASE, struct.pack("<II", vring, 0)),
        lambda: scribble(frontend, chooser),
        lambda: frontend.send(
            request, payload[: chooser.choice([0, 8, 40])], fds[: chooser.randrange(2)], NEED_REPLY
        ),
    )
    weights = [*itertools.repeat(4, len(steps) - 1), 1]
    chooser.choices(steps, weights)[0]()


def scribble(frontend: Frontend, chooser: random.Random) -> None:
    at = chooser.randrange(0, RINGS_BYTES // 2, 16)
    frontend.memory[at : at + 64] = chooser.randbytes(64)
    for kick in frontend.kicks:
        os.eventfd_write(kick, 1)
