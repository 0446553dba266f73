"""Two containers that talk to each other, and a socket that a hostile frontend connects to."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hostile.frontend import Frontend, Message
from tests.smoke.frames import BROADCAST, EXPERIMENTAL, ethernet
from tests.smoke.numbered import Numbered, numbered
from tests.smoke.ports import Application, Container, wait_until
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.smoke.topology import Lab

PATIENCE_S = 5


@dataclass(frozen=True)
class Stage:
    one: Container
    two: Container
    port: Application
    other: Application
    """A socket of somebody else's."""
    flow: Numbered
    pid: int
    fds: int
    """What the dataplane has open without a frontend."""

    def frontend(self, features: int = 0, size_bytes: int = 1 << 20) -> Frontend:
        """Connect, and begin as a frontend should."""
        begin = partial(_begin, port=self.port, features=features)
        return _retried(self.port, begin, size_bytes)

    def stranger(self) -> Frontend:
        """Connect, and do nothing yet."""
        return _retried(self.port, lambda frontend: frontend.ask(Message.GET_FEATURES))

    def passer_by(self) -> Frontend:
        """Connect, and perhaps be refused, as another is still connected."""
        return Frontend(self.port.path)

    def send_to_all(self) -> None:
        """Send frames that go to the frontend, too."""
        ping_broadcast(self.one)

    def flood(self) -> None:
        """Send many at once that go to the frontend, too."""
        frame = ethernet(BROADCAST, self.one.mac, EXPERIMENTAL, bytes(1000))
        with self.one.packet_socket() as sock:
            for _ in range(64):
                sock.send(frame)

    def tables(self) -> int:
        """Tell how many tables were published."""
        tables: int = self.port.control.workers()["workers"][0]["tables"]
        return tables

    def assert_unharmed(self) -> None:
        """Nobody has noticed, nothing is left, and who behaves is served on the same socket."""
        assert ping(self.one.netns, self.two.ip4) == 3
        assert_served_again(self.port)
        wait_until(lambda: _fds(self.pid) == self.fds, "no descriptor is left")
        assert "memfd:frontend" not in Path(f"/proc/{self.pid}/maps").read_text()


@contextmanager
def staged(lab: Lab) -> Iterator[Stage]:
    """Set up, with a flow that may lose nothing until the end."""
    network = lab.network()
    one, two, port = (
        lab.container(network, 1),
        lab.container(network, 2),
        lab.application(network, 3),
    )
    one.know(two)
    two.know(one)
    other = lab.application(network, 4)
    pid = lab.dataplane.process.pid
    assert_served_again(port)  # what a worker opens once is open from now on
    fds = lab.dataplane.open_fds()
    with numbered(one, two) as flow:
        yield Stage(one, two, port, other, flow, pid, fds)
    flow.assert_all_in_order()


def half_mapped(frontend: Frontend, features: int = 0) -> int:
    """Share the first half of the memory and 64 bytes; give what follows."""
    end = frontend.size_bytes // 2 + 64
    frontend.introduce(features)
    frontend.share([(0, end, 0, 0)], [frontend.memfd])
    return end


def ping_broadcast(container: Container) -> None:
    words = ("ping", "-b", "-c", "3", "-i", "0.01", "-W", "0.01", "10.9.0.255")
    container.netns.run(*words, check=False)


@contextmanager
def connected(
    port: Application, memfd_flags: int = 0, size_bytes: int = 1 << 20
) -> Iterator[Frontend]:
    """Connect as a frontend should, with memory of one's choice."""
    with Frontend(port.path, size_bytes, memfd_flags) as frontend:
        _begin(frontend, port)
        yield frontend


def reconnected(port: Application) -> Frontend:
    """Connect as a frontend should, as soon as the one before has gone."""
    return _retried(port, lambda frontend: _begin(frontend, port))


def assert_served_again(port: Application) -> None:
    """A frontend that behaves finds the port as if nothing had been."""
    with reconnected(port) as frontend:
        before = port.counters()["rx_packets"]
        frontend.offer_frame(frame_of(port), 10)
        wait_until(lambda: port.counters()["rx_packets"] == before + 10, "its frames arrive")
        assert not port.state()["memory_lost"]


def frame_of(port: Application) -> bytes:
    return ethernet(BROADCAST, port.mac, EXPERIMENTAL, bytes(100))


def _begin(frontend: Frontend, port: Application, features: int = 0) -> None:
    frontend.begin(features)
    port.wait_ready()


def _retried(
    port: Application, begin: Callable[[Frontend], object], size_bytes: int = 1 << 20
) -> Frontend:
    """Connect as soon as the backend has noticed the end of the connection before."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        with ExitStack() as stack:
            frontend = stack.enter_context(Frontend(port.path, size_bytes))
            try:
                begin(frontend)
            except ConnectionError:
                assert time.monotonic() < deadline_s, "still not accepted"
                continue
            stack.pop_all()
            return frontend


def _fds(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
