"""The end of a dataplane whose place another has taken, when nobody is left to end it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dataplane.operations import Operations
    from dataplane.place import Place
    from dataplane.stop import Stop

PERIOD_S = 1.0

log = logging.getLogger("dataplane")


class Displaced:
    """A chore for the server's loop: an agent that upgrades may be gone before it ends this one.

    Nobody finds a dataplane whose socket is not at its path any more. As long as it has ports it
    goes on, for their sake. As long as it has clients the agent may be among them, and ends it.
    """

    def __init__(
        self,
        place: Place,
        operations: Operations,
        stop: Stop,
        has_clients: Callable[[], bool],
    ) -> None:
        self._place = place
        self._operations = operations
        self._stop = stop
        self._has_clients = has_clients
        self.due_s = time.monotonic() + PERIOD_S

    def act(self) -> None:
        """Do it if it is due."""
        now_s = time.monotonic()
        if now_s < self.due_s:
            return
        self.due_s = now_s + PERIOD_S
        if self._operations.has_ports or self._has_clients() or self._place.is_ours():
            return
        log.warning("ending: %s is not this dataplane's any more, no ports", self._place.path)
        self._stop.request()
