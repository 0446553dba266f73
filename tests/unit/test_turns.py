"""A worker's turns: who is served when, and for how long, by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import answers, build

if TYPE_CHECKING:
    from pathlib import Path

MS = 100
TURN_NS = 5_000
RING_NS, TAP_NS, SEGMENTS_NS = 50, 2_500, 300_000
"""What a packet costs: into shared memory, into a tap, and as 2,000 segments made in software."""
LOOK_NS = 200
ALWAYS, NEVER = 0, 10**12

pytestmark = needs_engine


@dataclass(frozen=True)
class Served:
    """What became of a queue."""

    packets: int
    spent_ns: int
    waited_ns: int


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tables"), "turns", "turn.c")


def run(program: Path, *queues: tuple[int, int], look_ns: int = LOOK_NS) -> list[Served]:
    """Run queues, each of a packet's cost and the time between two, and say how they fared."""
    lines = [*(f"queue {cost} {every} {look_ns}" for cost, every in queues), f"run {MS}"]
    return [Served(*map(int, line.split())) for line in answers(program, [], lines)]


@pytest.mark.parametrize("cost_ns", [RING_NS, TAP_NS, SEGMENTS_NS])
def test_a_queue_alone_has_all_the_time(program: Path, cost_ns: int) -> None:
    (alone,) = run(program, (cost_ns, ALWAYS))
    assert alone.spent_ns > 0.9 * MS * 1e6


@pytest.mark.parametrize("bulk_ns", [RING_NS, TAP_NS, 20_000])
def test_who_sends_seldom_waits_for_one_turn_at_most(program: Path, bulk_ns: int) -> None:
    many = [(bulk_ns, ALWAYS)] * 3
    *bulk, seldom = run(program, *many, (TAP_NS, 77_777))
    assert seldom.packets == pytest.approx((MS - 1) * 1e6 / 77_777, abs=2)
    longest_ns = len(bulk) * RING_NS * 32 if bulk_ns == RING_NS else max(TURN_NS, 2 * bulk_ns)
    assert seldom.waited_ns <= longest_ns + 2_000


def test_the_busy_share_the_time_not_the_packets(program: Path) -> None:
    cheap, dear = run(program, (TAP_NS, ALWAYS), (2 * TAP_NS, ALWAYS))
    assert dear.spent_ns == pytest.approx(cheap.spent_ns, rel=0.1)


def test_nobody_has_more_than_a_burst_before_the_others(program: Path) -> None:
    ring, tap = run(program, (RING_NS, ALWAYS), (TAP_NS, ALWAYS))
    assert ring.spent_ns < tap.spent_ns / 10
    assert ring.packets == pytest.approx(32 / 24 * tap.packets, rel=0.1)


def test_what_was_taken_too_much_is_given_back(program: Path) -> None:
    absurd, usual = run(program, (SEGMENTS_NS, ALWAYS), (TAP_NS, ALWAYS))
    assert absurd.spent_ns == pytest.approx(usual.spent_ns, rel=0.25)


def test_who_is_never_backlogged_has_no_more_than_a_quantum_for_each_of_the_others(
    program: Path,
) -> None:
    """One packet at every look would be half of the time, among however many."""
    *bulk, sly = run(program, *[(TAP_NS, ALWAYS)] * 9, (TAP_NS, TAP_NS + 2 * TURN_NS))
    assert sly.spent_ns < 1.2 * max(served.spent_ns for served in bulk)


def test_many_busy_queues_have_the_same(program: Path) -> None:
    served = run(program, *[(TAP_NS, ALWAYS)] * 40)
    assert min(s.packets for s in served) > 0.8 * max(s.packets for s in served)


@pytest.mark.parametrize(("empty", "look_ns"), [(2, 300), (50, 50), (20, 300)])
def test_looking_at_empty_queues_takes_little_of_the_time(
    program: Path, empty: int, look_ns: int
) -> None:
    bulk, *_ = run(program, (TAP_NS, ALWAYS), *[(TAP_NS, NEVER)] * empty, look_ns=look_ns)
    assert bulk.spent_ns > 0.8 * MS * 1e6


def test_hundreds_of_empty_queues_leave_what_a_burst_at_a_time_would(program: Path) -> None:
    bulk, *_ = run(program, (TAP_NS, ALWAYS), *[(TAP_NS, NEVER)] * 250, look_ns=200)
    assert bulk.spent_ns > 0.5 * MS * 1e6


def test_the_place_among_many_makes_no_difference(program: Path) -> None:
    served = run(program, *[(TAP_NS, ALWAYS)] * 300)
    assert min(s.packets for s in served) > 0.5 * max(s.packets for s in served) > 0
