"""Folders and their entries, opened without being led elsewhere by a link that lies there."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_SYS_OPENAT2: Final = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(folder_fd: int, name: str, flags: int) -> int:
    """Open `name`, which no link and no `..` may lead out of the folder; close on exec.

    :raises OSError: among others ELOOP, if there is a symbolic link, and EXDEV, if it leads out.
    """
    how = _OpenHow(
        flags | os.O_CLOEXEC,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )
    path = os.fsencode(name)
    while True:
        fd: int = _libc.syscall(
            _SYS_OPENAT2, folder_fd, path, ctypes.byref(how), ctypes.sizeof(how)
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number), name)


def open_folder(path: str) -> int:
    """Open a folder, not through a link in its place; those above it are trusted.

    :raises OSError: there is none, or something else.
    """
    above, name = os.path.split(os.path.normpath(path))
    above_fd = os.open(above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(above_fd, name or ".", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(above_fd)


def open_entry(folder_fd: int, name: str) -> int:
    """Take hold of what has this name at present, as it is: the fd is for fstat and `own_path`.

    :raises OSError: nothing is there, or a symbolic link.
    """
    return open_beneath(folder_fd, name, os.O_PATH)


def own_path(fd: int) -> str:
    """Give the path that leads to what an fd holds, whatever lies at its name by now."""
    return f"/proc/self/fd/{fd}"
