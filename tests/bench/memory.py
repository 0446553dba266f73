"""Hugepages for the forwarders and the load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cni_virtio.hugepages import Hugepages

_NEEDED_BYTES: Final = 1400 << 20
"""A forwarder of 1024 MiB, two testpmd of 128 MiB each, and what EAL rounds up."""


class NoHugepagesError(Exception):
    """The machine cannot give them; the text says why."""


@contextmanager
def hugepages(directory: Path) -> Iterator[None]:
    """Provide enough free hugepages, and give those added back.

    What was added is on record in the directory, for the next run to give back after a crash.
    """
    pool = Hugepages(directory)
    try:
        if reason := pool.provide(_NEEDED_BYTES):
            raise NoHugepagesError(reason.partition(";")[0])
        yield
    finally:
        pool.give_back()
