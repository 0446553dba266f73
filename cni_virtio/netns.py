"""Network namespaces: entering them, telling them apart, making and removing named ones.

A namespace is a property of the thread. `entered` takes the calling thread there and back; sockets
opened inside stay in that namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from cni_virtio import descriptors

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MNT_DETACH: Final = 2
_NS_GET_NSTYPE: Final = 0xB703
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_SO_NETNS_COOKIE: Final = 71
_NAMED: Final = Path("/run/netns")
_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


class NetnsError(OSError):
    """A request to the kernel failed; the text says what was wanted and why it did not work."""

    def __str__(self) -> str:
        return str(self.strerror)


class ThreadLostError(BaseException):
    """The thread could not return to its own namespace and must end at once.

    Not an Exception: no handler that goes on after errors may keep such a thread.
    """


@contextlib.contextmanager
def entered(netns_fd: int | None) -> Iterator[None]:
    """Run the body with the calling thread inside the namespace; None means its own.

    Raises NetnsError if the namespace cannot be entered, ThreadLostError if there is no way back.
    """
    if netns_fd is None:
        yield
        return
    home = open_netns("/proc/thread-self/ns/net")
    try:
        _setns(netns_fd, "cannot enter the network namespace")
        try:
            yield
        finally:
            try:
                _setns(home, "cannot return")
            except NetnsError as error:
                raise ThreadLostError(f"thread lost in a foreign namespace: {error}") from error
    finally:
        os.close(home)


def _setns(fd: int, what: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NetnsError(number, f"{what}: {os.strerror(number)}")


def open_netns(path: str | Path) -> int:
    """Open a namespace by its path (O_CLOEXEC). Raises NetnsError naming the path."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        number = error.errno or errno.EIO
        text = f"network namespace {path}: {os.strerror(number)}{descriptors.remedy(number)}"
        raise NetnsError(number, text) from None


def is_netns(fd: int) -> bool:
    """Tell whether the open file is a network namespace."""
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def identity(netns_fd: int) -> int:
    """Return the inode by which the kernel tells this namespace from all others alive."""
    return os.fstat(netns_fd).st_ino


def cookie(netns_fd: int) -> int:
    """Return the number that the kernel gives to no other namespace before it reboots.

    Socket option SO_NETNS_COOKIE of linux/sock_diag.h, Linux 5.14. Raises NetnsError.
    """
    with entered(netns_fd), socket.socket(socket.AF_UNIX) as sock:
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError as error:
            number = error.errno or errno.EIO
            text = f"cannot read the cookie of a network namespace: {os.strerror(number)}"
            raise NetnsError(number, text) from None
    return int.from_bytes(raw, sys.byteorder)


def own_identity() -> int:
    """Return the identity of the calling thread's namespace."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def create_named(name: str) -> Path:
    """Make a namespace known as `name` (as `ip netns add` does) with `lo` up; return its path."""
    path = _NAMED / name
    _NAMED.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        _in_new_thread(lambda: _unshare_to(path))
    except BaseException:
        path.unlink()
        raise
    return path


def delete_named(name: str) -> bool:
    """Remove the name of a namespace, and with it the namespace if nothing else holds it."""
    path = _NAMED / name
    _libc.umount2(str(path).encode(), _MNT_DETACH)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _unshare_to(path: Path) -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NetnsError(number, f"no new network namespace: {os.strerror(number)}")
    _set_lo_up()
    source = b"/proc/thread-self/ns/net"
    if _libc.mount(source, str(path).encode(), b"none", _MS_BIND, None) != 0:
        number = ctypes.get_errno()
        raise NetnsError(number, f"cannot mount {path}: {os.strerror(number)}")


def _set_lo_up() -> None:
    # Not by netlink: the users of netlink are built on this module.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _in_new_thread(function: Callable[[], _T]) -> _T:
    """Run the function in a thread that ends with it, whatever it did to its namespace."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
