"""A fuzzer's input as a script: its steps are divided by bytes that no UTF-8 text has."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

SEPARATOR: Final = b"\xff"
MAX_STEPS: Final = 32
MAX_DESCRIPTORS: Final = 130
_CLONE_NEWNET: Final = 0x40000000


class Step(NamedTuple):
    """What to do, as one letter, and with what."""

    kind: str
    payload: bytes

    @property
    def number(self) -> int:
        """The payload as a small number: its first byte, digits as what they say."""
        text = self.payload[:3]
        if text.isdigit():
            return int(text)
        return text[0] if text else 0


def steps(data: bytes) -> Iterator[Step]:
    """Give the steps of a script; any bytes are one."""
    for part in data.split(SEPARATOR)[:MAX_STEPS]:
        if part:
            yield Step(chr(part[0]), part[1:])


class Clock:
    """Stands in for the module `time` where only `monotonic` is wanted; ends no wait by itself."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Give the time that it is in the script."""
        return self.now_s


class Descriptors:
    """Open files of several kinds, made once, to send along."""

    def __init__(self) -> None:
        ends = socket.socketpair()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        flags = os.O_RDONLY | os.O_CLOEXEC
        paths = ("/proc/self/ns/net", "/dev/null", "/proc/self/ns/mnt", "/", "/proc/self/status")
        self._fds = [
            _new_netns(),
            *(os.open(path, flags) for path in paths),
            *pipe,
            *(sock.detach() for sock in ends),
        ]

    def some(self, number: int) -> list[int]:
        """Give `number` descriptors; one alone is of a kind that the number chooses."""
        if number > MAX_DESCRIPTORS:  # one, of a kind by the number
            return [self._fds[number % len(self._fds)]]
        return [self._fds[index % len(self._fds)] for index in range(number)]


def _new_netns() -> int:
    """Open a network namespace of its own, or where that is not permitted this process'."""
    opened: list[int] = []

    def work() -> None:
        ctypes.CDLL(None).unshare(_CLONE_NEWNET)  # of this thread only
        opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return opened[0]


def open_fds() -> int:
    """Count what is open: more than before is leaked."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- of strings, each time
