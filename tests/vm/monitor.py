"""The VM's machine, by qemu's own control socket: what a hand would do to its cables."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MONITOR = "monitor.sock"


def set_link(monitor: Path, netdev: str, *, up: bool) -> None:
    """Plug or unplug a NIC's cable."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(monitor))
        with sock.makefile("rw") as stream:
            stream.readline()  # the greeting
            for command, arguments in (
                ("qmp_capabilities", {}),
                ("set_link", {"name": netdev, "up": up}),
            ):
                stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                stream.flush()
                _expect_return(stream.readline, command)


def _expect_return(readline: Callable[[], str], command: str) -> None:
    while "return" not in (answer := json.loads(readline())):
        if "event" not in answer:
            raise OSError(f"{command}: {answer}")
