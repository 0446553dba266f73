"""How long the agent waits before it starts a dataplane again, and what it says of the outage."""

from __future__ import annotations

import pytest

from cni_virtio.outage import BackOff, Outage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of one entry that stands still unless it is changed."""
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    return now_s


def test_the_first_is_started_again_at_once_and_the_others_ever_later(clock: list[float]) -> None:
    back_off = BackOff()
    waits_s = []
    for _ in range(9):
        back_off.serves()
        clock[0] += 1
        waits_s.append(back_off.next_s())
    assert waits_s == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    words = "9 dataplanes in a row did not last 10 s: the next start is put off by 5 s"
    assert back_off.note() == words


def test_one_that_lasts_makes_up_for_those_before(clock: list[float]) -> None:
    back_off = BackOff()
    assert [back_off.next_s() for _ in range(3)] == [0.0, 0.1, 0.2]  # they did not even start
    back_off.serves()
    assert "3 dataplanes" in back_off.note()
    clock[0] += 11
    assert back_off.note() == ""
    assert back_off.next_s() == 0.0
    assert back_off.note() == ""


def test_where_the_time_went(clock: list[float]) -> None:
    away = Outage()
    clock[0] += 0.1
    away.waited()
    clock[0] += 0.25
    away.started()
    clock[0] += 0.08
    assert away.summary(53, 54) == (
        "dataplane was away for 430 ms (waited 100 ms, start 250 ms, ports 80 ms):"
        " 53 of 54 ports back"
    )
