"""IPAM plugins that outlive the agent that had started them.

One that is still choosing addresses leases them after all. They are freed once it has ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cni_virtio import ipam
from cni_virtio.spec import CniError, Code
from cni_virtio.state import Attachment

log = logging.getLogger(__name__)

_PROC: Final = Path("/proc")
_LOOK_AGAIN_S: Final = 0.05
_DEATH_S: Final = 2.0


def await_end(attachment: Attachment, patience_s: float = ipam.DEADLINE_S) -> None:
    """Wait until no plugin chooses addresses for the attachment; kill one that takes too long.

    Only for an attachment whose ADD is not under way. Reads all of /proc. Raises CniError 11 if
    one does not end even so, as when its disk does not answer.
    """
    if attachment.ipam_type is None:
        return
    try:
        plugin = ipam.find(attachment.ipam_type, _path(attachment))
    except CniError:
        return
    if _ends(plugin, attachment, patience_s):
        return
    who = "/".join(attachment.key)
    log.warning("%s: %s outlived its agent and does not end, killed", who, plugin)
    for pid in _adding(plugin, attachment):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if not _ends(plugin, attachment, _DEATH_S):
        msg = f"{plugin} still chooses addresses for {who}, and cannot be killed"
        raise CniError(Code.TRY_AGAIN_LATER, msg)


def _ends(plugin: Path, attachment: Attachment, patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while any(_adding(plugin, attachment)):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _path(attachment: Attachment) -> list[str]:
    return [folder for folder in attachment.cni_path.split(":") if folder]


def _adding(plugin: Path, attachment: Attachment) -> Iterator[int]:
    """Give the processes of the plugin that carry out an ADD for the attachment."""
    variables = ("CNI_COMMAND=ADD", *map("=".join, zip(_KEY, attachment.key, strict=True)))
    wanted = {os.fsencode(variable) for variable in variables}
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # it may end at any time
                words = (process / "cmdline").read_bytes().split(b"\0")[:2]  # a script's is second
                if os.fsencode(plugin) not in words:
                    continue
                if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                    yield int(process.name)


_KEY: Final = ("CNI_CONTAINERID", "CNI_IFNAME")
