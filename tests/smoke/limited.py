"""A limited rate, as it is measured on a machine that others use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOLERANCE = 0.05
ATTEMPTS = 3


def assert_held(measure: Callable[[], float], rate: float) -> None:
    """Measure a rate: it may never be too high, and low only while a sender has no CPU."""
    found = []
    for _ in range(ATTEMPTS):
        found.append(measure())
        assert found[-1] < rate * (1 + TOLERANCE)
        if found[-1] > rate * (1 - TOLERANCE):
            return
    raise AssertionError(f"{found} bits per second, each time under {rate}")
