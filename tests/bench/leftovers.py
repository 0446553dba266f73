"""What a run should have removed: its namespaces and its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

_NETNS = Path("/run/netns")


def remove() -> list[str]:
    """Remove namespaces and processes of this one that are left, and name them."""
    left = _kill_children()
    if _NETNS.is_dir():
        for space in sorted(_NETNS.glob(f"cv*-{os.getpid()}-*")):
            subprocess.run(["ip", "netns", "del", space.name], check=False)
            left.append(f"namespace {space.name}")
    return left


def _kill_children() -> list[str]:
    """End all children, and those that they leave behind."""
    killed = []
    for pid, name in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        killed.append(f"process {pid} ({name})")
    return killed


def _children() -> list[tuple[int, str]]:
    """List children that run; those that have ended are reaped."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = stat.read_text("utf-8").rpartition(")")
            if int(rest.split()[1]) == os.getpid():
                pid, _, name = head.partition(" (")
                found.append((int(pid), name))
    return found
