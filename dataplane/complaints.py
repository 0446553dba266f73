"""What frontends do that an administrator should read of in the log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.binding import Engine

PERIOD_S = 5.0

log = logging.getLogger("dataplane")


class Complaints:
    """A chore for the server's loop: each thing is said once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due_s: float | None = time.monotonic() + PERIOD_S
        self._lost: set[str] = set()

    def act(self) -> None:
        """Do it if it is due."""
        now_s = time.monotonic()
        if self.due_s is None or now_s < self.due_s:
            return
        self.due_s = now_s + PERIOD_S
        lost = self._engine.ports_with_lost_memory()
        for name in sorted(lost - self._lost):
            log.warning(
                "port %s: its application took away memory that it had shared,"
                " and is not served until it connects anew: restart it",
                name,
            )
        self._lost = lost
