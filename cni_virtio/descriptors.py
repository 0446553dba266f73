"""The agent's file descriptors: how many a call needs, and whether there are as many."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Iterator
from typing import Final

from cni_virtio.spec import CniError, Code

_OF_A_CALL: Final = 24
"""Pipes of an IPAM plugin, namespaces, netlink sockets, a record; those of a tap's queues extra."""

_KEPT_FREE: Final = 32
"""For what removes things, and for operators: a DEL and the doctor work when an ADD may not."""


def remedy(number: int) -> str:
    """What to do about an errno, to be put behind its text; "" if it is no lack of descriptors."""
    if number == errno.EMFILE:
        return ": the agent is out of file descriptors, raise its limit (LimitNOFILE)"
    if number == errno.ENFILE:
        return ": the machine is out of file descriptors, raise fs.file-max"
    return ""


def raise_limit() -> None:
    """Take as many as the process may: the soft limit is for those that use select()."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Descriptors:
    """Lets a call begin only if it will not run out of descriptors half-way.

    What an ADD has made could not be removed without any, an address that it holds for example.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._promised = 0

    @contextlib.contextmanager
    def for_call(self, queues: int) -> Iterator[None]:
        """Hold what an ADD of so many queues may open at a time. Raises CniError 11."""
        count = _OF_A_CALL + queues
        with self._lock:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            in_use = _in_use()
            if in_use + self._promised + count + _KEPT_FREE > limit:
                what = f"{in_use} of {limit} file descriptors are in use"
                with_others = f", and {self._promised} promised" if self._promised else ""
                msg = f"the agent: {what}{with_others}: raise its limit (LimitNOFILE)"
                raise CniError(Code.TRY_AGAIN_LATER, msg)
            self._promised += count
        try:
            yield
        finally:
            with self._lock:
                self._promised -= count


def _in_use() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - half the time of iterdir
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # not one is left to look with
