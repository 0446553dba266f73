"""A DHCP server in the outside world, and the daemon of the dhcp IPAM plugin."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.smoke.agent import PLUGINS
from tests.smoke.frames import IPV4, receive_all
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until

_CONFIG = """\
interface eth0
start 10.66.0.100
end 10.66.0.120
lease_file {directory}/udhcpd.leases
pidfile {directory}/udhcpd.pid
min_lease 1
option lease {lease_s}
option subnet 255.255.255.0
option router 10.66.0.1
"""


_RELEASE = bytes([53, 1, 7])
"""DHCP message type (RFC 2132, 9.6)."""


def released(wire: socket.socket) -> list[str]:
    """Name the addresses that clients gave back, as far as a capture has it."""
    frames = [frame.data for frame in receive_all(wire) if frame.type == IPV4]
    return [socket.inet_ntoa(data[54:58]) for data in frames if _RELEASE in data[282:]]


@dataclass
class DhcpServer:
    """What it says it did, line by line."""

    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The address last given out."""
        return next(line for line in reversed(self.said) if "sending ACK" in line).split()[-1]

    def count(self, what: str) -> int:
        return sum(what in line for line in self.said)


@contextmanager
def dhcp_server(
    space: Netns, directory: Path, lease_s: int, more: str = ""
) -> Iterator[DhcpServer]:
    """Serve 10.66.0.100 to 10.66.0.120 on eth0 of a namespace; `more` goes to its configuration."""
    config = directory / "udhcpd.conf"
    config.write_text(_CONFIG.format(directory=directory, lease_s=lease_s) + more)
    (directory / "udhcpd.leases").touch()
    server = DhcpServer()
    # It asks whether somebody has the address already, and would wait for two seconds.
    words = ("busybox", "udhcpd", "-f", "-a", "100", str(config))
    with space.running(*words) as process:
        assert process.stdout
        reader = threading.Thread(target=server.said.extend, args=(process.stdout,))
        reader.start()
        try:
            wait_until(lambda: server.count("started") > 0, "udhcpd")
            yield server
        finally:
            process.kill()
            reader.join()


@contextmanager
def dhcp_daemon(host: Netns, directory: Path) -> Iterator[Path]:
    """Run the daemon that renews the leases; give its socket."""
    path = directory / "dhcp.sock"
    with host.running(f"{PLUGINS}/dhcp", "daemon", "-socketpath", str(path)):
        wait_until(path.exists, "the dhcp plugin's daemon")
        yield path
    path.unlink(missing_ok=True)
