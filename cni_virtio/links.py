"""Interfaces of a namespace: made, set up in one go, read, deleted; offloads switched.

`netns_fd` is an open namespace, or None for the caller's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cni_virtio import netlink
from cni_virtio.netlink import Batch, LinkView, Route
from cni_virtio.netns import NetnsError, entered

__all__ = [
    "LinkConfig",
    "LinkView",
    "Route",
    "add_address",
    "add_route",
    "bring_up",
    "configure",
    "create_veth",
    "delete_link",
    "exists",
    "has_carrier",
    "index_of",
    "inspect",
    "mac_of",
    "prepare",
    "set_carrier",
    "set_offloads",
    "set_up",
]

_SIOCGIFHWADDR: Final = 0x8927
_SIOCGIFINDEX: Final = 0x8933
_IFNAMSIZ: Final = 16
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GDRVINFO: Final = 3
_ETHTOOL_GLINK: Final = 0xA
_DRVINFO_BYTES: Final = 196
_ETHTOOL_SET: Final = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


@dataclass(frozen=True)
class LinkConfig:
    """All that is set on an interface in one go. Addresses carry their prefix length."""

    mac: str | None = None
    mtu: int | None = None
    addresses: Sequence[str] = ()
    routes: Sequence[Route] = ()
    accept_ra: bool = False


def configure(netns_fd: int | None, ifname: str, config: LinkConfig) -> None:
    """Give the interface MAC, MTU, addresses and routes, and set it up.

    IPv6 addresses are used at once (no duplicate address detection: IPAM guarantees them), and
    router advertisements are ignored unless asked for. An interface that comes up announces its
    addresses (gratuitous ARP, unsolicited neighbour advertisement). Raises NetnsError naming the
    item.
    """
    prepare(netns_fd, ifname, config)
    bring_up(netns_fd, ifname, config)


def prepare(netns_fd: int | None, ifname: str, config: LinkConfig) -> None:
    """Carry out the part of `configure` that does not need the addresses. Raises NetnsError."""
    with entered(netns_fd):
        _write_switches(ifname, config)
        batch = Batch()
        batch.set_link(_index(ifname), ifname, config.mac, config.mtu)
        batch.send()


def bring_up(netns_fd: int | None, ifname: str, config: LinkConfig) -> None:
    """Carry out the other part of `configure`. Raises NetnsError naming the item."""
    with entered(netns_fd):
        index = _index(ifname)
        if any(":" in address for address in config.addresses):
            _switch("ipv6", ifname, "disable_ipv6", "0")
            # An address survives the interface's being set down, as an IPv4 one does.
            _switch("ipv6", ifname, "keep_addr_on_down", "1")
        batch = Batch()
        for address in config.addresses:
            batch.add_address(index, ifname, address)
        # After the addresses: coming up is when the kernel announces them.
        batch.set_up(index, ifname)
        for route in config.routes:
            batch.add_route(index, ifname, route)
        batch.send()


def set_up(netns_fd: int | None, ifname: str) -> None:
    """Set an interface up and change nothing else. Raises NetnsError."""
    with entered(netns_fd):
        batch = Batch()
        batch.set_up(_index(ifname), ifname)
        batch.send()


def set_carrier(netns_fd: int | None, ifname: str, on: bool) -> None:
    """Switch the carrier of a tap. Raises NetnsError: EPERM while nobody holds its queues."""
    with entered(netns_fd):
        batch = Batch()
        batch.set_carrier(_index(ifname), ifname, on)
        batch.send()


def has_carrier(netns_fd: int | None, ifname: str) -> bool | None:
    """Tell whether an interface that is up has its link; None if it is absent."""
    with entered(netns_fd):
        try:
            answer = _ethtool(ifname, struct.pack("II", _ETHTOOL_GLINK, 0), "cannot read the link")
        except NetnsError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
    return bool(struct.unpack_from("I", answer, 4)[0])


def mac_of(netns_fd: int | None, ifname: str) -> str:
    """Read the MAC of an interface, and nothing else. Raises NetnsError: ENODEV if it is absent."""
    ifreq = struct.pack("16s24x", ifname.encode())
    with entered(netns_fd):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, ifreq)
        except OSError as error:
            number = error.errno or errno.EIO
            raise NetnsError(number, f"cannot read the MAC of {ifname}: {error.strerror}") from None
    return answer[18:24].hex(":")


def add_address(netns_fd: int | None, ifname: str, address: str) -> bool:
    """Add one address with prefix length; False if it is there already. Raises NetnsError."""
    with entered(netns_fd):
        batch = Batch()
        batch.add_address(_index(ifname), ifname, address)
        try:
            batch.send()
        except NetnsError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
    return True


def add_route(netns_fd: int | None, ifname: str, route: Route) -> None:
    """Add one route through an interface. Raises NetnsError."""
    with entered(netns_fd):
        batch = Batch()
        batch.add_route(_index(ifname), ifname, route)
        batch.send()


def delete_link(
    netns_fd: int | None, ifname: str, driver: str | None = None, index: int | None = None
) -> bool:
    """Delete an interface; with `driver` ("tun", "veth"), only one of that. False if absent.

    With the `index` of an earlier look, one that has come by the name since is left alone.
    Raises NetnsError: EPERM if the interface is another driver's, or the kernel's refusal.
    """
    with entered(netns_fd):
        try:
            index = index or _index(ifname)
            if driver is not None and (found := _driver(ifname)) != driver:
                raise NetnsError(errno.EPERM, f"interface {ifname} is not ours (driver {found})")
            batch = Batch()
            batch.delete_link(index, ifname)
            batch.send()
        except NetnsError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
    return True


def exists(netns_fd: int | None, ifname: str) -> bool:
    """Tell whether an interface of that name is in the namespace. Raises NetnsError."""
    return index_of(netns_fd, ifname) is not None


def index_of(netns_fd: int | None, ifname: str) -> int | None:
    """Give the number that no other interface of the namespace gets; None if there is none.

    Raises NetnsError.
    """
    with entered(netns_fd):
        try:
            return _index(ifname)
        except NetnsError as error:
            if error.errno == errno.ENODEV:
                return None
            raise


def inspect(netns_fd: int | None, ifname: str) -> LinkView | None:
    """Read an interface with addresses and routes; None if it is absent. Raises NetnsError."""
    with entered(netns_fd):
        try:
            return netlink.view(_index(ifname))
        except NetnsError as error:
            if error.errno == errno.ENODEV:
                return None
            raise


def create_veth(a_fd: int | None, a_name: str, b_fd: int | None, b_name: str) -> None:
    """Make a pair of veths, one end in each namespace. Raises NetnsError."""
    if a_fd is not None and b_fd is None:
        a_fd, a_name, b_fd, b_name = b_fd, b_name, a_fd, a_name
    with entered(a_fd):
        netlink.add_veth(a_name, b_name, b_fd)


def set_offloads(netns_fd: int | None, ifname: str, switches: Mapping[str, bool]) -> None:
    """Switch offloads (`rx`, `tx`, `sg`, `tso`, `gso`, `gro`) as `ethtool -K` does.

    Raises NetnsError naming the first that the device refuses.
    """
    with entered(netns_fd):
        for name, wanted in switches.items():
            what = f"cannot switch offload {name} of {ifname}"
            _ethtool(ifname, struct.pack("II", _ETHTOOL_SET[name], int(wanted)), what)


def _index(ifname: str) -> int:
    """Look up an interface. Raises NetnsError: ENODEV only if it is absent."""
    # Not by if_nametoindex(): Python's says of every failure, EMFILE too, that there is none.
    name = ifname.encode()
    try:
        if len(name) >= _IFNAMSIZ:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFINDEX, struct.pack("16s24x", name))
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise NetnsError(errno.ENODEV, f"there is no interface {ifname}") from None
        number = error.errno or errno.EIO
        text = f"cannot look for interface {ifname}: {os.strerror(number)}"
        raise NetnsError(number, text) from None
    return int(struct.unpack_from("i", answer, 16)[0])


def _driver(ifname: str) -> str:
    request = struct.pack("I", _ETHTOOL_GDRVINFO).ljust(_DRVINFO_BYTES, b"\0")
    answer = _ethtool(ifname, request, f"cannot read the driver of {ifname}")
    return answer[4:36].split(b"\0", 1)[0].decode(errors="replace")


def _ethtool(ifname: str, request: bytes, what: str) -> bytes:
    data = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(data))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCETHTOOL, ifreq)
    except OSError as error:
        number = error.errno or errno.EIO
        raise NetnsError(number, f"{what}: {os.strerror(number)}") from None
    return data.raw


def _write_switches(ifname: str, config: LinkConfig) -> None:
    _switch("ipv4", ifname, "arp_notify", "1")
    _switch("ipv6", ifname, "ndisc_notify", "1")
    _switch("ipv6", ifname, "accept_dad", "0")  # the link-local address can be used at once, too
    if not config.accept_ra:
        _switch("ipv6", ifname, "accept_ra", "0")


def _switch(family: str, ifname: str, name: str, value: str) -> None:
    """Write a switch of an interface; where IPv6 is off in the kernel its own do not exist."""
    with contextlib.suppress(OSError):
        fd = os.open(f"/proc/sys/net/{family}/conf/{ifname}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode("ascii"))
        finally:
            os.close(fd)
