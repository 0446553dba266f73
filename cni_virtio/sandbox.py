"""The namespaces that attachments are in: found again by their paths, told alive from gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from cni_virtio import netns
from cni_virtio.netns import NetnsError
from cni_virtio.state import Attachment, Key

_PROC: Final = Path("/proc")
_CAP_SYS_PTRACE: Final = 19


@contextlib.contextmanager
def namespace_of(attachment: Attachment) -> Iterator[int | None]:
    """Open the namespace of an attachment; None if it is gone or another is at its path."""
    try:
        fd = netns.open_netns(attachment.netns)
    except NetnsError:
        yield None
        return
    try:
        yield fd if is_same(fd, attachment) else None
    finally:
        os.close(fd)


def is_same(netns_fd: int, attachment: Attachment) -> bool:
    """Tell whether an open namespace is the one that the attachment was made in."""
    if not netns.is_netns(netns_fd) or netns.identity(netns_fd) != attachment.netns_inode:
        return False
    return not attachment.netns_cookie or netns.cookie(netns_fd) == attachment.netns_cookie


def is_visible(path: str, netns_fd: int) -> bool:
    """Tell whether the path leads to the open namespace here too, not only where it came from."""
    try:
        return Path(path).stat().st_ino == netns.identity(netns_fd)
    except OSError:
        return False


def can_tell() -> bool:
    """Tell whether this process may look into all others, as `gone` must."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    effective = int(status.partition("\nCapEff:")[2].split("\n", 1)[0], 16)
    return bool(effective >> _CAP_SYS_PTRACE & 1)


def gone(attachments: Iterable[Attachment], own_pids: Collection[int]) -> list[Attachment]:
    """Return those whose namespace nothing holds any more: no path, process, mount, open file.

    What the processes `own_pids` hold open does not count. Where the path of a namespace never led
    there from here, that it does not now says nothing: such a one is not returned. Reads all of
    /proc if a path leads nowhere; what it may not read there holds nothing, so see `can_tell`.
    """
    suspects: dict[int, list[Attachment]] = {}
    for attachment in attachments:
        with namespace_of(attachment) as found:
            if found is None and attachment.netns_seen:
                suspects.setdefault(attachment.netns_inode, []).append(attachment)
    if not suspects:
        return []
    held: set[Key] = set()
    mounts_seen: set[int] = set()
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            for inode, path in _holders(process, int(process.name) in own_pids, mounts_seen):
                if inode in suspects:
                    held |= _that_are_at(path, suspects[inode])
    return [each for same in suspects.values() for each in same if each.key not in held]


def _holders(process: Path, is_own: bool, mounts_seen: set[int]) -> Iterator[tuple[int, Path]]:
    """Give the inodes of all that may be a namespace and that a process keeps, each with a path."""
    with contextlib.suppress(OSError):  # it may end at any time
        renews = _renews_leases(process)
        threads = list((process / "task").iterdir())
        if not renews:
            yield from _namespaces(threads)
        for thread in threads:  # the first may have ended, and the others go on
            with contextlib.suppress(OSError):
                mount_namespace = (thread / "ns" / "mnt").stat().st_ino
                if mount_namespace not in mounts_seen:
                    yield from _mounted(thread)
                    mounts_seen.add(mount_namespace)
                if not (is_own or renews):
                    yield from _open_files(thread)
                return


def _renews_leases(process: Path) -> bool:
    """Tell whether it is the host's daemon of the dhcp IPAM plugin.

    A thread of it stays in the namespace of each of its clients until the client's DEL.
    """
    program, _, words = (process / "cmdline").read_bytes().partition(b"\0")
    if not (program.endswith(b"/dhcp") and words.startswith(b"daemon\0")):
        return False
    return _inode_in(os.fspath((process / "ns" / "net").readlink())) == netns.own_identity()


def _namespaces(threads: Iterable[Path]) -> Iterator[tuple[int, Path]]:
    """Read what namespace each thread is in."""
    for thread in threads:
        link = thread / "ns" / "net"
        with contextlib.suppress(OSError):  # one that ends must not hide the others
            yield _inode_in(os.fspath(link.readlink())), link


def _mounted(process: Path) -> Iterator[tuple[int, Path]]:
    """Read proc_pid_mountinfo(5) for mounted namespaces."""
    for line in (process / "mountinfo").read_bytes().splitlines():
        root, point = line.split(b" ", 5)[3:5]
        if root.startswith(b"net:["):
            plain = point.decode("unicode_escape").encode("latin-1")  # \\040 for a space, and so on
            yield _inode_in(root.decode()), Path(os.fsdecode(os.fsencode(process / "root") + plain))


def _open_files(process: Path) -> Iterator[tuple[int, Path]]:
    """Read the inode of each open file (proc_pid_fdinfo(5)): to stat one could hang, as on NFS."""
    for entry in (process / "fdinfo").iterdir():
        with contextlib.suppress(OSError):
            inode = entry.read_text().partition("\nino:")[2].split("\n", 1)[0].strip()
            yield int(inode or 0), process / "fd" / entry.name


def _inode_in(name: str) -> int:
    """Read `net:[4026532000]`."""
    digits = name.removeprefix("net:[").removesuffix("]")
    return int(digits) if digits.isdecimal() else 0


def _that_are_at(path: Path, same_inode: Sequence[Attachment]) -> set[Key]:
    """Tell whose namespace is at a path."""
    with contextlib.suppress(OSError):
        if path.stat().st_dev != Path("/proc/self/ns/net").stat().st_dev:
            return set()  # of another file system: to open it might block
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return {each.key for each in same_inode if is_same(fd, each)}
        finally:
            os.close(fd)
    return set()
