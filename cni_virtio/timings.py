"""Where the time of a call goes: its steps, measured where they are, and counted since the start.

A call's stopwatch belongs to the context that serves it (and to what `Meanwhile` begins there), so
that a step need not be handed one.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from cni_virtio.distribution import Distribution

TOTAL: Final = "total"
"""The step that is all of the call, from its request to its reply."""


class Stopwatch:
    """One call: when it began, and what its steps took so far. Steps may run beside each other."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self.steps: list[tuple[str, float]] = []

    def elapsed_s(self) -> float:
        """Return the time since the call began."""
        return time.perf_counter() - self._began_s


_current: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def begin() -> Stopwatch:
    """Begin a call in this context."""
    watch = Stopwatch()
    _current.set(watch)
    return watch


def end() -> None:
    """End the call of this context: what the thread does next is not part of it."""
    _current.set(None)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Measure a step of the call under way; outside of one, measure nothing."""
    watch = _current.get()
    began_s = time.perf_counter()
    try:
        yield
    finally:
        if watch is not None:
            watch.steps.append((name, time.perf_counter() - began_s))


class StepTimes(NamedTuple):
    """One step of one verb, since the agent's start."""

    verb: str
    step: str
    times: Distribution


class Timings:
    """All calls since the start, by verb and step, and how they ended; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[tuple[str, str], Distribution] = {}
        self._endings: Counter[tuple[str, int]] = Counter()

    def add(self, verb: str, watch: Stopwatch, code: int = 0) -> None:
        """Count a call that has ended, with the CNI error code it gave or 0."""
        taken = [*watch.steps, (TOTAL, watch.elapsed_s())]
        with self._lock:
            self._endings[verb, code] += 1
            for name, seconds in taken:
                self._steps.setdefault((verb, name), Distribution()).add(seconds)

    @contextmanager
    def read(self) -> Iterator[list[StepTimes]]:
        """Give everything, which does not change within the block."""
        with self._lock:
            yield [StepTimes(*key, times) for key, times in self._steps.items()]

    def endings(self) -> dict[tuple[str, int], int]:
        """Return how many calls there were by verb and error code (0 is success)."""
        with self._lock:
            return dict(self._endings)

    def shown(self) -> list[dict[str, Any]]:
        """Return a row for each verb and step, the steps in the order of their first use."""
        with self.read() as steps:
            return [
                {
                    "verb": verb,
                    "step": name,
                    "count": times.count,
                    "mean_ms": _ms(times.sum_s / times.count),
                    "p50_ms": _ms(times.quantile_s(0.5)),
                    "p99_ms": _ms(times.quantile_s(0.99)),
                    "max_ms": _ms(times.max_s),
                }
                for verb, name, times in steps
            ]


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)
