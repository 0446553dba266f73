"""The last containers of a network go while others come: these have their gateway."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.smoke.agent import Node, containers
from tests.smoke.netns import Netns

ROUNDS, AT_ONCE = 60, 4


def test_last_and_first_at_the_same_time(here: Node) -> None:
    def come_and_go(number: int, space: Netns) -> None:
        for _ in range(ROUNDS):
            here.add(f"c{number}", space, isGateway=True)
            here.delete(f"c{number}", space, isGateway=True)

    with containers(AT_ONCE) as spaces, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(come_and_go, range(AT_ONCE), spaces))
