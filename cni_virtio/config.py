"""The agent's YAML file: read, checked against schema and machine, turned into dataclasses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from cni_virtio import pci
from cni_virtio.backend import Backend
from cni_virtio.config_checks import (
    FaultError,
    Machine,
    check_exceptions,
    check_machine,
    check_names,
    check_paths,
    decide_backend,
)
from cni_virtio.config_yaml import YamlError, YamlFile
from cni_virtio.listen_address import ListenAddress
from cni_virtio.results import brief
from cni_virtio.schema import Schema, dotted, shown

SCHEMA = Schema("agent")
DeviceKind = Literal["pci", "af_xdp", "af_packet", "vdev"]

_UNITS = {"": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("", 1000), ("I", 1024))
}
_SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>([KMGT]i?|k)?)B?")
_MOST_BYTES = 1 << 60
_PCI = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_NO_NIC = (
    "uplinks: auto: no PCI network device is bound to vfio-pci; see cni-virtioctl uplink list,"
    " then cni-virtioctl uplink bind ADDRESS"
)
_VDEV = re.compile(r"(net_|eth_|virtio_user)[a-z0-9_]+(,[^\s]+)?")


class ConfigError(Exception):
    """An unusable configuration; the message is one line: `FILE:LINE: path.to.key: reason`."""


@dataclass(frozen=True)
class AgentSection:
    """The agent itself; `log_level` is debug, info, warning or error."""

    socket: Path
    state_dir: Path
    socket_dir: Path
    log_level: str
    metrics: ListenAddress | None = None


@dataclass(frozen=True)
class DataplaneSection:
    """The dataplane process. `cores` has one worker each.

    `supervised_by` says who starts and ends it: the agent, or another supervisor.
    """

    socket: Path
    main_core: int
    cores: tuple[int, ...]
    memory_bytes: int
    idle: Literal["adaptive", "poll"]
    backend: Literal["auto", "vhost-net", "tap"]
    supervised_by: Literal["agent", "other"] = "agent"
    seccomp: bool = True


@dataclass(frozen=True)
class Offloads:
    """What a device is allowed to do itself."""

    rx_checksum: bool = True
    tx_checksum: bool = True
    tso: bool = True
    lro: bool = True


@dataclass(frozen=True)
class ExceptionPath:
    """The kernel's twin of an uplink: the interface's name, queue pairs, descriptors."""

    name: str
    queues: int = 1
    queue_size: int = 256


@dataclass(frozen=True)
class Uplink:
    """A NIC port. `kind` says what `target` is: PCI address, interface, or whole vdev string."""

    name: str
    device: str
    kind: DeviceKind
    target: str
    queues: int = 1
    queue_size: int = 1024
    offloads: Offloads = field(default_factory=Offloads)
    exception: ExceptionPath | None = None


@dataclass(frozen=True)
class NetworkSection:
    """A declared network; without `uplink` it is local to the node."""

    name: str
    uplink: str | None = None
    vlan: int | None = None
    mtu: int = 1500


@dataclass(frozen=True)
class AgentConfig:
    """A whole, valid configuration; `backend` is what its setting comes to on this machine.

    `messages` are to be said once, at start.
    """

    file: Path
    agent: AgentSection
    dataplane: DataplaneSection
    uplinks: tuple[Uplink, ...] = ()
    networks: tuple[NetworkSection, ...] = ()
    backend: Backend = field(default_factory=Backend)
    messages: tuple[str, ...] = ()


def load(path: str | Path, machine: Machine | None = None) -> AgentConfig:
    """Read and check a file against schema and machine (this one); raises ConfigError."""
    machine = machine or Machine.here()
    config, placed = read(path, machine)
    try:
        check_machine(config, machine)
        config = replace(config, backend=decide_backend(config, machine))
        check_exceptions(config)
    except FaultError as fault:
        raise ConfigError(placed(fault)) from None
    return config


def read(path: str | Path, machine: Machine) -> tuple[AgentConfig, Callable[[FaultError], str]]:
    """Read a file and check it by itself: the machine gives defaults only. Raises ConfigError.

    Returns with it what writes a fault found later with file and line.
    """
    file = Path(path)
    try:
        document = YamlFile(file)
    except YamlError as error:
        where = f"{file}:{error.line}" if error.line else f"{file}"
        raise ConfigError(f"{where}: {error.reason}") from None

    def placed(fault: FaultError) -> str:
        place = f" {dotted(fault.path)}:" if fault.path else ""
        return f"{file}:{document.line(fault.path)}:{place} {fault.reason}"

    try:
        config = _build(file, document.data, machine)
        check_names(config)
        check_paths(config)
    except FaultError as fault:
        raise ConfigError(placed(fault)) from None
    return config, placed


def parse_size(text: str | int) -> int:
    """Bytes in a size such as "512Mi", "1G" or 4096; raises ValueError."""
    match = _SIZE.fullmatch(str(text).strip())
    if not match:
        allowed = SCHEMA.data["$defs"]["size"]["x-allowed"]
        raise ValueError(f"{brief(text)} is not {allowed}")
    size_bytes = int(Decimal(match["number"]) * _UNITS[match["unit"].upper()])
    if size_bytes > _MOST_BYTES:
        raise ValueError(f"{brief(text)} is more than any machine has")
    return size_bytes


def _build(file: Path, data: Any, machine: Machine) -> AgentConfig:
    problem = SCHEMA.problem(data)
    if problem:
        raise FaultError(problem.path, problem.reason)
    full = SCHEMA.with_defaults(data)
    dataplane, messages = _dataplane(data.get("dataplane", {}), full["dataplane"], machine)
    if full["uplinks"] == "auto":
        uplinks = _all_for_dpdk(machine)
        messages += () if uplinks else (_NO_NIC,)
    else:
        uplinks = tuple(_uplink(number, item) for number, item in enumerate(full["uplinks"]))
    return AgentConfig(
        file=file,
        agent=AgentSection(
            socket=Path(full["agent"]["socket"]),
            state_dir=Path(full["agent"]["state_dir"]),
            socket_dir=Path(full["agent"]["socket_dir"]),
            log_level=full["agent"]["log_level"],
            metrics=_metrics(full["agent"]),
        ),
        dataplane=dataplane,
        uplinks=uplinks,
        networks=tuple(NetworkSection(**item) for item in full["networks"]),
        messages=messages,
    )


def _metrics(section: Mapping[str, Any]) -> ListenAddress | None:
    if "metrics" not in section:
        return None
    try:
        return ListenAddress.parse(section["metrics"])
    except ValueError as error:
        raise FaultError(("agent", "metrics"), str(error)) from None


def _dataplane(
    given: Mapping[str, Any], full: Mapping[str, Any], machine: Machine
) -> tuple[DataplaneSection, tuple[str, ...]]:
    """The section, and what is to be said of it; default cores are those the machine has."""
    try:
        memory_bytes = parse_size(full["memory"])
    except ValueError as error:
        raise FaultError(("dataplane", "memory"), str(error)) from None
    main_core, cores = full["main_core"], tuple(full["cores"])
    if "main_core" not in given and main_core not in machine.allowed_cores:
        main_core, _ = machine.default_cores(None)
    if "cores" not in given and (cores[0] == main_core or cores[0] not in machine.allowed_cores):
        _, worker = machine.default_cores(main_core)
        cores = (worker,)
    section = DataplaneSection(
        socket=Path(full["socket"]),
        main_core=main_core,
        cores=cores,
        memory_bytes=memory_bytes,
        idle=full["idle"],
        backend=full["backend"],
        supervised_by=full["supervised_by"],
        seccomp=full["seccomp"],
    )
    shared = f"dataplane.cores: worker and control thread share core {main_core}; packets will wait"
    return section, (shared,) if main_core in cores else ()


def _uplink(number: int, item: Mapping[str, Any]) -> Uplink:
    kind, target = _device(number, item["device"])
    exception = None
    if "exception" in item:
        exception = ExceptionPath(**{"name": _twin_name(number), **item["exception"]})
    return Uplink(
        name=item["name"],
        device=item["device"],
        kind=kind,
        target=target,
        queues=item["queues"],
        queue_size=item["queue_size"],
        offloads=Offloads(**item["offloads"]),
        exception=exception,
    )


def _all_for_dpdk(machine: Machine) -> tuple[Uplink, ...]:
    """Every NIC that DPDK can have, each with a twin, in the order of their addresses."""
    found = [nic.address for nic in pci.nics(machine.pci_devices) if nic.for_dpdk]
    return tuple(
        Uplink(
            name=f"wire{number}",
            device=address,
            kind="pci",
            target=address,
            exception=ExceptionPath(_twin_name(number)),
        )
        for number, address in enumerate(found)
    )


def _twin_name(number: int) -> str:
    return f"virtio_user{number}"


def _device(number: int, text: str) -> tuple[DeviceKind, str]:
    """What kind of device a string names, and the target: address, interface or the string."""
    if _PCI.fullmatch(text):
        return "pci", text.lower() if text.count(":") == 2 else f"0000:{text.lower()}"
    kind, _, interface = text.partition(":")
    if interface and kind == "af_xdp":
        return "af_xdp", interface
    if interface and kind == "af_packet":
        return "af_packet", interface
    if _VDEV.fullmatch(text):
        return "vdev", text
    allowed = "a PCI address, af_xdp:IFACE, af_packet:IFACE or a DPDK vdev string"
    raise FaultError(("uplinks", number, "device"), f"{shown(text)} is not {allowed}")
