"""Addresses, gateways and routes of an attachment, as the reference bridge plugin gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from cni_virtio import links, spec
from cni_virtio.netconf import NetConf
from cni_virtio.spec import CniError, Code, IPConfig, Result
from cni_virtio.state import Attachment

_ANYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


@dataclass(frozen=True)
class Addressing:
    """What the container is given, and (`gateways`, with prefix length) what the host is."""

    ips: tuple[IPConfig, ...]
    reported_routes: tuple[spec.Route, ...]
    gateways: tuple[str, ...]
    dns: spec.DNS

    @property
    def routes(self) -> list[links.Route]:
        """The routes as the kernel shall have them: without `gw`, by the subnet's gateway."""
        by_family = {ip.address.version: ip.gateway for ip in reversed(self.ips) if ip.gateway}
        return [
            links.Route(
                dst=str(route.dst),
                gw=_next_hop(route, by_family.get(route.dst.version)),
                mtu=route.mtu or None,
                advmss=route.advmss or None,
                priority=route.priority or None,
                table=route.table,
                scope=route.scope,
            )
            for route in self.reported_routes
        ]


def _next_hop(route: spec.Route, gateway: IPv4Address | IPv6Address | None) -> str | None:
    """Say by which router; None is on the link, which DHCP writes as 0.0.0.0 (RFC 3442)."""
    hop = route.gw or gateway
    return None if hop is None or hop.is_unspecified else str(hop)


def addressing(conf: NetConf, lease: Result) -> Addressing:
    """Complete what IPAM gave: the gateway's address, and a default route, where asked for.

    Raises CniError 102 if IPAM gave no address although it was asked.
    """
    if conf.ipam_type is not None and not lease.ips:
        msg = f"ipam.type: {conf.ipam_type!r} gave no address"
        raise CniError(Code.IPAM, msg)
    ips = tuple(_with_gateway(ip, conf.is_gateway) for ip in lease.ips)
    routes = list(lease.routes)
    if conf.is_default_gateway:
        routes += _default_routes(ips, routes)
    gateways = [f"{ip.gateway}/{ip.address.network.prefixlen}" for ip in ips if ip.gateway]
    return Addressing(
        ips=tuple(replace(ip, interface=0) for ip in ips),
        reported_routes=tuple(routes),
        gateways=tuple(dict.fromkeys(gateways)) if conf.is_gateway else (),
        dns=conf.dns if conf.dns != spec.DNS() else lease.dns,
    )


def result_of(
    attachment: Attachment, conf: NetConf, given: Addressing, host: spec.Interface | None
) -> Result:
    """Report the container's interface (index 0), the host's if any, addresses and routes."""
    container = spec.Interface(
        name=attachment.ifname,
        mac=attachment.mac,
        mtu=attachment.mtu,
        sandbox=attachment.netns,
        socket_path=attachment.socket_path if conf.interface == "vhost-user" else "",
    )
    interfaces = (container,) if host is None else (container, host)
    return Result(interfaces, given.ips, given.reported_routes, given.dns)


def _with_gateway(ip: IPConfig, wanted: bool) -> IPConfig:
    """Take the first address of the subnet where IPAM names no gateway."""
    network = ip.address.network
    if ip.gateway is not None or not wanted or network.num_addresses < 4:
        return ip
    return replace(ip, gateway=_first_host(network.network_address))


def _first_host(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return address + 1


def _default_routes(ips: Sequence[IPConfig], present: Sequence[spec.Route]) -> list[spec.Route]:
    """Return a default route for each family that has none."""
    routes: dict[int, spec.Route] = {}
    for ip in ips:
        anywhere = _ANYWHERE[ip.address.version]
        if ip.gateway is not None and all(route.dst != anywhere for route in present):
            routes.setdefault(anywhere.version, spec.Route(dst=anywhere, gw=ip.gateway))
    return list(routes.values())
