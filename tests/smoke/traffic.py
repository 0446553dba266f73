"""ping and iperf3 between network namespaces, and what they measured."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from tests.smoke.netns import Netns


class Running(Protocol):
    """A command in the background."""

    @property
    def stdout(self) -> Iterable[str] | None:
        """Its output, line by line."""


class Place(Protocol):
    """Where commands run: a namespace here, or one of another machine."""

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command and give its standard output."""

    def running(self, *words: str) -> AbstractContextManager[Running]:
        """Run a command in the background until the end of the block."""


WIRE_BYTES, PAYLOAD_BYTES = 1514, 1448
"""Of a full segment of TCP with timestamps, at an MTU of 1500."""

DATA = os.urandom(4 << 20)
DATA_HASH = hashlib.sha256(DATA).hexdigest()


def ping(source: Place, address: str, count: int = 3, patience_s: float = 2) -> int:
    """Send `count` echo requests at once; give the number of replies within the patience."""
    # With a short interval ping would wait for late replies only as long as for the first ones.
    words = ("-n", "-q", "-c", str(count), "-l", str(count), "-i", "2", "-W", str(patience_s))
    printed = source.run("ping", *words, address, check=False)
    match = re.search(r"(\d+) received", printed)
    assert match, printed
    return int(match[1])


def reaches_nobody(source: Place, address: str) -> bool:
    """Tell whether no reply comes; a neighbour's would take well under a millisecond."""
    return ping(source, address, 1, patience_s=0.5) == 0


def iperf3(source: Place, sink: Place, address: str, *options: str) -> dict[str, Any]:
    """Send for one second; give iperf3's summary."""
    words = ("iperf3", "--json", "--time", "1", "--connect-timeout", "3000")
    with sink.running("iperf3", "--server", "--one-off", "--forceflush") as server:
        assert server.stdout
        for line in server.stdout:
            if "Server listening" in line:
                break
        report = json.loads(source.run(*words, "--client", address, *options, check=False))
    assert "error" not in report, report["error"]
    summary: dict[str, Any] = report["end"]
    return summary


def received_bytes(summary: dict[str, Any]) -> int:
    received: int = summary["sum_received"]["bytes"]
    return received


def wire_bits(summary: dict[str, Any]) -> float:
    """Give the bits per second of the full frames that a TCP flow's payload came in."""
    received: float = summary["sum_received"]["bits_per_second"]
    return received * WIRE_BYTES / PAYLOAD_BYTES


def send_data(source: Netns, sink: Netns, address: str) -> str:
    """Send DATA by TCP and give the hash of what arrived."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = sink.inside(lambda: socket.create_server((address, 0), family=family))
    client = source.inside(lambda: socket.socket(family))
    digest = hashlib.sha256()

    def receive() -> None:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(10)
            while chunk := accepted.recv(1 << 16):
                digest.update(chunk)

    with server, client:
        for sock in (server, client):
            sock.settimeout(10)
        client.connect(server.getsockname()[:2])
        receiver = threading.Thread(target=receive)
        receiver.start()
        client.sendall(DATA)
        client.close()
        receiver.join()
    return digest.hexdigest()
