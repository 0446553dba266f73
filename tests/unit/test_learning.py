"""Learned addresses: they age, move, and are bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import answers, build

if TYPE_CHECKING:
    from pathlib import Path

AGE_S = 300
MOST = 1024 * 4
ONE, OTHER = 0x020000000001, 0x020000000002

pytestmark = needs_engine


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tables"), "learning", "fdb.c")


def lists(program: Path, *steps: str) -> list[list[tuple[int, int, int]]]:
    """Give each list as MAC, port and age."""
    found: list[list[tuple[int, int, int]]] = [[]]
    for line in answers(program, [], steps):
        if line == "end":
            found.append([])
        else:
            mac, port, age_s = line.split()
            found[-1].append((int(mac, 16), int(port), int(age_s)))
    return found[:-1]


def test_learned_address_ages(program: Path) -> None:
    learn = f"learn {ONE:x} 7 1000"
    found = lists(program, learn, "list 1000", f"list {1000 + AGE_S}", f"list {1001 + AGE_S}")
    assert found == [[(ONE, 7, 0)], [(ONE, 7, AGE_S)], []]


def test_what_is_seen_again_is_young_again_and_where_it_was_seen_last(program: Path) -> None:
    steps = [f"learn {ONE:x} 7 1000", f"learn {OTHER:x} 7 1000", f"learn {ONE:x} 8 1200"]
    later = 1001 + AGE_S
    assert lists(program, *steps, f"list {later}") == [[(ONE, 8, later - 1200)]]


def test_a_flood_is_bounded_and_the_newest_are_kept(program: Path) -> None:
    flood = [f"learn {ONE + i:x} 7 {1000 + i // 1000}" for i in range(20 * MOST)]
    (found,) = lists(program, *flood, "list 1100")
    assert len(found) == MOST
    assert min(ONE + i for i in range(18 * MOST, 20 * MOST)) <= min(mac for mac, _, _ in found)
