"""The container's end: a tap in its namespace, or a vhost-user socket in a folder of its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cni_virtio import departure, device_info, folders, links, netns, tap
from cni_virtio.links import LinkConfig, Route
from cni_virtio.netns import NetnsError
from cni_virtio.sandbox import is_same, namespace_of
from cni_virtio.state import Attachment
from dataplane import beneath

log = logging.getLogger(__name__)


class InterfaceError(OSError):
    """Something of an interface could not be made; the text says what and why."""

    def __str__(self) -> str:
        return str(self.strerror)


class Interface(Protocol):
    """An interface while it is being made."""

    @property
    def keeps_packets(self) -> bool:
        """Whether what it sends before its port is there waits for it: it may be set up by then."""

    def make(self) -> None:
        """Make it, with MAC and MTU and without addresses. Raises OSError."""

    def take_fds(self) -> list[int] | None:
        """Hand over the fds that its port is added with, which the caller closes; None if none."""

    def set_up(self, attachment: Attachment, routes: Sequence[Route], /) -> None:
        """Give it addresses and routes, and set it up. Raises NetnsError."""

    def discard(self) -> None:
        """Remove what `make` made, if anything."""


class KernelInterface:
    """A persistent tap in the container's namespace."""

    def __init__(self, attachment: Attachment, netns_fd: int, *, vhost_net: bool) -> None:
        self._attachment = attachment
        self._netns_fd = netns_fd
        self._vhost_net = vhost_net
        self._fds: list[int] = []
        self._made = False

    @property
    def keeps_packets(self) -> bool:
        """A queue that is open keeps packets; behind vhost-net none is, until the port is there."""
        return not self._vhost_net

    def make(self) -> None:
        """Make the tap. Raises NetnsError, with EEXIST if there is an interface of that name."""
        attachment = self._attachment
        queues = tap.create_tap(self._netns_fd, attachment.ifname, attachment.queues)
        self._made = True
        self._fds = tap.for_dataplane(queues, self._netns_fd, vhost_net=self._vhost_net)
        config = LinkConfig(attachment.mac, attachment.mtu)
        links.prepare(self._netns_fd, attachment.ifname, config)

    def take_fds(self) -> list[int] | None:
        """Hand over one fd per queue, or that of the namespace; None once that is done."""
        fds, self._fds = self._fds, []
        return fds or None

    def set_up(self, attachment: Attachment, routes: Sequence[Route]) -> None:
        """Configure all in one round trip."""
        config = LinkConfig(addresses=attachment.ips, routes=routes)
        links.bring_up(self._netns_fd, attachment.ifname, config)

    def discard(self) -> None:
        """Delete the tap."""
        tap.close_all(self._fds)
        if self._made:
            links.delete_link(self._netns_fd, self._attachment.ifname, "tun")
            self._made = False


class SocketInterface:
    """A folder for the vhost-user socket, which the dataplane or the application makes."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._made = False

    @property
    def keeps_packets(self) -> bool:
        """Nothing is set up here."""
        return False

    def make(self) -> None:
        """Make the folder."""
        prepare_socket_folder(self._attachment)
        self._made = True

    def take_fds(self) -> list[int] | None:
        """Have no fds."""
        return None

    def set_up(self, attachment: Attachment, _routes: Sequence[Route]) -> None:
        """Tell the application of its socket; leave addresses and routes to it."""
        device_info.write(attachment)

    def discard(self) -> None:
        """Remove socket and folder."""
        if self._made:
            remove_socket(self._attachment)
            self._made = False


def interface_of(attachment: Attachment, netns_fd: int, *, vhost_net: bool) -> Interface:
    """Return the interface, not yet made, that an attachment asks for."""
    if attachment.interface == "kernel":
        return KernelInterface(attachment, netns_fd, vhost_net=vhost_net)
    return SocketInterface(attachment)


def reopen(attachment: Attachment, *, vhost_net: bool) -> list[int]:
    """Take up again what is there, after a restart of the dataplane; return the port's fds.

    Raises NetnsError or OSError if the namespace, the tap or the folder is gone.
    """
    if attachment.interface != "kernel":
        prepare_socket_folder(attachment)
        return []
    with namespace_of(attachment) as netns_fd:
        if netns_fd is None:
            text = f"the namespace of {attachment.ifname} is gone from {attachment.netns}"
            raise NetnsError(errno.ENOENT, text)
        queues = tap.attach_tap(netns_fd, attachment.ifname, attachment.queues)
        return tap.for_dataplane(queues, netns_fd, vhost_net=vhost_net)


def remove(attachment: Attachment, netns_fd: int | None = None) -> None:
    """Remove the container's end, as far as it is still there; `netns_fd` if it is at hand.

    Raises NetnsError if the kernel refuses.
    """
    if attachment.interface != "kernel":
        remove_socket(attachment)
    elif netns_fd is not None and (not attachment.netns_inode or is_same(netns_fd, attachment)):
        _remove_tap(attachment, netns_fd)
    else:
        with namespace_of(attachment) as found:
            if found is not None:
                _remove_tap(attachment, found)


def _remove_tap(attachment: Attachment, netns_fd: int) -> None:
    if netns.identity(netns_fd) == netns.own_identity():
        return  # the host's own: nothing of a container is in there
    try:
        departure.delete_link(netns_fd, attachment.ifname, "tun")
    except NetnsError as error:
        if error.errno != errno.EPERM:
            raise
        log.warning("%s in %s is left alone: %s", attachment.ifname, attachment.netns, error)


def prepare_socket_folder(attachment: Attachment) -> None:
    """Have the socket's folder there, 0700 and of the application's user. Raises InterfaceError."""
    folder = Path(attachment.socket_path).parent
    try:
        folders.make(folder.parent, 0o711)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        fd = beneath.open_folder(str(folder))
        try:
            found = os.fstat(fd)
            if (found.st_uid, found.st_gid) != (attachment.uid, attachment.gid):
                os.fchown(fd, attachment.uid, attachment.gid)
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
    except OSError as error:
        text = f"agent.socket_dir: folder {folder} for the vhost-user socket: {error.strerror}"
        raise InterfaceError(error.errno or errno.EIO, text) from None


def remove_socket(attachment: Attachment) -> None:
    """Remove the socket, what tells of it, and its folder once that is empty."""
    device_info.remove(attachment)
    path = Path(attachment.socket_path)
    try:
        fd = beneath.open_folder(str(path.parent))
    except OSError:
        return
    try:
        # By the folder's fd: what lies in there is the container's to arrange.
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path.name, dir_fd=fd)
    finally:
        os.close(fd)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
