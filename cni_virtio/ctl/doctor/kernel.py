"""What the kernel must have: taps, vhost-net, drivers for NICs, forwarding."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from cni_virtio import pci
from cni_virtio.config_checks import FaultError, check_exceptions, decide_backend
from cni_virtio.ctl.doctor.finding import Check, Finding
from cni_virtio.ctl.doctor.patient import Patient
from cni_virtio.schema import dotted

_TUN: Final = Path("/dev/net/tun")
_MISC: Final = Path("/proc/misc")
_FORWARDING: Final = {
    4: ("net.ipv4.ip_forward", Path("/proc/sys/net/ipv4/ip_forward")),
    6: ("net.ipv6.conf.all.forwarding", Path("/proc/sys/net/ipv6/conf/all/forwarding")),
}
_NO_TAPS = "every kernel interface of a container is a tap: ADD fails without them"


def tun(_: Patient) -> Iterator[Finding]:
    """Look whether taps can be made."""
    try:
        is_device = stat.S_ISCHR(_TUN.stat().st_mode)
    except OSError:
        is_device = False
    if not is_device:
        known = any(line.split()[1:] == ["tun"] for line in _MISC.read_text().splitlines())
        node = f"mkdir -p {_TUN.parent} && mknod -m 0666 {_TUN} c 10 200"
        yield Finding(
            f"{_TUN} is missing{'' if known else ': the kernel module tun is not loaded'}",
            _NO_TAPS,
            node if known else "modprobe tun",
        )
        return
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        absent = error.errno in (errno.ENODEV, errno.ENXIO)
        remedy = "modprobe tun" if absent else "allow device 10:200 in this container's cgroup"
        yield Finding(f"{_TUN} cannot be opened: {error.strerror}", _NO_TAPS, remedy)


def vhost_net(patient: Patient) -> Iterator[Finding]:
    """Look whether the backend that is demanded can be had, and do what uplinks ask of it."""
    why = "the agent does not start with what it cannot have"
    try:
        backend = decide_backend(patient.config, patient.machine)
        check_exceptions(replace(patient.config, backend=backend))
    except FaultError as fault:
        if fault.path[0] == "uplinks":
            yield Finding(patient.placed(fault), why, f"set another {dotted(fault.path)}")
            return
        yield Finding(
            patient.placed(fault),
            why,
            "modprobe vhost_net (and a line vhost_net in /etc/modules-load.d/cni-virtio.conf), or"
            " set dataplane.backend: auto",
        )


def nics(patient: Patient) -> Iterator[Finding]:
    """Look whether every uplink's device is there, and DPDK can have it."""
    why = "without the uplink its networks end at this node, and the agent does not start"
    drivers = patient.here.pci_devices.parent / "drivers"
    addresses = [uplink.target for uplink in patient.config.uplinks if uplink.kind == "pci"]
    if addresses and not any((drivers / each).exists() for each in pci.FOR_DPDK):
        yield Finding(
            f"no driver through which DPDK can have a NIC: {pci.VFIO} is not loaded",
            why,
            f"modprobe {pci.VFIO} (and a line {pci.VFIO} in /etc/modules-load.d/cni-virtio.conf)",
        )
    for address in addresses:
        yield from _iommu(patient, address, why)
    for fault in patient.faults("uplinks"):
        what, _, hint = fault.rpartition(": ")
        if "cni-virtioctl" in hint or "IOMMU" in hint:
            yield Finding(what, why, hint.removeprefix("see "))
        else:
            yield Finding(fault, why, "ip link shows those there are: set uplinks[].device to one")


def _iommu(patient: Patient, address: str, why: str) -> Iterator[Finding]:
    device = patient.here.pci_devices / address
    if not device.exists():
        return
    nic = pci.read(device)
    if nic.iommu_fault and not nic.for_dpdk:  # what has a driver already, the configuration names
        what, _, remedy = nic.iommu_fault.partition(": ")
        yield Finding(f"{address} {what}", why, remedy)


def forwarding(patient: Patient) -> Iterator[Finding]:
    """Look whether the node still forwards for containers that it is the gateway of."""
    gateways = {address for each in patient.attachments for address in each.gateways}
    with patient.in_agents_netns():
        for version, (key, path) in _FORWARDING.items():
            if not any((":" in address) == (version == 6) for address in gateways):
                continue
            if path.read_text().strip() == "0":
                yield Finding(
                    f"{key} is 0, and the node is the gateway of containers",
                    "they reach the node and one another, and nothing beyond",
                    f"sysctl -w {key}=1, and the same in /etc/sysctl.d: something has set it to 0",
                )


CHECKS: Final = (
    Check("tun", "taps can be made", tun),
    Check("vhost-net", "the backend asked for can be had", vhost_net),
    Check("nics", "the devices of all uplinks are there, for DPDK to take", nics),
    Check("forwarding", "the node forwards where it is a gateway", forwarding),
)
