"""Processes that outlive the command that starts them, found again by their namespace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cni_virtio import netns

_POLL_S = 0.02


def start(
    argv: Sequence[str],
    *,
    netns_path: Path,
    log: Path,
    env: Mapping[str, str],
    cwd: Path,
) -> subprocess.Popen[bytes]:
    """Start a process in a namespace, in a session of its own, with its output in a log.

    Raises OSError if it cannot be executed, NetnsError if the namespace cannot be entered.
    """
    fd = netns.open_netns(netns_path)
    try:
        with log.open("ab") as out, netns.entered(fd):
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
    finally:
        os.close(fd)


def inside(netns_paths: Iterable[Path]) -> list[int]:
    """Return the processes that are in one of the namespaces; a path that is none has none."""
    wanted = {place for path in netns_paths if (place := _identity(path)) is not None}
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return sorted(pid for pid in pids if _identity(Path(f"/proc/{pid}/ns/net")) in wanted)


def end(pids: Iterable[int], grace_s: float, only_in: Sequence[Path]) -> list[int]:
    """End processes, by force after `grace_s`; return those that it took force for.

    A process is only signalled while it is in one of the namespaces `only_in`: a pid may be used
    again.
    """
    pids = set(pids)
    _signal(pids, signal.SIGTERM, only_in)
    if not (left := _wait_gone(pids, grace_s, only_in)):
        return []
    _signal(left, signal.SIGKILL, only_in)
    _wait_gone(left, grace_s, only_in)
    return sorted(left)


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log; empty if there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def command_line(pid: int) -> str:
    """Return the words of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # gone, a zombie, or not ours to see
        return None
    return found.st_dev, found.st_ino


def _signal(pids: Iterable[int], number: signal.Signals, only_in: Sequence[Path]) -> None:
    for pid in set(pids).intersection(inside(only_in)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_gone(pids: set[int], timeout_s: float, only_in: Sequence[Path]) -> set[int]:
    deadline = time.monotonic() + timeout_s
    while left := pids.intersection(inside(only_in)):
        if time.monotonic() > deadline:
            return left
        time.sleep(_POLL_S)
    return set()
