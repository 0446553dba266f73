"""When the engine measures its receive queues, and spreads them over the workers again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from dataplane.binding import EngineError

if TYPE_CHECKING:
    from dataplane.binding import Engine

PERIOD_S = 2.0

log = logging.getLogger("dataplane")


class Balancing:
    """A chore for the server's loop; there is none with one worker."""

    def __init__(self, engine: Engine, workers: int) -> None:
        self._engine = engine
        self.due_s = time.monotonic() + PERIOD_S if workers > 1 else None

    def act(self) -> None:
        """Do it if it is due."""
        now_s = time.monotonic()
        if self.due_s is None or now_s < self.due_s:
            return
        self.due_s = now_s + PERIOD_S
        try:
            self._engine.rebalance()
        except EngineError as e:
            log.warning("receive queues stay with their workers: %s", e.strerror)
