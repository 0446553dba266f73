"""A pause in which no port receives anything, that ends by itself."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from dataplane.binding import EngineError

if TYPE_CHECKING:
    from dataplane.binding import Engine

MOST_MS = 1000
"""Rings and queues hold what is sent meanwhile, but not for long."""

_RETRY_S = 0.1

log = logging.getLogger("dataplane")


class Holding:
    """A chore for the server's loop: who asked for the pause may be gone before its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due_s: float | None = None

    def hold(self, ms: int) -> None:
        """Begin a pause of so many milliseconds from now, in place of another; 0 ends it.

        :raises EngineError: ENOMEM.
        """
        if ms > 0:
            self.due_s = time.monotonic() + ms / 1000
        self._engine.hold(ms > 0)
        if ms == 0:
            self.due_s = None

    def act(self) -> None:
        """End the pause if it is time."""
        now_s = time.monotonic()
        if self.due_s is None or now_s < self.due_s:
            return
        self.due_s = now_s + _RETRY_S
        try:
            self.hold(0)
        except EngineError as e:
            log.warning("ports receive nothing, this is tried again: %s", e.strerror)
