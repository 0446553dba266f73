"""One process at a time makes or removes a lab."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cni_virtio.ctl.lab.errors import LabError


class Lock:
    """A lock file, held until released or until the process ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._fd: int | None = None

    def take(self) -> None:
        """Take the lock, unless it is held already. Raises LabError naming who has it."""
        if self._fd is not None:
            return
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 20, 0).decode() or "unknown"
            os.close(fd)
            raise LabError(
                f"{self._file.parent} is in use by process {pid}: end it first"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let others have it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
