"""Unix sockets made, probed and handed over without being tricked by what lies at their path."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane import beneath
from dataplane.fields import Code, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UCRED = struct.Struct("3i")
_BACKLOG = 128


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """Give the pid and uid of the process at the other end."""
    pid, uid, _gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return pid, uid


@contextmanager
def private_umask() -> Iterator[None]:
    """Have new sockets start as 0600. The umask belongs to the process: main thread only."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def who_serves(path: str) -> str | None:
    """Say which process listens at a socket's path; None if the path is free or stale.

    :raises WireError: its directory cannot be used.
    :raises OSError: the path cannot be probed.
    """
    try:
        with _parent(path) as directory:
            return _who_serves(Path(path).name, directory)
    except WireError as e:
        if e.code == Code.NOT_FOUND:
            return None
        raise


def _who_serves(name: str, directory: int) -> str | None:
    try:
        entry = beneath.open_entry(directory, name)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    try:
        # connect() would follow a link that was put there since.
        return _listening_at(beneath.own_path(entry))
    finally:
        os.close(entry)


def _listening_at(path: str) -> str | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return None
        except BlockingIOError:
            return "pid unknown: it accepts no connections at present"
        return f"pid {peer_credentials(probe)[0]}"


def listen(path: str) -> socket.socket:
    """Listen at `path`, mode 0600, in place of a socket that a dead process left there.

    :raises WireError: `exists`, if a live dataplane or something else has the path.
    :raises OSError: the directory or the socket cannot be used.
    """
    with _parent(path) as directory:
        # Two that start at once must not each take the other's fresh socket for a stale one.
        fcntl.flock(directory, fcntl.LOCK_EX)
        refuse_if_served(path)
        _remove_stale(path, directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with private_umask():
                listener.bind(path)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    return listener


def refuse_if_served(path: str) -> None:
    """Make sure that no live process listens at `path`.

    :raises WireError: `exists`, naming the process.
    """
    if who := who_serves(path):
        raise WireError(Code.EXISTS, f"another dataplane ({who}) is already serving {path}")


def remove_stale(path: str) -> None:
    """Remove a socket that a dead process left at `path`; nothing there is fine.

    :raises WireError: `exists`, if something else is there or a live process listens;
        `not_found`, if there is no directory for it.
    """
    with _parent(path) as directory:
        _remove_stale(path, directory)


def _remove_stale(path: str, directory: int) -> None:
    name = Path(path).name
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise WireError(Code.EXISTS, f"{path} exists and is not a socket: remove it")
    if who := _who_serves(name, directory):
        raise WireError(Code.EXISTS, f"another process ({who}) already listens at {path}")
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError as e:
        raise WireError(Code.EXISTS, f"{path} cannot be removed: {e.strerror}") from e


def hand_over(path: str, uid: int, gid: int) -> None:
    """Give a socket that this process has just made to `uid` and `gid`, mode 0600.

    The directory may belong to a container, which may put something else at the path meanwhile;
    so what is opened is checked, and that same inode is changed.

    :raises WireError: `io`, if it is not our socket or cannot be changed.
    """
    with _parent(path) as directory:
        try:
            fd = beneath.open_entry(directory, Path(path).name)
        except OSError as e:
            raise WireError(Code.IO, f"{path}: the new socket is gone: {e.strerror}") from e
        try:
            made = os.fstat(fd)
            ours = stat.S_ISSOCK(made.st_mode) and made.st_uid == os.geteuid()
            if not ours or made.st_nlink != 1:
                raise WireError(Code.IO, f"{path}: is not the socket that was just made there")
            # Mode first: after the change of owner it is the container's to set.
            Path(beneath.own_path(fd)).chmod(0o600)
            os.chown(beneath.own_path(fd), uid, gid)
        except OSError as e:
            raise WireError(Code.IO, f"{path}: cannot give it to {uid}:{gid}: {e.strerror}") from e
        finally:
            os.close(fd)


@contextmanager
def _parent(path: str) -> Iterator[int]:
    parent = str(Path(path).parent)
    try:
        fd = beneath.open_folder(parent)
    except OSError as e:
        reason = f"the directory {parent} cannot be used for a socket: {e.strerror}"
        code = Code.NOT_FOUND if isinstance(e, FileNotFoundError) else Code.IO
        raise WireError(code, reason) from e
    try:
        yield fd
    finally:
        os.close(fd)
