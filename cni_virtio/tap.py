"""Persistent taps: the kernel's end of a container's interface (the tun driver's ioctls).

A tap is made inside the namespace it serves and under its final name, so it is never moved nor
renamed, and an agent that dies half-way leaves nothing in the host. It is persistent: when the
dataplane goes, the interface stays with its addresses and routes, without carrier, until somebody
attaches to its queues again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Final

from cni_virtio import descriptors
from cni_virtio.netns import NetnsError, entered

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_TUN_EXCL: Final = 0x8000

MAX_QUEUES: Final = 256  # the tun driver's own limit

_REMEDY: Final = {
    errno.ENOENT: f"{_TUN} is missing: load the tun module, or mknod it (character device 10:200)",
    errno.EACCES: f"no access to {_TUN}: allow device 10:200 to the agent",
    errno.EPERM: "not permitted: the agent needs CAP_NET_ADMIN in the namespace",
    errno.EINVAL: (
        "there is an interface of that name with another number of queues, or no tap:"
        " delete it (ip link delete) or choose another name"
    ),
    errno.EBUSY: "it exists already, or another process holds its queues",
}


def create_tap(netns_fd: int | None, ifname: str, queues: int) -> list[int]:
    """Make the persistent tap `ifname` in the namespace and return one open fd per queue.

    Raises NetnsError with EBUSY or EEXIST if an interface of that name exists; nothing is left
    behind on failure. The caller owns the fds.
    """
    with entered(netns_fd):
        if _index(ifname) is not None:
            raise NetnsError(errno.EEXIST, f"interface {ifname} exists already")
        fds = _open_queues(ifname, queues, _IFF_TUN_EXCL)
    try:
        fcntl.ioctl(fds[0], _TUNSETPERSIST, 1)
    except OSError as error:
        close_all(fds)  # not persistent yet: the tap goes with its last queue
        raise _explained(error, f"tap {ifname}") from None
    return fds


def attach_tap(netns_fd: int | None, ifname: str, queues: int) -> list[int]:
    """Open the queues of the tap `ifname`, which exists already, after its last user went.

    Raises NetnsError: ENODEV if there is no such interface, EBUSY while others hold its queues,
    EINVAL if it has been made for another number of queues or is no tap.
    """
    with entered(netns_fd):
        before = _index(ifname)
        if before is None:
            raise NetnsError(errno.ENODEV, f"interface {ifname} is gone from its namespace")
        fds = _open_queues(ifname, queues, 0)
        if _index(ifname) != before:  # it vanished in between, and TUNSETIFF made a new one
            close_all(fds)
            raise NetnsError(errno.ENODEV, f"interface {ifname} vanished from its namespace")
    return fds


def create_or_attach(ifname: str, queues: int) -> tuple[list[int], bool]:
    """Make a tap of the host, or take up the one of that name.

    Returns one open fd per queue, and whether the tap has been made by this call. Raises
    NetnsError as the two ways do.
    """
    try:
        return create_tap(None, ifname, queues), True
    except NetnsError as error:
        if error.errno not in (errno.EEXIST, errno.EBUSY):
            raise
    return attach_tap(None, ifname, queues), False


def for_dataplane(fds: list[int], netns_fd: int | None, *, vhost_net: bool) -> list[int]:
    """Turn the open queues of a tap into the fds that its port is added with.

    With vhost-net that is the namespace: the dataplane opens the queues itself, once they are
    closed here. The caller owns what is returned, and not `fds` any more.
    """
    if not vhost_net:
        return fds
    close_all(fds)
    if netns_fd is not None:
        return [os.dup(netns_fd)]
    return [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]


def close_all(fds: list[int]) -> None:
    """Close every fd of the list and empty it, so that a second call does no harm."""
    while fds:
        with contextlib.suppress(OSError):
            os.close(fds.pop())


def _index(ifname: str) -> int | None:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        return None


def _open_queues(ifname: str, queues: int, extra_flags: int) -> list[int]:
    """Open one fd per queue in the thread's own namespace; EXCL holds for the first only."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    name = ifname.encode()
    fds: list[int] = []
    try:
        for queue in range(queues):
            fds.append(os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            wanted = flags | (extra_flags if queue == 0 else 0)
            fcntl.ioctl(fds[-1], _TUNSETIFF, struct.pack("16sH22x", name, wanted))
    except OSError as error:
        close_all(fds)
        raise _explained(error, f"tap {ifname}") from None
    return fds


def _explained(error: OSError, what: str) -> NetnsError:
    number = error.errno or errno.EIO
    reason = _REMEDY.get(number, os.strerror(number))
    return NetnsError(number, f"{what}: {reason}{descriptors.remedy(number)}")
