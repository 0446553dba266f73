"""Which core does what: one forwards, the others make the load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CORES: Final = sorted(os.sched_getaffinity(0))

LOAD_CORE: Final = _CORES[0]
FORWARDER_CORE: Final = _CORES[-1]
BOTH: Final = (LOAD_CORE, FORWARDER_CORE)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and what it starts, on a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
