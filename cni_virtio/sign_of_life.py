"""The agent's word to its supervisor: how it does, and that it still answers."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Final

from cni_virtio.ctl.agent_client import AgentError, AgentUnavailableError, query
from dataplane.notify import Notifier

log = logging.getLogger(__name__)

_LOOKS_PER_PERIOD: Final = 4
_STATUS_INTERVAL_S: Final = 5.0  # where there is no watchdog
_PATIENCE_S: Final = 5.0


class SignOfLife:
    """Asks the agent over its socket, as the plugin does; no answer, no sign."""

    def __init__(self, socket: Path, notifier: Notifier) -> None:
        self._socket = socket
        self._notifier = notifier
        watchdog_s = notifier.watchdog_s
        self._interval_s = watchdog_s / _LOOKS_PER_PERIOD if watchdog_s else _STATUS_INTERVAL_S
        self._said = ""

    def run(self, stopping: threading.Event) -> None:
        """Do so until told to stop: the body of a thread."""
        while self._notifier.listens:
            self.give()
            if stopping.wait(self._interval_s):
                return

    def give(self) -> None:
        """Ask once, and pass on what there is to say."""
        try:
            status = query(self._socket, "status", timeout_s=min(_PATIENCE_S, self._interval_s))
        except AgentUnavailableError as error:
            log.error("this agent does not answer itself: %s", error)
            return
        except AgentError:  # it refused, for as many calls as it takes at once are under way
            self._notifier.alive()
            return
        self._notifier.alive()
        text = summary(status)
        if text != self._said:
            self._said = text
            self._notifier.status(text)


def summary(status: dict[str, Any]) -> str:
    """Say in one line how an agent with such a status does."""
    dataplane = status["dataplane"]
    attached = f"{status['attachments']} attachments"
    if not dataplane["running"]:
        return f"{attached}; dataplane down: {dataplane['last_error'] or 'it is starting'}"
    failing = f"; failing: {', '.join(status['failures'])}" if status["failures"] else ""
    return f"{attached}; dataplane pid {dataplane['pid']}{failing}"
