"""What a schema cannot say of a lab file: names that must fit, addresses, placeholders."""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cni_virtio.config import SCHEMA as AGENT_SCHEMA
from cni_virtio.config_checks import FaultError
from cni_virtio.ctl.lab.spec import HOST, LabContainer, LabNetwork, LabSpec, LabUplink
from cni_virtio.schema import did_you_mean, shown

PLACEHOLDERS = (
    "socket", "mac", "ip", "ifname", "gateway", "queues", "core", "name", "dir",
)  # fmt: skip
PEER_PLACEHOLDERS = ("mac", "ip", "ifname", "name")
_Path = tuple[str | int, ...]


def check(spec: LabSpec) -> None:
    """Check names, references, addresses and commands. Raises FaultError."""
    _check_unique("uplinks", [uplink.name for uplink in spec.uplinks])
    _check_unique("networks", [network.name for network in spec.networks])
    taken = [HOST, *(uplink.name for uplink in spec.uplinks)]
    _check_unique("containers", [container.name for container in spec.containers], taken)
    if HOST in taken[1:]:
        path: _Path = ("uplinks", taken.index(HOST, 1) - 1, "name")
        raise FaultError(path, f"{shown(HOST)} is the namespace that the agent runs in")
    for number, uplink in enumerate(spec.uplinks):
        _check_outside(number, uplink)
    for number, network in enumerate(spec.networks):
        _check_network(number, network, [uplink.name for uplink in spec.uplinks])
        _check_gateway(number, network, spec.reserved_addresses(network))
    for number, container in enumerate(spec.containers):
        check_container(number, container, spec.networks, spec.containers)


def _check_gateway(number: int, network: LabNetwork, reserved: Sequence[str]) -> None:
    outside = [ipaddress.ip_interface(text).ip for text in reserved]
    for subnet in network.subnets if network.gateway else ():
        address = ipaddress.ip_network(subnet).network_address + 1
        if address in outside:
            reason = f"{address} is to be the gateway of {subnet}, and is the outside's already"
            raise FaultError(("networks", number, "gateway"), reason)


def check_dataplane(block: Mapping[str, Any]) -> None:
    """Check a `dataplane` block as the agent would. Raises FaultError."""
    problem = AGENT_SCHEMA.problem({"dataplane": block})
    if problem:
        raise FaultError(problem.path, problem.reason)
    if "socket" in block:
        raise FaultError(("dataplane", "socket"), "is chosen by the lab; leave it out")


def _check_unique(section: str, names: Sequence[str], taken: Iterable[str] = ()) -> None:
    for name in names:
        if name in taken:
            number = names.index(name)
            reason = f"{shown(name)} is the name of another namespace of the lab already"
            raise FaultError((section, number, "name"), reason)
    for number, name in enumerate(names):
        if name in names[:number]:
            reason = f"{shown(name)} is the name of {section}[{names.index(name)}] already"
            raise FaultError((section, number, "name"), reason)


def _check_outside(number: int, uplink: LabUplink) -> None:
    if uplink.kind == "af_xdp" and uplink.queues > 1:
        reason = f"{uplink.queues}: DPDK drives one queue of a veth with af_xdp; take af_packet"
        raise FaultError(("uplinks", number, "queues"), reason)
    outside: _Path = ("uplinks", number, "outside")
    for place, address in enumerate(uplink.addresses):
        _parsed((*outside, "addresses", place), ipaddress.ip_interface, address)
    for place, route in enumerate(uplink.routes):
        _parsed((*outside, "routes", place, "dst"), ipaddress.ip_network, route.dst)
        if route.gw is not None:
            _parsed((*outside, "routes", place, "gw"), ipaddress.ip_address, route.gw)


def _check_network(number: int, network: LabNetwork, uplinks: Sequence[str]) -> None:
    path: _Path = ("networks", number)
    if network.uplink is not None and network.uplink not in uplinks:
        reason = f"{shown(network.uplink)} is not an uplink{did_you_mean(network.uplink, uplinks)}"
        raise FaultError((*path, "uplink"), reason)
    if network.vlan is not None and network.uplink is None:
        raise FaultError((*path, "vlan"), f"{network.vlan} needs an uplink to be tagged on")
    if network.gateway and not network.subnets:
        raise FaultError((*path, "gateway"), "needs `subnets` to have an address from")
    for place, subnet in enumerate(network.subnets):
        _parsed((*path, "subnets", place), ipaddress.ip_network, subnet)


def _parsed(path: _Path, read: Any, text: str) -> None:
    try:
        read(text)
    except ValueError as error:
        raise FaultError(path, str(error)) from None


def check_container(
    number: int,
    container: LabContainer,
    networks: Sequence[LabNetwork],
    containers: Sequence[LabContainer],
) -> None:
    """Check the container at a place of the file against the others. Raises FaultError."""
    path: _Path = ("containers", number)
    known = [network.name for network in networks]
    names = [interface.ifname for interface in container.interfaces]
    for place, interface in enumerate(container.interfaces):
        here = (*path, "interfaces", place) if len(names) > 1 else path
        if interface.network not in known:
            hint = did_you_mean(interface.network, known)
            reason = f"{shown(interface.network)} is not a network of this file{hint}"
            raise FaultError((*here, "network"), reason)
        if interface.ifname in names[:place]:
            reason = f"{shown(interface.ifname)} is the name of another interface already"
            raise FaultError((*here, "ifname"), reason)
        if interface.mode is not None and container.kind == "kernel":
            raise FaultError((*here, "mode"), "is for containers of kind vhost-user")
    if container.command and container.kind == "kernel":
        reason = "is for vhost-user; run it with `cni-virtioctl lab exec`"
        raise FaultError((*path, "command"), reason)
    _check_placeholders((*path, "command"), container, containers)


def _check_placeholders(
    path: _Path, container: LabContainer, containers: Sequence[LabContainer]
) -> None:
    peers = [other.name for other in containers if other.name != container.name]
    allowed = [*PLACEHOLDERS, *(f"{peer}.{key}" for peer in peers for key in PEER_PLACEHOLDERS)]
    for word in container.command:
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
        except ValueError as error:
            raise FaultError(path, f"{shown(word)}: {error} (write {{{{ for a brace)") from None
        for name in fields:
            if name not in allowed:
                hint = did_you_mean(name, allowed)
                raise FaultError(path, f"{{{name}}} is not a placeholder{hint}")
