"""The request to stop, which a signal or a client makes and the server's loop waits for."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


class Stop:
    """A flag with a descriptor that becomes readable when a signal arrives."""

    def __init__(self) -> None:
        self.requested = False
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def on_signals(self) -> None:
        """Have SIGTERM and SIGINT request the stop. Main thread only."""
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: self.request())

    def request(self) -> None:
        """Ask the loop to end after its present step."""
        self.requested = True

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._read_fd

    def drain(self) -> None:
        """Make the descriptor wait for the next signal."""
        with suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
