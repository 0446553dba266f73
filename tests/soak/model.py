"""What should be there: containers, their interfaces, who reaches whom, limits in force."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.smoke.agent import Node
from tests.smoke.netns import Netns

MOST_CONTAINERS: Final = 12


@dataclass(frozen=True)
class Net:
    """A network as netconfs describe it."""

    name: str
    subnet: str

    def ipam(self, directory: Path) -> dict[str, Any]:
        folder = str(directory / "ipam")
        return {"type": "host-local", "dataDir": folder, "ranges": [[{"subnet": self.subnet}]]}

    @property
    def gateway(self) -> str:
        return self.subnet.replace(".0/24", ".1")


PODS: Final = Net("pods", "10.88.1.0/24")
APART: Final = Net("apart", "10.88.2.0/24")


@dataclass(frozen=True)
class Kind:
    """A way to be attached: the network and more keys of the netconf."""

    name: str
    net: Net
    keys: Mapping[str, Any]

    @property
    def is_kernel(self) -> bool:
        return "interface" not in self.keys

    @property
    def role(self) -> str:
        """The application's role on its socket."""
        mode: str = self.keys.get("vhostUser", {}).get("mode", "client")
        return mode


KINDS: Final = (
    Kind("kernel", PODS, {"isGateway": True}),
    Kind("two queues", PODS, {"queues": 2}),
    Kind("other network", APART, {"isGateway": True}),
    Kind("application", PODS, {"interface": "vhost-user"}),
    Kind("server", PODS, {"interface": "vhost-user", "vhostUser": {"mode": "server"}}),
)


@dataclass
class Container:
    """One that is attached, as its ADD and what came after it have left it."""

    name: str
    kind: Kind
    space: Netns
    result: dict[str, Any]
    limits: dict[str, int] = field(default_factory=dict)
    """Bits per second; a direction without a limit is missing."""

    @property
    def port(self) -> str:
        return f"pod:{self.name}/eth0"

    @property
    def address(self) -> str:
        text: str = self.result["ips"][0]["address"]
        return text.split("/", maxsplit=1)[0]

    @property
    def mac(self) -> str:
        return str(self._interface["mac"])

    @property
    def socket(self) -> Path:
        return Path(self._interface["socketPath"])

    @property
    def _interface(self) -> dict[str, Any]:
        found: dict[str, Any] = next(
            each for each in self.result["interfaces"] if each.get("sandbox")
        )
        return found


@dataclass
class Model:
    """All that a step may use, and what has to be there after it."""

    node: Node
    random: random.Random
    containers: dict[str, Container] = field(default_factory=dict)
    numbered: int = 0
    silences_s: dict[str, list[float]] = field(default_factory=dict)
    """The longest time without a reply at each kill, by who was killed."""

    def new_name(self) -> str:
        self.numbered += 1
        return f"c{self.numbered}"

    def keys(self, kind: Kind) -> dict[str, Any]:
        """Keys of a netconf, as Node.call takes them."""
        ipam = kind.net.ipam(self.node.directory)
        return {"name": kind.net.name, "ipam": ipam, **kind.keys}

    def of(self, net: Net) -> Iterator[Container]:
        return (each for each in self.containers.values() if each.kind.net is net)

    def kernel(self, net: Net) -> list[Container]:
        return [each for each in self.of(net) if each.kind.is_kernel]

    def has_gateway(self, net: Net) -> bool:
        return any(each.kind.keys.get("isGateway") for each in self.of(net))

    def choose(self) -> Container:
        """Any container, of which there must be one."""
        return self.random.choice(list(self.containers.values()))
