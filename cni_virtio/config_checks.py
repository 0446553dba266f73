"""What a schema cannot say of a configuration: names that must fit, and what the machine has."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_virtio import pci
from cni_virtio.backend import VHOST_NET, Backend, BackendError, choose
from cni_virtio.schema import did_you_mean, shown
from cni_virtio.spec import CniError, check_ifname

if TYPE_CHECKING:
    from cni_virtio.config import AgentConfig, Uplink

MIN_MEMORY_BYTES = 64 << 20
SOCKET_PATH_MAX_BYTES = 107
_LONGEST_BELOW_SOCKET_DIR = len("/01234567-89ab-cdef-0123-456789abcdef/") + 15 + len(".sock")
_MIB = 1 << 20


class FaultError(Exception):
    """A value that cannot stand: where it is, and why not."""

    def __init__(self, path: tuple[str | int, ...], reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Machine:
    """The parts of a machine that a configuration names; sizes in bytes."""

    online_cores: frozenset[int]
    allowed_cores: frozenset[int]
    memory_bytes: int
    pci_devices: Path = pci.SYSFS / "bus/pci/devices"
    vhost_net: Path = VHOST_NET

    @classmethod
    def here(cls) -> Machine:
        """This machine, as this process may use it."""
        allowed = frozenset(os.sched_getaffinity(0))
        try:
            text = Path("/sys/devices/system/cpu/online").read_text("ascii")
            online = frozenset(parse_cores(text))
        except (OSError, ValueError):  # no sysfs in this container
            online = allowed
        return cls(online, allowed, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

    def default_cores(self, main_core: int | None) -> tuple[int, int]:
        """A core for the control thread, unless given, and another for one worker if there is."""
        allowed = sorted(self.allowed_cores)
        main = allowed[0] if main_core is None else main_core
        return main, next((core for core in allowed if core != main), main)

    def check_core(self, core: int) -> None:
        """Raise ValueError if no thread could run on `core`."""
        if core not in self.online_cores:
            have = _core_text(self.online_cores)
            raise ValueError(f"core {core} does not exist or is offline; online are {have}")
        if core not in self.allowed_cores:
            have = _core_text(self.allowed_cores)
            raise ValueError(f"core {core} is not open to this process (cpuset); open are {have}")

    def check_device(self, uplink: Uplink) -> None:
        """Raise ValueError if an uplink's device is not to be had; of vdevs the driver knows."""
        if uplink.kind == "pci":
            self._check_nic(uplink)
        if uplink.kind in ("af_xdp", "af_packet"):
            try:
                socket.if_nametoindex(uplink.target)
            except (OSError, ValueError):
                reason = f"there is no interface {shown(uplink.target)} in the agent's namespace"
                raise ValueError(f"{shown(uplink.device)}: {reason}") from None

    def _check_nic(self, uplink: Uplink) -> None:
        device, address = shown(uplink.device), uplink.target
        if not (self.pci_devices / address).exists():
            reason = f"there is no PCI device {address}: see cni-virtioctl uplink list"
            raise ValueError(f"{device}: {reason}")
        nic = pci.read(self.pci_devices / address)
        if nic.driver == pci.VFIO and nic.iommu_fault:
            raise ValueError(f"{device} {nic.iommu_fault}")
        if nic.for_dpdk:
            return
        interfaces = f" (interface {', '.join(nic.interfaces)})" if nic.interfaces else ""
        has = f"is in use by driver {nic.driver}{interfaces}" if nic.driver else "has no driver"
        raise ValueError(f"{device} {has}: cni-virtioctl uplink bind {address}")


def check_names(config: AgentConfig) -> None:
    """Check what must be unique, and references; raises FaultError."""
    uplinks, networks = config.uplinks, config.networks
    _check_unique("uplinks", "name", [uplink.name for uplink in uplinks])
    _check_unique("uplinks", "device", [(uplink.kind, uplink.target) for uplink in uplinks])
    _check_ifnames(uplinks)
    exceptions = [uplink.exception and uplink.exception.name for uplink in uplinks]
    _check_unique("uplinks", "exception.name", exceptions)
    _check_unique("networks", "name", [network.name for network in networks])
    known = [uplink.name for uplink in uplinks]
    for number, network in enumerate(networks):
        if network.uplink is not None and network.uplink not in known:
            have = f"; uplinks are {', '.join(known)}" if known else "; no uplinks are declared"
            reason = f"{shown(network.uplink)} is not an uplink{have}"
            reason += did_you_mean(network.uplink, known)
            raise FaultError(("networks", number, "uplink"), reason)
        if network.vlan is not None and network.uplink is None:
            reason = f"{network.vlan} needs an uplink to be tagged on; networks[{number}] has none"
            raise FaultError(("networks", number, "vlan"), reason)
    _check_tags(config)


def _check_ifnames(uplinks: Iterable[Uplink]) -> None:
    for number, uplink in enumerate(uplinks):
        if uplink.exception is None:
            continue
        try:
            check_ifname(uplink.exception.name, "")
        except CniError as error:
            path = ("uplinks", number, "exception", "name")
            raise FaultError(path, error.msg.removeprefix(": ")) from None


def check_paths(config: AgentConfig) -> None:
    """Check that sockets differ, and that those under socket_dir can be; raises FaultError."""
    if config.agent.socket == config.dataplane.socket:
        reason = f"{shown(str(config.agent.socket))} is the agent's socket already"
        raise FaultError(("dataplane", "socket"), reason)
    limit = SOCKET_PATH_MAX_BYTES - _LONGEST_BELOW_SOCKET_DIR
    size = len(os.fsencode(config.agent.socket_dir))
    if size > limit:
        reason = f"has {size} bytes; at most {limit} leave room for <pod uid>/<ifname>.sock"
        raise FaultError(("agent", "socket_dir"), reason)


def check_machine(config: AgentConfig, machine: Machine) -> None:
    """Check cores, memory and devices against a machine; raises FaultError."""
    for fault in machine_faults(config, machine):
        raise fault


def machine_faults(config: AgentConfig, machine: Machine) -> Iterator[FaultError]:
    """Find every core, the memory and every device that a machine cannot give."""
    dataplane = config.dataplane
    places: list[tuple[tuple[str | int, ...], int]] = [
        (("dataplane", "main_core"), dataplane.main_core),
        *((("dataplane", "cores", number), core) for number, core in enumerate(dataplane.cores)),
    ]
    for path, core in places:
        try:
            machine.check_core(core)
        except ValueError as error:
            yield FaultError(path, str(error))
    if reason := _memory_problem(dataplane.memory_bytes, machine):
        yield FaultError(("dataplane", "memory"), reason)
    for number, uplink in enumerate(config.uplinks):
        try:
            machine.check_device(uplink)
        except ValueError as error:
            yield FaultError(("uplinks", number, "device"), str(error))


def decide_backend(config: AgentConfig, machine: Machine) -> Backend:
    """Say what the setting comes to on a machine; raises FaultError if it cannot be had."""
    setting = config.dataplane.backend
    try:
        return choose(setting, machine.vhost_net)
    except BackendError as error:
        raise FaultError(("dataplane", "backend"), f"{shown(setting)}: {error}") from None


def check_exceptions(config: AgentConfig) -> None:
    """Check what twins ask of the backend; raises FaultError."""
    for number, uplink in enumerate(config.uplinks):
        if uplink.exception is None:
            continue
        path = ("uplinks", number, "exception")
        if reason := config.backend.queues_problem(uplink.exception.queues):
            raise FaultError((*path, "queues"), reason)
        if reason := config.backend.ifname_problem(uplink.exception.name):
            raise FaultError((*path, "name"), reason)


def _memory_problem(memory_bytes: int, machine: Machine) -> str:
    if memory_bytes < MIN_MEMORY_BYTES:
        return f"{memory_bytes} bytes are less than the minimum of {MIN_MEMORY_BYTES // _MIB}Mi"
    if memory_bytes > machine.memory_bytes:
        has = machine.memory_bytes // _MIB
        return f"{memory_bytes // _MIB}Mi are more than this machine has ({has}Mi)"
    return ""


def _check_unique(section: str, key: str, values: list[Any]) -> None:
    seen: dict[Any, int] = {}
    for number, value in enumerate(values):
        if value is not None and value in seen:
            text = value if isinstance(value, str) else value[-1]
            reason = f"{shown(text)} is the {key} of {section}[{seen[value]}] already"
            raise FaultError((section, number, *key.split(".")), reason)
        seen[value] = number


def _check_tags(config: AgentConfig) -> None:
    """Two networks cannot share an uplink and a tag: nothing would tell their frames apart."""
    seen: dict[tuple[str, int | None], str] = {}
    for number, network in enumerate(config.networks):
        if network.uplink is None:
            continue
        other = seen.setdefault((network.uplink, network.vlan), network.name)
        if other != network.name:
            how = "without a tag" if network.vlan is None else f"with vlan {network.vlan}"
            key = "uplink" if network.vlan is None else "vlan"
            reason = f"uplink {network.uplink} carries network {other} {how} already"
            raise FaultError(("networks", number, key), reason)


class _Range(NamedTuple):
    first: int
    last: int


def parse_cores(text: str) -> Iterable[int]:
    """Cores in the kernel's notation: `0-3,8`."""
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _core_text(cores: Iterable[int]) -> str:
    """The kernel's notation of cores."""
    ranges: list[_Range] = []
    for core in sorted(cores):
        if ranges and ranges[-1].last == core - 1:
            ranges[-1] = _Range(ranges[-1].first, core)
        else:
            ranges.append(_Range(core, core))
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)
