"""What the dataplane has just run out of, as far as it said."""

from __future__ import annotations

import time
from typing import Final

_HOLDS_S: Final = 60.0


class Shortage:
    """Holds until a port comes or goes, and not for long: another one might have found room."""

    def __init__(self) -> None:
        self._reason = ""
        self._since_s = 0.0

    def note(self, reason: str) -> None:
        """Take note that there was no room for a port, and why."""
        self._reason, self._since_s = reason, time.monotonic()

    def clear(self) -> None:
        """Take note that there is room again, as far as anybody knows."""
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why there is no room; "" if there may be some."""
        return self._reason if time.monotonic() - self._since_s < _HOLDS_S else ""
