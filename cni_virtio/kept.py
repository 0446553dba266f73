"""The queues of taps that ports are attached to, kept open here beside the dataplane.

While somebody holds its queues a tap keeps its carrier, and what is sent on it waits. So a
container whose dataplane dies for a moment loses neither packets nor what it knows of its
neighbours, and the next dataplane is given the same queues. After a while without a dataplane
they are let go, and the containers see that they are cut off.
"""

from __future__ import annotations

import fcntl
import logging
import resource
import threading
import time
from collections.abc import Collection
from typing import Final

from cni_virtio import tap
from dataplane.wire import PortSpec

log = logging.getLogger(__name__)

AWAY_S: Final = 5.0
"""How long without a dataplane is short enough for containers not to be told."""

_LINGER_S: Final = 0.05
_TUNGETIFF: Final = 0x800454D2
_IFREQ_BYTES: Final = 40
_SHARE_OF_FDS: Final = 0.5  # of the open files that there may be; the rest is for calls under way


class KeptTaps:
    """Open queues by port; safe to share by threads."""

    def __init__(self, most: int | None = None) -> None:
        self._lock = threading.Lock()
        self._fds: dict[str, list[int]] = {}
        self._discarded: dict[str, list[int]] = {}
        self._closing = threading.Lock()
        self._attention = threading.Event()
        self._let_go_at_s: float | None = None
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = int(limit * _SHARE_OF_FDS) if most is None else most

    def keep(self, name: str, fds: list[int]) -> None:
        """Take over the queues of a port, in place of those kept of it; `fds` is empty then.

        Beyond a share of the open files that there may be, they are closed: what is attached to
        them is found again by its name.
        """
        with self._lock:
            self._discard(name)
            if sum(map(len, self._fds.values())) + len(fds) <= self._most:
                self._fds[name] = fds.copy()
                fds.clear()
        tap.close_all(fds)

    def take(self, spec: PortSpec) -> list[int] | None:
        """Hand over what is kept of a port, if its tap lives and has as many queues as asked for.

        What is of no use is closed. Where there is nothing, nothing holds the queues here any more.
        """
        with self._lock:
            fds = self._fds.pop(spec.name, None) or self._discarded.pop(spec.name, None)
        if fds is None:
            with self._closing:
                return None
        if spec.kind == "tap" and len(fds) == spec.queues and all(map(_is_attached, fds)):
            return fds
        tap.close_all(fds)
        return None

    def has(self, name: str) -> bool:
        """Tell whether a port's queues are kept."""
        with self._lock:
            return name in self._fds

    def retain(self, names: Collection[str]) -> None:
        """Keep only what is of these ports."""
        with self._lock:
            for name in self._fds.keys() - set(names):
                self._discard(name)

    def discard(self, names: Collection[str]) -> None:
        """Keep nothing of these ports any more."""
        with self._lock:
            for name in names:
                self._discard(name)

    def dataplane_is_away(self, away: bool) -> None:
        """Take note that there is no dataplane, or one again."""
        with self._lock:
            self._let_go_at_s = time.monotonic() + AWAY_S if away else None
        self._attention.set()

    def run(self, stopping: threading.Event) -> None:
        """Close what is of no more use, until told to stop: the body of a thread."""
        while not stopping.is_set():
            self._attention.wait(self._patience_s())
            self._attention.clear()
            # A tap that is deleted meanwhile is closed at once; for another the kernel waits
            # until no CPU can be using it.
            stopping.wait(_LINGER_S)
            self._let_go_in_time()
            with self._closing:
                with self._lock:
                    discarded, self._discarded = self._discarded, {}
                for fds in discarded.values():
                    tap.close_all(fds)

    def wake(self) -> None:
        """Have `run` look at once."""
        self._attention.set()

    def _patience_s(self) -> float | None:
        with self._lock:
            if self._let_go_at_s is None:
                return None
            return max(0.0, self._let_go_at_s - time.monotonic())

    def _let_go_in_time(self) -> None:
        with self._lock:
            if self._let_go_at_s is None or time.monotonic() < self._let_go_at_s:
                return
            self._let_go_at_s = None
            if self._fds:
                log.warning(
                    "no dataplane for %g s: the interfaces of %d ports lose their carrier",
                    *(AWAY_S, len(self._fds)),
                )
            for name in list(self._fds):
                self._discard(name)

    def _discard(self, name: str) -> None:
        fds = self._fds.pop(name, None)
        if fds is not None:
            tap.close_all(self._discarded.pop(name, []))
            self._discarded[name] = fds
            self._attention.set()


def _is_attached(fd: int) -> bool:
    """Tell whether the tap of an open queue is still there, whatever it is called by now."""
    try:
        fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ_BYTES))
    except OSError:
        return False
    return True
