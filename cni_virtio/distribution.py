"""How long something took, however often: counts in narrow classes, of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

_CLASSES_PER_DOUBLING = 8
"""A quantile is read off to 9 %."""
_SHORTEST_S = 1e-6


class Distribution:
    """Durations in seconds. Not safe to share by threads: its owner holds a lock."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0
        self._classes: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)
        number = _class(seconds)
        self._classes[number] = self._classes.get(number, 0) + 1

    def quantile_s(self, share: float) -> float:
        """Return what `share` of all durations do not exceed; 0 if there is none."""
        below = 0
        for number in sorted(self._classes):
            below += self._classes[number]
            if below >= share * self.count:
                return min(_upper_s(number), self.max_s)
        return 0.0

    def up_to(self, bounds_s: Sequence[float]) -> Iterator[int]:
        """Return for each bound how many durations do not exceed it, to the width of a class."""
        for bound_s in bounds_s:
            limit = _class(bound_s)
            yield sum(count for number, count in self._classes.items() if number <= limit)


def _class(seconds: float) -> int:
    return math.ceil(_CLASSES_PER_DOUBLING * math.log2(max(seconds, _SHORTEST_S) / _SHORTEST_S))


def _upper_s(number: int) -> float:
    return float(_SHORTEST_S * 2 ** (number / _CLASSES_PER_DOUBLING))
