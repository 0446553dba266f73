"""The kernel's neighbour tables: one limit for all namespaces together, which a mesh may exceed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_LIMITS = {4: "net/ipv4/neigh/default/gc_thresh3", 6: "net/ipv6/neigh/default/gc_thresh3"}
_SPARE = 1.5


def shortage(version: int, entries: int) -> str:
    """Say what to do if the kernel cannot hold so many neighbours; empty if it can."""
    limit = _limit(version)
    if limit is None or entries <= limit:
        return ""
    name = _LIMITS[version].replace("/", ".")
    return (
        f"the kernel holds {limit} IPv{version} neighbours in all namespaces together, this mesh "
        f"has {entries}: sysctl -w {name}={_enough(entries)}"
    )


@contextlib.contextmanager
def room_for(version: int, entries: int) -> Iterator[None]:
    """Have the kernel hold so many neighbours during the body. Raises OSError if not permitted."""
    before = _limit(version)
    if before is None or entries <= before:
        yield
        return
    file = Path("/proc/sys") / _LIMITS[version]
    file.write_text(str(_enough(entries)))
    try:
        yield
    finally:
        file.write_text(str(before))


def _limit(version: int) -> int | None:
    try:
        return int((Path("/proc/sys") / _LIMITS[version]).read_text())
    except (OSError, ValueError):
        return None


def _enough(entries: int) -> int:
    return int(entries * _SPARE)
