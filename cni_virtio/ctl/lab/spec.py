"""What a lab consists of, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ContainerKind = Literal["kernel", "vhost-user"]
UplinkKind = Literal["af_xdp", "af_packet"]
HOST = "host"
"""Name of the namespace in which agent and dataplane run."""


@dataclass(frozen=True)
class OutsideRoute:
    """A route of an outside namespace; without `gw` the destination is on the link."""

    dst: str
    gw: str | None = None


@dataclass(frozen=True)
class LabUplink:
    """An uplink, and what the outside namespace at its other end has.

    `exception` is as in the agent's YAML; None means that there is no twin.
    """

    name: str
    kind: UplinkKind = "af_xdp"
    queues: int = 1
    addresses: tuple[str, ...] = ()
    routes: tuple[OutsideRoute, ...] = ()
    exception: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class LabNetwork:
    """An L2 domain; with `gateway` its containers have a default route through a host port."""

    name: str
    uplink: str | None = None
    vlan: int | None = None
    mtu: int = 1500
    subnets: tuple[str, ...] = ()
    gateway: bool = False
    spoof_check: bool = True


@dataclass(frozen=True)
class LabInterface:
    """One attachment of a container; None leaves a netconf key out. `netconf` is laid on top."""

    network: str
    ifname: str = "eth0"
    queues: int | None = None
    queue_size: int | None = None
    mtu: int | None = None
    mode: Literal["client", "server"] | None = None
    netconf: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabContainer:
    """A container; `command` (with placeholders) is the application of a vhost-user one."""

    name: str
    interfaces: tuple[LabInterface, ...]
    kind: ContainerKind = "kernel"
    command: tuple[str, ...] = ()
    answers_ping: bool = True


@dataclass(frozen=True)
class LabSpec:
    """A whole lab. `agent` and `dataplane` are blocks of the agent's YAML."""

    name: str
    networks: tuple[LabNetwork, ...]
    containers: tuple[LabContainer, ...] = ()
    uplinks: tuple[LabUplink, ...] = ()
    agent: Mapping[str, Any] = field(default_factory=dict)
    dataplane: Mapping[str, Any] = field(default_factory=dict)

    def network(self, name: str) -> LabNetwork:
        """Return the network of that name; raises KeyError."""
        return next((n for n in self.networks if n.name == name), None) or _absent(name)

    def reserved_addresses(self, network: LabNetwork) -> list[str]:
        """Addresses on the network's uplink that no container may get."""
        outside = [uplink.addresses for uplink in self.uplinks if uplink.name == network.uplink]
        return [address for addresses in outside for address in addresses]


def _absent(name: str) -> LabNetwork:
    raise KeyError(name)
