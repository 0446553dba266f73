"""The C allocator, told that one thread at a time allocates, as Python's lock has it."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""From malloc.h of glibc."""


def share_one_arena() -> None:
    """Have all threads allocate from one arena; to be called while there is one thread.

    glibc gives each thread an arena of its own, up to eight for each core. They spare threads the
    wait for each other, which Python's lock has them do anyway, and none gives to the others what
    it has free: with threads that come and go with the calls, memory grows for thousands of calls.
    Another libc than glibc has no arenas, and is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
