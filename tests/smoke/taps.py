"""Kernel taps as the agent makes them: in the container's netns, under their final name."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.client import DataplaneClient
    from dataplane.specs import PortSpec
    from tests.smoke.netns import Netns

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000


def open_tap(space: Netns, ifname: str, queues: int) -> list[int]:
    """Make a tap inside and open its queues; it goes when the last of them is closed."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)

    def open_queue() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", ifname.encode(), flags))
        return fd

    return space.inside(lambda: [open_queue() for _ in range(queues)])


def add_tap_port(
    control: DataplaneClient, spec: PortSpec, space: Netns, ifname: str = "eth0"
) -> None:
    """Make a tap inside with as many queues as its port has, and add the port."""
    fds = open_tap(space, ifname, spec.queues)
    try:
        control.port_add(spec, fds)
    finally:
        for fd in fds:
            os.close(fd)
