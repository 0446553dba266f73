"""One thread of a process held still while the others go on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PTRACE_DETACH: Final = 17
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def thread_named(pid: int, prefix: str) -> int:
    """Give the thread of a process whose name begins so."""
    (found,) = (
        int(task.name)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().startswith(prefix)
    )
    return found


@contextmanager
def held(tid: int) -> Iterator[None]:
    _ptrace(_PTRACE_SEIZE, tid)
    try:
        _ptrace(_PTRACE_INTERRUPT, tid)
        os.waitpid(tid, _WALL)
        yield
    finally:
        _ptrace(_PTRACE_DETACH, tid)


def _ptrace(request: int, tid: int) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(tid), None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
