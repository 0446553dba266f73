"""Folders with the permissions that are asked for, whatever the umask."""

from __future__ import annotations

import contextlib
from pathlib import Path


def make(path: Path, mode: int) -> None:
    """Make a folder, and those above it that are missing; what is there stays as it is.

    :raises OSError: it cannot be made.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make(path.parent, mode)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(mode)
