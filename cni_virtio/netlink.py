"""Netlink requests and what the kernel answers: the only user of pyroute2.

Requests go to the kernel as one batch over one socket, and each is acknowledged by itself: a
round trip (and an event loop per call) costs more than the work. All is done in the namespace
that the calling thread is in.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_virtio.netns import NetnsError

_T = TypeVar("_T")

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_HEADER: Final = struct.Struct("=IHHII")
_NLMSG_ERROR: Final = 2
_NLMSGERR_ATTR_MSG: Final = 1
_REQUEST_AND_ACK: Final = 0x5
_CREATE: Final = 0x400
_EXCL: Final = 0x200
_APPEND: Final = 0x800
_CAPPED: Final = 0x100
_ACK_TLVS: Final = 0x200
_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_NEWADDR: Final = 20
_RTM_NEWROUTE: Final = 24
_IFF_UP: Final = 1
_IFA_F_NODAD: Final = 0x02
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_COMPAT: Final = 252
_RTPROT_BOOT: Final = 3
_RTN_UNICAST: Final = 1
_RT_SCOPE_LINK: Final = 253
_ACK_PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class Route:
    """One route of an interface; `dst` and `gw` as text, None where the kernel shall choose."""

    dst: str
    gw: str | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True)
class LinkView:
    """What the kernel says about an interface. `kind` is the driver's link kind ("tun", …)."""

    ifname: str
    index: int
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    addresses: tuple[str, ...]
    routes: tuple[Route, ...]


class Batch:
    """Requests that travel in one datagram."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._purposes: list[str] = []
        self._tolerated: set[tuple[int, int]] = set()

    def set_link(self, index: int, ifname: str, mac: str | None, mtu: int | None) -> None:
        """Give an interface another MAC or MTU."""
        message = ifinfmsg()
        message["index"] = index
        wanted = {"IFLA_ADDRESS": mac, "IFLA_MTU": mtu}
        message["attrs"] = [(key, value) for key, value in wanted.items() if value is not None]
        if message["attrs"]:
            self._add(message, _RTM_NEWLINK, 0, f"cannot give {ifname} mac {mac}, mtu {mtu}")

    def set_up(self, index: int, ifname: str) -> None:
        """Set an interface up."""
        message = ifinfmsg()
        message["index"] = index
        message["flags"] = message["change"] = _IFF_UP
        self._add(message, _RTM_NEWLINK, 0, f"cannot set {ifname} up")

    def set_carrier(self, index: int, ifname: str, on: bool) -> None:
        """Switch the carrier of an interface that leaves it to its owner, such as a tap."""
        message = ifinfmsg()
        message["index"] = index
        message["attrs"] = [("IFLA_CARRIER", int(on))]
        how = "on" if on else "off"
        self._add(message, _RTM_NEWLINK, 0, f"cannot switch the carrier of {ifname} {how}")

    def delete_link(self, index: int, ifname: str) -> None:
        """Delete an interface."""
        message = ifinfmsg()
        message["index"] = index
        self._add(message, _RTM_DELLINK, 0, f"cannot delete interface {ifname}")

    def add_address(self, index: int, ifname: str, text: str) -> None:
        """Add an address with its prefix length; an IPv6 one is used at once, without DAD."""
        address = ipaddress.ip_interface(text)
        plain = str(address.ip)
        message = ifaddrmsg()
        message["family"] = _family(address.version)
        message["prefixlen"] = address.network.prefixlen
        message["index"] = index
        message["attrs"] = [("IFA_LOCAL", plain), ("IFA_ADDRESS", plain)]
        if address.version == 6:
            message["flags"] = _IFA_F_NODAD
        elif address.network.prefixlen < 31:
            message["attrs"].append(("IFA_BROADCAST", str(address.network.broadcast_address)))
        purpose = f"cannot add address {text} to {ifname}"
        self._add(message, _RTM_NEWADDR, _CREATE | _EXCL, purpose)

    def add_route(self, index: int, ifname: str, route: Route) -> None:
        """Add a route; one that is there already (IPAM may name it twice) is fine."""
        destination = ipaddress.ip_network(route.dst, strict=False)
        table = _RT_TABLE_MAIN if route.table is None else route.table
        message = rtmsg()
        message["family"] = _family(destination.version)
        message["dst_len"] = destination.prefixlen
        message["table"] = table if table < 256 else _RT_TABLE_COMPAT
        message["proto"] = _RTPROT_BOOT
        message["type"] = _RTN_UNICAST
        message["scope"] = _scope(route, destination.version)
        message["attrs"] = _route_attributes(index, table, destination, route)
        via = f" via {route.gw}" if route.gw else ""
        purpose = f"cannot add route {route.dst}{via} dev {ifname}"
        self._tolerated.add((len(self._purposes), errno.EEXIST))
        self._add(message, _RTM_NEWROUTE, _CREATE | _APPEND, purpose)

    def send(self) -> None:
        """Send all and read the acknowledgements. Raises NetnsError for the first refusal."""
        if not self._purposes:
            return
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as sock:
            sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # do not send the request back
            sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)  # say the reason in words
            sock.settimeout(_ACK_PATIENCE_S)
            sock.send(self._data)
            refusals = self._refusals(sock)
        if refusals:
            raise refusals[0]

    def _add(self, message: Any, kind: int, flags: int, purpose: str) -> None:
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST_AND_ACK | flags
        message["header"]["sequence_number"] = len(self._purposes)
        message.encode()
        self._data += message.data
        self._data += bytes(-len(message.data) % 4)
        self._purposes.append(purpose)

    def _refusals(self, sock: socket.socket) -> list[NetnsError]:
        refusals = []
        missing = len(self._purposes)
        while missing:
            for kind, flags, sequence, message in _messages(sock.recv(65536)):
                if kind != _NLMSG_ERROR:
                    continue
                missing -= 1
                number = -struct.unpack_from("=i", message, _HEADER.size)[0]
                if number and (sequence, number) not in self._tolerated:
                    reason = _kernel_words(message, flags) or os.strerror(number)
                    refusals.append(NetnsError(number, f"{self._purposes[sequence]}: {reason}"))
        return refusals


def view(index: int) -> LinkView | None:
    """Read an interface with its addresses and routes (of all tables). Raises NetnsError."""
    return _with_iproute(lambda ipr: _view(ipr, index), f"cannot read interface {index}")


def route_to(address: str) -> int | None:
    """Return the index of the interface by which an address is reached, or None."""
    with contextlib.suppress(NetnsError):
        found = _with_iproute(lambda ipr: list(ipr.route("get", dst=address)), "no route")
        return next((int(item.get("oif")) for item in found if item.get("oif")), None)
    return None


def add_veth(a_name: str, b_name: str, b_netns_fd: int | None) -> None:
    """Make a pair of veths, the second end in the namespace given. Raises NetnsError."""
    peer: dict[str, Any] = {"ifname": b_name}
    if b_netns_fd is not None:
        peer["net_ns_fd"] = b_netns_fd
    _with_iproute(
        lambda ipr: ipr.link("add", ifname=a_name, kind="veth", peer=peer),
        f"cannot make the veth pair {a_name}, {b_name}",
    )


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Cut a datagram into messages: type, flags, sequence number, all of it."""
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        yield kind, flags, sequence, data[:length]
        data = data[max(_HEADER.size, (length + 3) & ~3) :]


def _kernel_words(message: bytes, flags: int) -> str:
    """Return the text of an extended acknowledgement, if the kernel gave one."""
    if not flags & _ACK_TLVS:
        return ""
    offset = _HEADER.size + 4 + _HEADER.size  # header, errno, header of the request
    if not flags & _CAPPED:
        offset += struct.unpack_from("=I", message, _HEADER.size + 4)[0] - _HEADER.size
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind & 0x3FFF == _NLMSGERR_ATTR_MSG:
            return message[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, (length + 3) & ~3)
    return ""


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _scope(route: Route, version: int) -> int:
    if route.scope is not None:
        return route.scope
    return _RT_SCOPE_LINK if version == 4 and route.gw is None else 0


def _route_attributes(
    index: int,
    table: int,
    destination: ipaddress.IPv4Network | ipaddress.IPv6Network,
    route: Route,
) -> list[tuple[str, Any]]:
    wanted = {
        "RTA_OIF": index,
        "RTA_TABLE": table,
        "RTA_DST": str(destination.network_address) if destination.prefixlen else None,
        "RTA_GATEWAY": route.gw,
        "RTA_PRIORITY": route.priority or None,
    }
    attributes: list[tuple[str, Any]] = [
        (key, value) for key, value in wanted.items() if value is not None
    ]
    metrics = {"RTAX_MTU": route.mtu, "RTAX_ADVMSS": route.advmss}
    if given := [(key, value) for key, value in metrics.items() if value]:
        attributes.append(("RTA_METRICS", {"attrs": given}))
    return attributes


def _with_iproute(function: Callable[[Any], _T], purpose: str) -> _T:
    """Call with a netlink client of the thread's own namespace, errors put into words."""
    try:
        with IPRoute() as ipr:
            return function(ipr)
    except Exception as error:
        # pyroute2's NetlinkError carries the kernel's errno as `code`.
        number = getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO
        reason = os.strerror(number) if number != errno.EIO else str(error)
        raise NetnsError(number, f"{purpose}: {reason}") from error


def _view(ipr: Any, index: int) -> LinkView | None:
    links = list(ipr.get_links(index))
    if not links:
        return None
    link = links[0]
    addresses = [
        f"{item.get('local') or item.get('address')}/{item['prefixlen']}"
        for item in ipr.get_addr(index=index)
    ]
    return LinkView(
        ifname=str(link.get("ifname")),
        index=index,
        kind=str(link.get(("linkinfo", "kind")) or ""),
        mac=str(link.get("address") or "").lower(),
        mtu=int(link.get("mtu") or 0),
        up=bool(link["flags"] & _IFF_UP),
        carrier=bool(link.get("carrier")),
        addresses=tuple(addresses),
        routes=tuple(_routes_of(ipr, index)),
    )


def _routes_of(ipr: Any, index: int) -> Iterator[Route]:
    for item in ipr.get_routes():
        if item.get("oif") != index or item["type"] != _RTN_UNICAST:
            continue
        anywhere = "0.0.0.0" if item["family"] == socket.AF_INET else "::"
        yield Route(
            dst=f"{item.get('dst') or anywhere}/{item['dst_len']}",
            gw=item.get("gateway"),
            priority=item.get("priority"),
            table=item.get("table"),
        )
