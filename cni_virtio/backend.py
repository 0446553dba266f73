"""How kernel interfaces are reached: through vhost-net, or by reading and writing their taps."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dataplane.specs import MAX_FDS

Name = Literal["vhost-net", "tap"]
Setting = Literal["auto", "vhost-net", "tap"]

VHOST_NET: Final = Path("/dev/vhost-net")
_VHOST_GET_FEATURES: Final = 0x8008AF00  # needs no owner, and so starts no kernel thread
_MAX_QUEUES: Final[dict[Name, int]] = {
    "vhost-net": 8,  # of DPDK's virtio-user (VIRTIO_MAX_VIRTQUEUE_PAIRS)
    "tap": MAX_FDS,
}
_DEVARGS_SYNTAX: Final = frozenset(',=[]"\\')
_REMEDY: Final = {
    errno.ENOENT: "is missing: modprobe vhost_net",
    errno.ENODEV: "has no driver behind it: modprobe vhost_net",
    errno.ENXIO: "has no driver behind it: modprobe vhost_net",
    errno.EACCES: "may not be opened: allow the device to this user (root owns it, mode 0600)",
    errno.EPERM: "may not be opened: allow device 10:238 in the cgroup of this container or unit",
    errno.EMFILE: "cannot be opened, out of file descriptors: raise the limit (LimitNOFILE)",
    errno.ENOTTY: "is something else than the kernel's vhost-net: remove it and modprobe vhost_net",
}


class BackendError(Exception):
    """vhost-net is demanded and cannot be had; the text says why and what to do."""


@dataclass(frozen=True)
class Backend:
    """What has been decided; `reason` says why it is not vhost-net where either would do."""

    name: Name = "tap"
    reason: str = ""

    @property
    def is_vhost_net(self) -> bool:
        """Whether kernel interfaces are behind the kernel's vhost-net."""
        return self.name == "vhost-net"

    @property
    def max_queues(self) -> int:
        """Queue pairs that one interface can have."""
        return _MAX_QUEUES[self.name]

    def queues_problem(self, queues: int) -> str:
        """Say why an interface cannot have that many queue pairs; "" if it can."""
        if queues <= self.max_queues:
            return ""
        more = _MAX_QUEUES["tap"]
        hint = f"; dataplane.backend: tap takes up to {more}" if self.max_queues < more else ""
        return f"{queues} is more than the maximum of {self.max_queues} on {self.name}{hint}"

    def ifname_problem(self, ifname: str) -> str:
        """Say why an interface cannot have that name; "" if it can."""
        if self.is_vhost_net and (found := sorted(_DEVARGS_SYNTAX & set(ifname))):
            return f"{ifname!r} has {found[0]!r} in it, which separates DPDK's device arguments"
        return ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


def choose(setting: Setting, device: Path = VHOST_NET) -> Backend:
    """Decide. Raises BackendError if vhost-net is demanded and does not work."""
    if setting == "tap":
        return Backend("tap")
    problem = _problem(device)
    if not problem:
        return Backend("vhost-net")
    if setting == "vhost-net":
        raise BackendError(problem)
    return Backend("tap", f"vhost-net: {problem}")


def _problem(device: Path) -> str:
    """Say why the device does not work; "" if it does."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(fd, _VHOST_GET_FEATURES, bytes(8))
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or errno.EIO
        return f"{device} {_REMEDY.get(number, f'does not work: {os.strerror(number)}')}"
    return ""
