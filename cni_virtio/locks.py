"""Reader/writer locks by key, with a limit to the wait; who comes to write is let in first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator


class LockTimeoutError(TimeoutError):
    """Another call held the lock for too long."""


class KeyedLocks:
    """Reader/writer locks by key, which exist only while somebody uses or waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: dict[Hashable, int] = {}
        self._writers: set[Hashable] = set()
        self._waiting_writers: dict[Hashable, int] = {}

    @contextlib.contextmanager
    def shared(self, key: Hashable, patience_s: float) -> Iterator[None]:
        """Hold the key together with other readers. Raises LockTimeoutError."""
        with self._changed:
            self._wait(lambda: not self._busy_for_reader(key), patience_s)
            self._readers[key] = self._readers.get(key, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._decrement(self._readers, key)
                self._changed.notify_all()

    @contextlib.contextmanager
    def exclusive(self, key: Hashable, patience_s: float) -> Iterator[None]:
        """Hold the key alone; new readers queue behind. Raises LockTimeoutError."""
        with self._changed:
            self._waiting_writers[key] = self._waiting_writers.get(key, 0) + 1
            try:
                self._wait(lambda: not self._busy_for_writer(key), patience_s)
                self._writers.add(key)
            finally:
                self._decrement(self._waiting_writers, key)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writers.discard(key)
                self._changed.notify_all()

    def _busy_for_reader(self, key: Hashable) -> bool:
        return key in self._writers or key in self._waiting_writers

    def _busy_for_writer(self, key: Hashable) -> bool:
        return key in self._writers or key in self._readers

    def _wait(self, free: Callable[[], bool], patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while not free():
            if not self._changed.wait(deadline_s - time.monotonic()):
                raise LockTimeoutError(f"still held by another call after {patience_s:g} s")

    @staticmethod
    def _decrement(counts: dict[Hashable, int], key: Hashable) -> None:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
