"""What a machine has of the things that a lab makes, to compare before and after."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from dataclasses import dataclass, fields
from pathlib import Path

from cni_virtio import netns
from cni_virtio.ctl.checks import Verdict
from cni_virtio.ctl.lab import processes
from cni_virtio.ctl.lab.paths import BASE

_PR_SET_CHILD_SUBREAPER = 36
_FOLDERS = ("/run/cni-virtio-lab", "/run/cni-virtio", "/run/dpdk", "/dev/hugepages", "/dev/shm")
_NETNS = Path("/run/netns")
_TITLES = {
    "namespaces": "network namespaces",
    "links": "links, taps",
    "processes": "processes",
    "files": "sockets, files, mounts",
    "hugepages": "hugepages reserved",
}


def adopt_descendants() -> None:
    """Become the parent of every process that this one starts, also of those left behind."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class Snapshot:
    """What there is of each kind, by name; other programs' namespaces are left out."""

    namespaces: frozenset[str]
    links: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]
    hugepages: frozenset[str]

    @classmethod
    def take(cls, lab_name: str) -> Snapshot:
        """Look at the machine and at what a lab of that name would have."""
        spaces = [name for name in _names(_NETNS) if name.startswith(f"{lab_name}-")]
        return cls(
            namespaces=frozenset(spaces),
            links=frozenset([*_links(None), *(link for name in spaces for link in _links(name))]),
            processes=frozenset([*_children(), *_inside(spaces)]),
            files=frozenset(_files(lab_name)),
            hugepages=frozenset(
                f"{size} #{number}"
                for size, count in hugepage_counts().items()
                for number in range(count)
            ),
        )

    def compare(self, before: Snapshot, after: Snapshot) -> dict[str, Verdict]:
        """Judge by kind whether of what was made between `before` and now nothing is left."""
        verdicts = {}
        for field in fields(self):
            was, made, now = (getattr(at, field.name) for at in (before, self, after))
            verdicts[_TITLES[field.name]] = _verdict(made - was, now - was)
        return verdicts


def _verdict(made: frozenset[str], left: frozenset[str]) -> Verdict:
    if left:
        return Verdict(f"{len(left)} left", False, f"left: {', '.join(sorted(left)[:5])}")
    return Verdict(f"{len(made)} made, 0 left")


def _links(netns_name: str | None) -> list[str]:
    """Links of the machine's own namespace or of a named one; none if it is gone."""
    if netns_name is None:
        return [name for _, name in socket.if_nameindex()]
    try:
        fd = netns.open_netns(_NETNS / netns_name)
    except netns.NetnsError:
        return []
    try:
        with netns.entered(fd):
            return [f"{name} in {netns_name}" for _, name in socket.if_nameindex() if name != "lo"]
    finally:
        os.close(fd)


def hugepage_counts() -> dict[str, int]:
    """Return how many pages of each size the machine has reserved."""
    found: dict[str, int] = {}
    for folder in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*")):
        with contextlib.suppress(OSError, ValueError):
            found[folder.name] = int((folder / "nr_hugepages").read_text())
    return found


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def _children() -> list[str]:
    """Children of this process, by pid and name; what has ended is reaped, not counted."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                head, _, rest = (entry / "stat").read_text().rpartition(")")
                if int(rest.split()[1]) == os.getpid():
                    found.append(head.replace("(", ""))
    return found


def _inside(spaces: list[str]) -> list[str]:
    """Processes in namespaces, by pid and name, as children are."""
    found = []
    for pid in processes.inside([_NETNS / name for name in spaces]):
        with contextlib.suppress(OSError):
            head, _, _ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            found.append(head.replace("(", ""))
    return found


def _files(lab_name: str) -> list[str]:
    """Entries of the folders that such programs use, and mounts and unix sockets of the lab."""
    entries = [f"{folder}/{name}" for folder in _FOLDERS for name in _names(Path(folder))]
    entries += [str(path) for path in (BASE / lab_name).rglob("*")]
    mine = f"/{lab_name}"
    for table in ("/proc/self/mounts", "/proc/net/unix"):
        with contextlib.suppress(OSError):
            lines = Path(table).read_text().splitlines()
            words = [word for line in lines for word in line.split() if word.startswith("/")]
            entries += [word for word in words if mine in word or "huge" in word]
    return entries
