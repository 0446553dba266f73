"""The agent's YAML and the netconfs that a lab needs."""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Iterable
from typing import Any

from cni_virtio.ctl.lab.paths import LabPaths
from cni_virtio.ctl.lab.spec import LabContainer, LabInterface, LabNetwork, LabSpec, LabUplink

CNI_VERSION = "1.1.0"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def agent_yaml(spec: LabSpec, paths: LabPaths) -> str:
    """Return the agent's configuration; JSON is YAML, and reads well enough with indentation."""
    config = {
        "agent": {
            "socket": str(paths.agent_socket),
            "state_dir": str(paths.state),
            "socket_dir": str(paths.vhost),
            **spec.agent,
        },
        "dataplane": {"socket": str(paths.dataplane_socket), **spec.dataplane},
        "uplinks": [_uplink(uplink) for uplink in spec.uplinks],
        "networks": [_network(network) for network in spec.networks],
    }
    return json.dumps(config, indent=2) + "\n"


def _uplink(uplink: LabUplink) -> dict[str, Any]:
    device = f"{uplink.kind}:{uplink.name}"
    config: dict[str, Any] = {"name": uplink.name, "device": device, "queues": uplink.queues}
    if uplink.exception is not None:
        config["exception"] = dict(uplink.exception)
    return config


def _network(network: LabNetwork) -> dict[str, Any]:
    config: dict[str, Any] = {"name": network.name, "mtu": network.mtu}
    if network.uplink is not None:
        config["uplink"] = network.uplink
    if network.vlan is not None:
        config["vlan"] = network.vlan
    return config


def netconf(
    spec: LabSpec, paths: LabPaths, container: LabContainer, interface: LabInterface
) -> dict[str, Any]:
    """Return the netconf by which a container gets one of its interfaces."""
    network = spec.network(interface.network)
    config: dict[str, Any] = {
        "cniVersion": CNI_VERSION,
        "name": network.name,
        "type": "cni-virtio",
        "agentSocket": str(paths.agent_socket),
        "network": network.name,
        "interface": container.kind,
        "spoofCheck": network.spoof_check,
    }
    if network.gateway:
        config |= {"isGateway": True, "isDefaultGateway": True}
    for key, value in (
        ("queues", interface.queues),
        ("queueSize", interface.queue_size),
        ("mtu", interface.mtu),
    ):
        if value is not None:
            config[key] = value
    if container.kind == "vhost-user":
        config["vhostUser"] = {"mode": interface.mode or "client"}
    if network.subnets:
        config["ipam"] = _host_local(network, spec.reserved_addresses(network), paths)
    return config | dict(interface.netconf)


def _host_local(network: LabNetwork, reserved: list[str], paths: LabPaths) -> dict[str, Any]:
    ranges = [[address_range(subnet, reserved)] for subnet in network.subnets]
    return {"type": "host-local", "dataDir": str(paths.ipam), "ranges": ranges}


def address_range(subnet: str, reserved: Iterable[str]) -> dict[str, str]:
    """Return host-local's range for a subnet: the longest without a reserved address."""
    network = ipaddress.ip_network(subnet)
    hosts = [ipaddress.ip_interface(text).ip for text in reserved]
    taken = sorted(int(host) for host in hosts if host in network)
    if not taken:
        return {"subnet": subnet}
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    edges = [first - 1, *taken, last + 1]
    gaps = [(low + 1, high - 1) for low, high in itertools.pairwise(edges)]
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    return {"subnet": subnet, "rangeStart": _text(network, start), "rangeEnd": _text(network, end)}


def _text(network: _Network, number: int) -> str:
    return str(network.network_address + (number - int(network.network_address)))
