"""The device information file, by which a pod learns of its vhost-user socket.

Device Information Specification 1.1.0 of the Network Plumbing Working Group.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

from cni_virtio import folders
from cni_virtio.state import Attachment

_VERSION: Final = "1.1.0"


class DeviceInfoError(OSError):
    """The file could not be written; the text says which, and why."""

    def __str__(self) -> str:
        return str(self.strerror)


def describe(attachment: Attachment) -> dict[str, Any]:
    """Return what the file says: the socket's path as the container sees it."""
    path = Path(attachment.socket_path)
    if attachment.mount_path:
        path = Path(attachment.mount_path, path.name)
    socket = {"mode": attachment.vhost_mode, "path": str(path)}
    return {"type": "vhost-user", "version": _VERSION, "vhost-user": socket}


def write(attachment: Attachment) -> None:
    """Write the file that the runtime asked for, if it asked; one that is there is left as it is.

    The meta-plugin has put that there, from the device plugin. Raises DeviceInfoError.
    """
    if not attachment.device_info_file:
        return
    path = Path(attachment.device_info_file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folders.make(path.parent, 0o755)
        if path.exists():
            return
        _fill(os.open(path, flags, 0o600), path, _content(attachment))
    except OSError as error:
        text = f"runtimeConfig.CNIDeviceInfoFile: cannot write {path}: {error.strerror}"
        raise DeviceInfoError(error.errno, text) from None


def remove(attachment: Attachment) -> None:
    """Remove the file if it is there and says what `write` has written, or was killed writing."""
    if attachment.device_info_file:
        path = Path(attachment.device_info_file)
        with contextlib.suppress(OSError):
            if _content(attachment).startswith(path.read_bytes()):
                path.unlink()


def _fill(fd: int, path: Path, content: bytes) -> None:
    """Write all of a file that was just made, or leave none: half of one would stay for good."""
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _content(attachment: Attachment) -> bytes:
    return json.dumps(describe(attachment)).encode() + b"\n"
