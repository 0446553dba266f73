"""Starts agents with a fault point at each boundary between the steps of a call.

The steps are those of `cni_virtio.timings`: one more of them is one more fault point. For each line
on stdin an agent is forked, which saves it Python's start, and its pid printed.

The file that FAULT_FILE names says `NUMBER PID…`: at the boundary of that number of the next call,
these processes are killed. It is gone by then. A second line names the boundary from which on
they are counted, in place of the beginning. The boundary SWAPPED is in an upgrade: the
new dataplane has the place of the old one, which has not been told to end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cni_virtio import timings
from cni_virtio.timings import Stopwatch

FAULT_FILE: Final = "CNI_VIRTIO_FAULT_FILE"
SWAPPED: Final = 0
_begin, _step = timings.begin, timings.step


class _Boundaries:
    """Counts them from the beginning of the call under way, which must be the only one."""

    def __init__(self) -> None:
        self._passed: list[str] = []
        self._call: Stopwatch | None = None

    def begin(self) -> Stopwatch:
        self._passed.clear()
        self._call = _begin()
        return self._call

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if timings._current.get() is not self._call or self._call is None:
            yield  # of no call
            return
        self._pass(f"before {name}")
        with _step(name):
            yield
        self._pass(f"after {name}")

    def _pass(self, where: str) -> None:
        self._passed.append(where)
        _kill_at(self._passed)


def _kill_at(passed: Sequence[str]) -> None:
    fault = Path(os.environ[FAULT_FILE])
    if not fault.exists():
        return
    numbers, _, since = fault.read_text().partition("\n")
    number, *pids = map(int, numbers.split())
    if since and since not in passed:
        return
    if number == len(passed) - (passed.index(since) + 1 if since else 0):
        where = passed[-1] if passed else "the swap of an upgrade"
        fault.unlink()
        sys.stderr.write(f"fault: boundary {number}, {where}: killing {pids}\n")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            while not _is_dead(pid):
                time.sleep(0.001)


def _kill_after_swap() -> None:
    from cni_virtio.upgrade import Upgrader

    take_place = Upgrader._take_place

    def swap(upgrader: Upgrader) -> None:
        take_place(upgrader)
        _kill_at(())

    Upgrader._take_place = swap  # type: ignore[assignment, method-assign]


def _is_dead(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def _serve(arguments: list[str]) -> None:
    from cni_virtio import agent, config_yaml, sign_of_life  # noqa: F401 -- what takes long
    from cni_virtio.__main__ import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # which reaps them
    for _ in sys.stdin:
        if pid := os.fork():
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            os.dup2(os.open(os.devnull, flags | os.O_CLOEXEC), fd)
        os._exit(main(arguments))


if __name__ == "__main__":
    _boundaries = _Boundaries()
    timings.begin, timings.step = _boundaries.begin, _boundaries.step
    _kill_after_swap()
    _serve(sys.argv[1:])
