"""The namespaces of a lab, and the wires between its host and the outside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cni_virtio import links, netns
from cni_virtio.ctl.lab.spec import LabSpec, LabUplink

FOLDER = Path("/run/netns")
OUTSIDE_IFNAME = "out0"
_VETH_MTU = 1500
_VLAN_TAG_BYTES = 4
# A veth hands over frames with checksums to be filled in and segments to be cut by hardware that
# never comes; a NIC would have done both before the wire.
_AS_ON_A_WIRE = {"tx": False, "tso": False, "gso": False}


def netns_path(name: str) -> Path:
    """Return the path of a named namespace."""
    return FOLDER / name


@contextlib.contextmanager
def opened(name: str) -> Iterator[int]:
    """Open a named namespace for the body. Raises NetnsError."""
    fd = netns.open_netns(netns_path(name))
    try:
        yield fd
    finally:
        os.close(fd)


def connect_uplink(spec: LabSpec, uplink: LabUplink, host: str, outside: str) -> None:
    """Wire an uplink of the namespace `host` to the namespace `outside`. Raises NetnsError."""
    with opened(host) as inner, opened(outside) as outer:
        links.create_veth(inner, uplink.name, outer, OUTSIDE_IFNAME)
        mtu = _wire_mtu(spec, uplink)
        links.configure(inner, uplink.name, links.LinkConfig(mtu=mtu))
        routes = [links.Route(dst=route.dst, gw=route.gw) for route in uplink.routes]
        config = links.LinkConfig(mtu=mtu, addresses=uplink.addresses, routes=routes)
        links.configure(outer, OUTSIDE_IFNAME, config)
        links.set_offloads(outer, OUTSIDE_IFNAME, _AS_ON_A_WIRE)


def _wire_mtu(spec: LabSpec, uplink: LabUplink) -> int:
    networks = [network for network in spec.networks if network.uplink == uplink.name]
    needs = [network.mtu + (_VLAN_TAG_BYTES if network.vlan else 0) for network in networks]
    return max([_VETH_MTU, *needs])
