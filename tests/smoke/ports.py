"""Ports of a running dataplane, with the addresses that tests give them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dataplane.client import DataplaneClient, DataplaneError
from tests.smoke.netns import Netns

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Port:
    control: DataplaneClient
    name: str
    number: int
    """What its addresses end in."""

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:{self.number:02x}"

    @property
    def ip4(self) -> str:
        return f"10.9.0.{self.number}"

    @property
    def ip6(self) -> str:
        return f"fd00:9::{self.number:x}"

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.control.ports(self.name)["ports"][0]["state"]
        return state

    def counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = self.control.ports(self.name)["ports"][0]["counters"]
        return counters

    def drops(self) -> dict[str, int]:
        drops: dict[str, int] = self.counters()["drops"]
        return drops

    def wait_ready(self) -> None:
        wait_until(lambda: self.state()["ready"], f"{self.name} has a peer")

    def delete(self) -> None:
        """Delete the port, unless that is done."""
        try:
            self.control.port_del(self.name)
        except DataplaneError as e:
            if e.code != "not_found":
                raise


@dataclass(frozen=True)
class Container(Port):
    """A kernel interface in a netns: that of a port, or the far end of an uplink's wire."""

    netns: Netns

    def packet_socket(self) -> socket.socket:
        return self.netns.packet_socket("eth0")

    def set_up(self) -> None:
        """Give eth0 its addresses and set it up, without the wait for duplicates."""
        self.netns.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        self.netns.ip(
            f"link set eth0 address {self.mac}",
            f"addr add {self.ip4}/24 dev eth0",
            f"addr add {self.ip6}/64 dev eth0 nodad",
            "link set eth0 up",
        )

    def know(self, *others: Port) -> None:
        """Enter neighbours, so that none has to be asked for."""
        self.netns.ip(
            *(
                f"neigh replace {ip} lladdr {other.mac} dev eth0"
                for other in others
                for ip in (other.ip4, other.ip6)
            )
        )


@dataclass(frozen=True)
class Twin(Container):
    """The host's interface beside an uplink, in a netns that plays the host's kernel."""

    uplink_mac: str = ""

    @property
    def mac(self) -> str:
        return self.uplink_mac


@dataclass(frozen=True)
class Application(Port):
    """A vhost-user socket."""

    path: Path


def switch_offloads(space: Netns, ifname: str, *features: str) -> None:
    """Switch offloads off."""
    space.run("ethtool", "-K", ifname, *(word for name in features for word in (name, "off")))


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.01)


class Counted(Protocol):
    """Something that has counters."""

    def counters(self) -> dict[str, Any]:
        """Give them as the dataplane does."""


@contextmanager
def counting(port: Counted) -> Iterator[dict[str, Any]]:
    """Give a dictionary that holds, after the block, by how much each counter has risen."""
    before, rise = port.counters(), {}  # type: ignore[var-annotated]
    yield rise
    after = port.counters()
    for key, value in after.items():
        if isinstance(value, int):
            rise[key] = value - before[key]
    had = before["drops"]
    rise["drops"] = {k: n - had.get(k, 0) for k, n in after["drops"].items() if n > had.get(k, 0)}
