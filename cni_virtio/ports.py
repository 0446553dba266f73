"""From what is attached or configured to the dataplane's specs."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cni_virtio.backend import VHOST_NET, Backend
from cni_virtio.config import ExceptionPath, NetworkSection, Uplink
from cni_virtio.labels import labels_of
from cni_virtio.state import Attachment
from dataplane.specs import MAX_MTU, OFFLOADS
from dataplane.wire import EthdevSpec, NetworkSpec, PortSpec, VhostSpec

_LONGEST_VDEV_NAME: Final = 63
_AF_PACKET_DEFAULT_MTU: Final = 1500  # its ring has frames of 2 KiB unless told otherwise
_LONGEST_IFNAME: Final = 15
_GATEWAY_QUEUE_SIZE: Final = 256
_ALL_OFFLOADS: Final = dict.fromkeys(OFFLOADS, True)


def pod_port_name(container_id: str, ifname: str) -> str:
    """Name of the port of an attachment."""
    return f"pod:{container_id}/{ifname}"


def gateway_port_name(network: str) -> str:
    """Name of the host's port in a network."""
    return f"host:{network}"


def uplink_port_name(uplink: str) -> str:
    """Name of the port of an uplink."""
    return f"uplink:{uplink}"


def exception_port_name(uplink: str) -> str:
    """Name of the port of an uplink's twin."""
    return f"exception:{uplink}"


def gateway_ifname(network: str) -> str:
    """Name of the host's interface in a network; a long network name is hashed."""
    name = f"cv-{network}"
    if len(name) <= _LONGEST_IFNAME:
        return name
    return f"cv-{hashlib.sha256(network.encode()).hexdigest()[:12]}"


@functools.lru_cache(maxsize=256)
def gateway_mac(network: str, salt: str) -> str:
    """MAC of the host's port: the same while the node is up, another on each node.

    `salt` tells apart several agents of one machine.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return _local_mac(hashlib.sha256(f"{boot}\0{salt}\0{network}".encode()).digest()[:6])


def random_mac(entropy: bytes) -> str:
    """Make a locally administered unicast MAC of six random bytes."""
    return _local_mac(entropy)


def container_port(attachment: Attachment, backend: Backend) -> PortSpec:
    """Build the port of an attachment."""
    kernel = attachment.interface == "kernel"
    port = PortSpec(
        name=pod_port_name(attachment.container_id, attachment.ifname),
        kind="tap" if kernel else "vhost",
        role="container",
        network=attachment.network,
        mac=attachment.mac,
        ips=_unique(address.split("/")[0] for address in attachment.ips),
        spoof_check=attachment.spoof_check,
        mtu=attachment.mtu,
        queues=attachment.queues,
        queue_size=attachment.queue_size,
        limits=attachment.limits,
        labels=labels_of(attachment),
        vhost=None
        if kernel
        else VhostSpec(
            path=attachment.socket_path,
            mode=attachment.vhost_mode,
            uid=attachment.uid,
            gid=attachment.gid,
        ),
    )
    return _on(backend, port, attachment.ifname) if kernel else port


def gateway_port(network: str, mac: str, mtu: int, backend: Backend) -> PortSpec:
    """Build the host's port in a network. It routes for others, so its sources are not checked."""
    port = PortSpec(
        name=gateway_port_name(network),
        kind="tap",
        role="host",
        network=network,
        mac=mac,
        mtu=mtu,
        queue_size=_GATEWAY_QUEUE_SIZE,
    )
    return _on(backend, port, gateway_ifname(network))


def exception_port(
    uplink: PortSpec, exception: ExceptionPath, mac: str, backend: Backend
) -> PortSpec:
    """Build the port of an uplink's twin in the host, which has the uplink's MAC and MTU."""
    port = PortSpec(
        name=exception_port_name(uplink.name.removeprefix("uplink:")),
        kind="tap",
        role="exception",
        uplink=uplink.name,
        mac=mac,
        mtu=uplink.mtu,
        queues=exception.queues,
        queue_size=exception.queue_size,
        labels={"ifname": exception.name},
    )
    return _on(backend, port, exception.name)


def _on(backend: Backend, port: PortSpec, ifname: str) -> PortSpec:
    """Give the port of a tap to vhost-net, where that is what serves taps."""
    if not backend.is_vhost_net:
        return port
    if backend.queues_problem(port.queues) or backend.ifname_problem(ifname):
        return port  # attached by an agent with the tap backend
    digest = hashlib.sha256(port.name.encode()).hexdigest()[:12]
    devargs = (
        f"net_virtio_user_{digest},path={VHOST_NET},queues={port.queues}"
        f",queue_size={port.queue_size},iface={ifname},mac={port.mac}"
    )
    ethdev = EthdevSpec(devargs=devargs, offloads=_ALL_OFFLOADS)
    return replace(port, kind="ethdev", ethdev=ethdev)


def network_spec(section: NetworkSection) -> NetworkSpec:
    """Build a declared network."""
    uplink = None if section.uplink is None else uplink_port_name(section.uplink)
    return NetworkSpec(name=section.name, mtu=section.mtu, uplink=uplink, vlan=section.vlan)


def undeclared_network(name: str) -> NetworkSpec:
    """Build a network that nobody declared: isolated, each port with an MTU of its own."""
    return NetworkSpec(name=name, mtu=MAX_MTU)


def uplink_port(uplink: Uplink, networks: Iterable[NetworkSection]) -> PortSpec:
    """Build the port of an uplink, wide enough for every network on it."""
    mtus = [network.mtu for network in networks if network.uplink == uplink.name]
    offloads = uplink.offloads
    return PortSpec(
        name=uplink_port_name(uplink.name),
        kind="ethdev",
        role="uplink",
        mtu=max(mtus, default=1500),
        queues=uplink.queues,
        queue_size=uplink.queue_size,
        labels={"device": uplink.device},
        ethdev=EthdevSpec(
            devargs=_devargs(uplink, max(mtus, default=1500)),
            offloads={
                "rx_checksum": offloads.rx_checksum,
                "tx_checksum": offloads.tx_checksum,
                "tso": offloads.tso,
                "lro": offloads.lro,
            },
        ),
    )


def _devargs(uplink: Uplink, mtu: int) -> str:
    """Write the device as DPDK wants it; a vdev's name must begin with its driver's."""
    suffix = re.sub(r"[^A-Za-z0-9_]", "_", uplink.name)
    name = f"net_{uplink.kind}_{suffix}"[:_LONGEST_VDEV_NAME]
    if uplink.kind == "af_xdp":
        return f"{name},iface={uplink.target},start_queue=0,queue_count={uplink.queues}"
    if uplink.kind == "af_packet":
        frames = "" if mtu <= _AF_PACKET_DEFAULT_MTU else ",blocksz=65536,framesz=16384"
        return f"{name},iface={uplink.target},qpairs={uplink.queues}{frames}"
    return uplink.target


def _local_mac(six_bytes: bytes) -> str:
    first = (six_bytes[0] & 0xFC) | 0x02
    return ":".join(f"{byte:02x}" for byte in (first, *six_bytes[1:6]))


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
