"""One call in a thread of its own while this one does something else."""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Meanwhile(Generic[_T]):
    """Begins the call at once; the thread serves nothing else and ends with it.

    Not a threading.Thread: to start one waits for it to run, which costs a call 0.1 ms and more.
    """

    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self._result: list[_T] = []
        self._error: BaseException | None = None
        self._under_way = threading.Lock()
        self._under_way.acquire()
        _thread.start_new_thread(contextvars.copy_context().run, (self._run,))

    def join(self) -> None:
        """Wait for the end, whatever it is."""
        with self._under_way:
            return

    def ended(self, patience_s: float) -> bool:
        """Wait for the end so long at most, and tell whether it has come."""
        if not self._under_way.acquire(timeout=patience_s):
            return False
        self._under_way.release()
        return True

    def result(self) -> _T:
        """Wait, and return what the call returned or raise what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._under_way.release()
