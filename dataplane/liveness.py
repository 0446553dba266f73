"""The sign of life for the supervisor's watchdog: given while every worker moves, and only then."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.binding import Engine
    from dataplane.notify import Notifier

LOOKS_PER_PERIOD = 4

log = logging.getLogger("dataplane")


class Liveness:
    """A chore for the server's loop, so a loop that hangs gives no sign either."""

    def __init__(self, engine: Engine, notifier: Notifier) -> None:
        self._engine = engine
        self._notifier = notifier
        self._interval_s = (notifier.watchdog_s or 0) / LOOKS_PER_PERIOD
        self.due_s = time.monotonic() if notifier.watchdog_s else None
        self._rounds: dict[int, int] = {}
        self._stuck: list[int] = []

    def act(self) -> None:
        """Do it if it is due."""
        now_s = time.monotonic()
        if self.due_s is None or now_s < self.due_s:
            return
        self.due_s = now_s + self._interval_s
        # Reading its counters wakes a worker that sleeps, so each has made rounds by the next look.
        rounds = {worker["core"]: worker["rounds"] for worker in self._engine.workers()}
        stuck = [core for core, count in rounds.items() if self._rounds.get(core) == count]
        self._rounds = rounds
        if stuck and stuck != self._stuck:
            log.error("workers on cores %s do not move", ",".join(map(str, stuck)))
        self._stuck = stuck
        if not stuck:
            self._notifier.alive()
