"""How long to wait before a dataplane is started again, and where the time without one went."""

from __future__ import annotations

import time
from typing import Final

_BACK_OFF_S: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
_STEADY_AFTER_S: Final = 10.0


class BackOff:
    """Waits longer for each dataplane that does not last."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._wait_s = 0.0
        self._serves_since_s: float | None = None

    def serves(self) -> None:
        """Take note that a dataplane has begun to serve."""
        self._serves_since_s = time.monotonic()

    def next_s(self) -> float:
        """Return how many seconds to wait now that one has ended, or could not be started."""
        if self._is_steady():
            self._in_a_row = 0
        self._serves_since_s = None
        self._wait_s = _BACK_OFF_S[min(self._in_a_row, len(_BACK_OFF_S) - 1)]
        self._in_a_row += 1
        return self._wait_s

    def note(self) -> str:
        """Say that dataplanes do not last, if that is the case."""
        if not self._wait_s or self._is_steady():
            return ""
        return (
            f"{self._in_a_row} dataplanes in a row did not last {_STEADY_AFTER_S:g} s:"
            f" the next start is put off by {self._wait_s:g} s"
        )

    def _is_steady(self) -> bool:
        since_s = self._serves_since_s
        return since_s is not None and time.monotonic() - since_s > _STEADY_AFTER_S


class Outage:
    """A time without a dataplane, from when its end is noticed."""

    def __init__(self) -> None:
        self._ended_s = self._waited_s = self._started_s = time.monotonic()

    def waited(self) -> None:
        """Take note that the next one is about to be started."""
        self._waited_s = time.monotonic()

    def started(self) -> None:
        """Take note that the next one answers."""
        self._started_s = time.monotonic()

    def summary(self, there: int, wanted: int) -> str:
        """Say how long it was, now that the next one has got its ports."""
        now_s = time.monotonic()
        steps = (
            ("waited", self._waited_s - self._ended_s),
            ("start", self._started_s - self._waited_s),
            ("ports", now_s - self._started_s),
        )
        parts = ", ".join(f"{name} {1000 * took_s:.0f} ms" for name, took_s in steps)
        away_ms = 1000 * (now_s - self._ended_s)
        return f"dataplane was away for {away_ms:.0f} ms ({parts}): {there} of {wanted} ports back"
