"""Programs outside the VM, run by tests in it."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.outside import Outside, Process


@contextmanager
def program(outside: Outside, *words: str) -> Iterator[Process]:
    """Run a command of tests.vm.outside_frames; go on when it is ready."""
    with outside.running(sys.executable, "-m", "tests.vm.outside_frames", *words) as process:
        line = process.line()
        assert line == "ready\n", line + process.finish()
        yield process


def result(process: Process, timeout_s: float = 30) -> dict[str, Any]:
    """Wait for its end and give what it found."""
    text = process.finish(timeout_s)
    try:
        found: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        raise AssertionError(text) from None
    return found


@contextmanager
def watching(outside: Outside, ifname: str) -> Iterator[dict[str, Any]]:
    """Give a dictionary that holds, after the block, what `watch` found of the frames meanwhile."""
    found: dict[str, Any] = {}
    with program(outside, "watch", ifname) as process:
        yield found
        process.signal(signal.SIGINT)
        found |= result(process)
