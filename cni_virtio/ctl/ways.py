"""What a host would lose with an interface: addresses, its way out, the caller's own session."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

_CLASS_NET = Path("/sys/class/net")
_ANYWHERE = ("0.0.0.0/0", "::/0")


def addresses_of(interfaces: Iterable[str]) -> list[str]:
    """Return the addresses of interfaces, with prefix length."""
    from cni_virtio import links

    views = [links.inspect(None, interface) for interface in interfaces]
    return [address for view in views if view for address in view.addresses]


def needed_for(interfaces: Iterable[str], ssh_connection: str, net: Path = _CLASS_NET) -> str:
    """Say what needs one of the interfaces, or what is built on them; "" if nothing does.

    `ssh_connection` is the variable SSH_CONNECTION of the caller, or "".
    """
    from cni_virtio import links

    chosen = with_uppers(interfaces, net)
    for interface in chosen:
        view = links.inspect(None, interface)
        if view and any(route.dst in _ANYWHERE for route in view.routes):
            return f"interface {interface} carries the default route"
    peer = ssh_connection.partition(" ")[0]
    way = _way_to(peer) if peer else None
    if way in chosen:
        return f"interface {way} is the way to {peer}, where this session comes from"
    return ""


def with_uppers(interfaces: Iterable[str], net: Path = _CLASS_NET) -> list[str]:
    """Return interfaces with the bridges, bonds, VLANs… that are built on them."""
    found: list[str] = []
    left = list(interfaces)
    while left:
        interface = left.pop(0)
        if interface not in found:
            found.append(interface)
            uppers = sorted(net.glob(f"{interface}/upper_*"))
            left += [upper.name.removeprefix("upper_") for upper in uppers]
    return found


def _way_to(address: str) -> str | None:
    from cni_virtio import netlink

    with contextlib.suppress(ValueError, OSError):
        plain = str(ipaddress.ip_address(address.partition("%")[0]))
        index = netlink.route_to(plain)
        return socket.if_indextoname(index) if index else None
    return None
