"""A lab file: read, checked, turned into a `LabSpec`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni_virtio.config import ConfigError
from cni_virtio.config_checks import FaultError
from cni_virtio.config_yaml import YamlError, YamlFile
from cni_virtio.ctl.lab.file_checks import check, check_container, check_dataplane
from cni_virtio.ctl.lab.spec import (
    LabContainer,
    LabInterface,
    LabNetwork,
    LabSpec,
    LabUplink,
    OutsideRoute,
)
from cni_virtio.schema import Schema, dotted, shown

SCHEMA = Schema("lab")
_INTERFACE_KEYS = ("network", "ifname", "queues", "queueSize", "mtu", "mode", "netconf")


def load(path: str | Path) -> LabSpec:
    """Read a lab file; raises ConfigError with one line `FILE:LINE: path.to.key: reason`."""
    file = Path(path)
    try:
        document = YamlFile(file)
    except YamlError as error:
        where = f"{file}:{error.line}" if error.line else f"{file}"
        raise ConfigError(f"{where}: {error.reason}") from None
    try:
        return _checked(document.data)
    except FaultError as fault:
        place = f" {dotted(fault.path)}:" if fault.path else ""
        line = document.line(fault.path)
        raise ConfigError(f"{file}:{line}:{place} {fault.reason}") from None


def parse(data: Mapping[str, Any]) -> LabSpec:
    """Make a `LabSpec` of what a lab file would hold; raises ConfigError `path.to.key: reason`."""
    try:
        return _checked(data)
    except FaultError as fault:
        raise ConfigError(f"{dotted(fault.path)}: {fault.reason}") from None


def parse_container(data: Mapping[str, Any], spec: LabSpec) -> LabContainer:
    """Make one more container for a lab, from what a lab file would hold; raises ConfigError."""
    known = [{"name": network.name} for network in spec.networks]
    problem = SCHEMA.problem({"name": spec.name, "networks": known, "containers": [data]})
    try:
        if problem:
            raise FaultError(problem.path, problem.reason)
        container = _container(0, data)
        check_container(0, container, spec.networks, spec.containers)
    except FaultError as fault:
        raise ConfigError(f"{dotted(fault.path)}: {fault.reason}") from None
    return container


# --- building -------------------------------------------------------------------------------------


def _checked(data: Any) -> LabSpec:
    problem = SCHEMA.problem(data)
    if problem:
        raise FaultError(problem.path, problem.reason)
    full = SCHEMA.with_defaults(data)
    check_dataplane(full["dataplane"])
    spec = LabSpec(
        name=full["name"],
        agent=full["agent"],
        dataplane=full["dataplane"],
        uplinks=tuple(_uplink(item) for item in full["uplinks"]),
        networks=tuple(_network(item) for item in full["networks"]),
        containers=tuple(_container(n, item) for n, item in enumerate(full["containers"])),
    )
    check(spec)
    return spec


def _uplink(item: Mapping[str, Any]) -> LabUplink:
    outside = item["outside"]
    return LabUplink(
        name=item["name"],
        kind=item["kind"],
        queues=item["queues"],
        addresses=tuple(outside["addresses"]),
        routes=tuple(OutsideRoute(route["dst"], route.get("gw")) for route in outside["routes"]),
        exception=item.get("exception"),
    )


def _network(item: Mapping[str, Any]) -> LabNetwork:
    return LabNetwork(
        name=item["name"],
        uplink=item.get("uplink"),
        vlan=item.get("vlan"),
        mtu=item["mtu"],
        subnets=tuple(item["subnets"]),
        gateway=item["gateway"],
        spoof_check=item["spoofCheck"],
    )


def _container(number: int, item: Mapping[str, Any]) -> LabContainer:
    own = {key: item[key] for key in _INTERFACE_KEYS if key in item}
    if own and "interfaces" in item:
        key = next(iter(own))
        raise FaultError(
            ("containers", number, key), "belongs into `interfaces`, which is given too"
        )
    if not own and "interfaces" not in item:
        raise FaultError(("containers", number, "network"), "is missing (or `interfaces`)")
    if own and "network" not in own:
        raise FaultError(("containers", number, "network"), "is missing")
    interfaces = item.get("interfaces", [own])
    command = item.get("command", [])
    return LabContainer(
        name=item["name"],
        kind=item.get("kind", "kernel"),
        command=tuple(_words(number, command) if isinstance(command, str) else command),
        answers_ping=item.get("answersPing", True),
        interfaces=tuple(_interface(place, data) for place, data in enumerate(interfaces)),
    )


def _words(number: int, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise FaultError(("containers", number, "command"), f"{shown(command)}: {error}") from None


def _interface(place: int, data: Mapping[str, Any]) -> LabInterface:
    return LabInterface(
        network=data["network"],
        ifname=data.get("ifname", f"eth{place}"),
        queues=data.get("queues"),
        queue_size=data.get("queueSize"),
        mtu=data.get("mtu"),
        mode=data.get("mode"),
        netconf=data.get("netconf", {}),
    )
