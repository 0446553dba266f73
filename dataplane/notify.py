"""systemd's notification protocol, sd_notify(3), for agent and dataplane.

The libraries for it are unmaintained or want a compiler, and it is one datagram.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Where a supervisor is told how this process does; silent if there is none.

    `watchdog_s` is how often the supervisor expects a sign of life, in seconds; None if never.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take over what the environment says; processes started from here on do not inherit it."""
        address = environment.pop("NOTIFY_SOCKET", "")
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        meant = address != "" and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if meant and usec.isdecimal() and int(usec) else None
        # "@" is how an abstract address is written.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def listens(self) -> bool:
        """Whether there is a supervisor to tell."""
        return self._address != ""

    def ready(self, status: str) -> None:
        """Say that everything is served from now on."""
        self._say("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Say in words how things are."""
        self._say(f"STATUS={text}")

    def alive(self) -> None:
        """Give the sign of life that the watchdog waits for."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the process is on its way to its end."""
        self._say("STOPPING=1", "STATUS=stopping")

    def _say(self, *assignments: str) -> None:
        if not self._address:
            return
        message = "\n".join(each.replace("\n", " ") for each in assignments).encode()
        # A supervisor that does not listen is no reason to fail, nor to wait.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message, self._address)
